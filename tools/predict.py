"""``dethead predict`` as a script, one process, one machine."""

import sys

from dethead.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
