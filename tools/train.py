"""``dethead train`` as a script, the form that torchrun and cluster launchers want."""

import sys

from dethead.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
