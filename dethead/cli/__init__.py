"""The command line: parse, call the library, print."""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from dethead.cli import (  # they add their commands to the app
    ablation,
    analysis,
    anchors,
    configs,
    learning,
    report,
    runs,
    scoring,
)
from dethead.cli.app import app, is_main
from dethead.cli.errors import explain

__all__ = [
    "ablation",
    "analysis",
    "anchors",
    "app",
    "configs",
    "learning",
    "main",
    "report",
    "runs",
    "scoring",
]

# Newer Typers bring their own copy of click: the base of usage errors is found through one of them.
_UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors a user can act on are one message, without a traceback."""
    handler = RichHandler(console=Console(stderr=True), show_time=False, show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    if "" not in sys.path:
        sys.path.append("")  # so that the console script, too, finds own parts in the working folder
    try:
        status = app(args=arguments, standalone_mode=False)
    except _UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped", 130)
    except Exception as error:
        if os.environ.get("DETHEAD_TRACEBACK"):
            traceback.print_exc()
        _fail(*explain(error))
    _leave_processes()
    sys.exit(status or 0)


def _leave_processes() -> None:
    """Leave the process group while Python is whole: later, Gloo's threads may abort the process.

    Only after success: where one process has failed, the others could wait for it here, and ``torchrun`` ends
    them.
    """
    distributed = sys.modules.get("torch.distributed")  # not imported for this: most commands need no torch
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _fail(message: str, status: int) -> None:
    process = "" if is_main() else f" (process {os.environ['RANK']})"  # what it met, the first may not know
    print(f"dethead{process}: {message}", file=sys.stderr)
    sys.exit(status)
