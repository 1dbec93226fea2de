"""Errors a person can act on: one message and an exit status."""

import re

from dethead import config


def explain(error: Exception) -> tuple[str, int]:
    """Message and exit status of an error; what nobody foresaw is raised again."""
    if isinstance(error, config.ConfigError):  # before PyTorch is loaded: a bad config is refused at once
        return str(error), 2
    import torch

    from dethead.training import Interrupted

    if isinstance(error, Interrupted):
        return f"{error}; the same command with --resume goes on", 130
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"{str(error).splitlines()[0]}\nraise training.accumulate: the gradient stays the same, in "
            "smaller pieces; what was saved last can be resumed",
            1,
        )
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return _without_traceback(str(error)), 2
    raise error


def _without_traceback(text: str) -> str:
    """Undo what a loader's worker process wraps around the message of its error."""
    if "Original Traceback (most recent call last):" not in text:
        return text
    message = re.split(r"^[\w.]+(?:Error|Exception): ", text, flags=re.MULTILINE)[-1]
    return message.strip()
