"""``dethead predict`` as a script, the form that torchrun and cluster launchers want."""

import sys

from dethead.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
