"""The application that every command joins, and the options that commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Train, score and use classification heads of object detectors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigArgument = Annotated[str, typer.Argument(help="YAML file, or the name of a shipped config.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value]...", help="Changes.")]
RunArgument = Annotated[Path, typer.Argument(help="Run folder, or its best.pt.")]
DataOption = Annotated[Path, typer.Option("--data", help="Data folder: annotations/ and images.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
WorkersOption = Annotated[int | None, typer.Option(min=0, help="Processes that read images.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads of PyTorch.")]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="File of backbone weights.")]
InitFromOption = Annotated[Path | None, typer.Option(help="Run whose weights are the start.")]
TeacherOption = Annotated[Path | None, typer.Option(help="Run to follow, for loss.distillation.")]
AnnotationsOption = Annotated[Path | None, typer.Option(help="In place of the one found.")]
ImagesOption = Annotated[Path | None, typer.Option(help="In place of the folder found.")]
TracebackOption = Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")]


@app.callback()
def options(show_traceback: TracebackOption = False) -> None:
    """Options of all commands."""
    if show_traceback:
        os.environ["DETHEAD_TRACEBACK"] = "1"


def is_main() -> bool:
    """Whether this is the first of the processes that ``torchrun`` or ``accelerate launch`` started."""
    return os.environ.get("RANK", "0") == "0"


def set_threads(threads: int | None) -> None:
    """Limit the CPU threads of PyTorch, if a number is given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def share_workers(wanted: int | None, processes: int) -> int:
    """Give how many processes read images: as wanted, else this training's share of the cores but one."""
    if wanted is not None:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(0, cores // processes - 1))
