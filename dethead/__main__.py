"""``python -m dethead``."""

from dethead.cli import main

main()
