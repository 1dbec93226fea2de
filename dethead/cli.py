"""The command line: parse, call the library, print."""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from dethead import config

# Newer Typers bring their own copy of click: the base of usage errors is found through one of them.
_UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

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
TracebackOption = Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")]


@app.callback()
def options(show_traceback: TracebackOption = False) -> None:
    """Options of all commands."""
    if show_traceback:
        os.environ["DETHEAD_TRACEBACK"] = "1"


@app.command()
def scenes(
    folder: Annotated[Path, typer.Argument(help="Where to draw them.")],
    images: Annotated[int, typer.Option(min=2, help="Number of images, train and val together.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same scenes.")] = 0,
) -> None:
    """Draw the built-in data set: street scenes with cars, pedestrians and trucks, in COCO format."""
    from dethead.data.scenes import draw_scenes
    from dethead.training.progress import bar

    with bar("scenes", images) as progress:
        counts = draw_scenes(folder, images, seed=seed, progress=lambda _: progress(1))
    objects = ", ".join(f"{name} {count}" for name, count in counts.objects.items())
    print(f"{folder}: {counts.train_images} train, {counts.val_images} val images; {objects}")


@app.command()
def train(
    config_file: ConfigArgument,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    weights: Annotated[Path | None, typer.Option(help="File of backbone weights.")] = None,
    init_from: Annotated[Path | None, typer.Option(help="Run whose weights are the start.")] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    tracker: Annotated[list[str] | None, typer.Option(help="tensorboard, wandb, ...")] = None,
    train_annotations: Annotated[Path | None, typer.Option(help="In place of the one found.")] = None,
    train_images: Annotated[Path | None, typer.Option(help="In place of the folder found.")] = None,
    val_annotations: Annotated[Path | None, typer.Option(help="In place of the one found.")] = None,
    val_images: Annotated[Path | None, typer.Option(help="In place of the folder found.")] = None,
) -> None:
    """Train one run: a detector by a config, on a COCO-format data set."""
    run = config.load(config_file, overrides or ())
    from dethead.training import Inputs
    from dethead.training import train as train_run

    _set_threads(threads)
    inputs = Inputs.find(
        data,
        train_annotations=train_annotations,
        train_images=train_images,
        val_annotations=val_annotations,
        val_images=val_images,
        weights=weights,
        init_from=init_from,
        device=device,
        workers=_workers(workers),
        trackers=tuple(tracker or ()),
    )
    report = train_run(run, inputs, out, resume=resume)
    if _is_main():
        best = report["best"]
        ap = "-" if best["AP"] is None else f"{100 * best['AP']:.1f} %"
        print(f"best: AP {ap} at epoch {best['epoch']}; {out}/metrics.json, curves.png, examples/")


@app.command()
def evaluate(
    run: RunArgument,
    data: DataOption,
    split: Annotated[str, typer.Option(help="Which part of the data.")] = "val",
    official: Annotated[bool, typer.Option("--official", help="Let pycocotools compute.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    detections: Annotated[Path | None, typer.Option(help="Write COCO results here.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="In place of the file found.")] = None,
    images: Annotated[Path | None, typer.Option(help="In place of the folder found.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 8,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Score a trained run: COCO mAP on a split of a data set."""
    from dethead.data import find_split
    from dethead.evaluation import write_results
    from dethead.training import evaluate_run
    from dethead.training.run_folder import write_atomically

    _set_threads(threads)
    for file in (json_file, detections):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    done = evaluate_run(
        run,
        find_split(data, split, annotations=annotations, images=images),
        device=device,
        batch_size=batch_size,
        workers=_workers(workers),
        official=official,
        keep_detections=detections is not None,
    )
    if not done.is_main:
        return
    Console(width=None if sys.stdout.isatty() else 140).print(done.metrics.as_table())
    if json_file is not None:
        write_atomically(json_file, json.dumps(done.metrics.as_dict(), indent=2))
    if detections is not None:
        found = [done.detections[place] for place in range(len(done.coco))]
        ids = done.coco.classes.category_ids
        write_results(detections, done.coco.image_ids.tolist(), found, ids)


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(help="Image files and folders.")],
    out: Annotated[Path, typer.Option(help="Folder for pictures and detections.json.")],
    score: Annotated[float, typer.Option(min=0, max=1, help="Lowest score.")] = 0.3,
    classes: Annotated[str | None, typer.Option(help="Only these, comma-separated.")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Find objects in images: annotated pictures and one COCO results file."""
    from dethead.data import DataError
    from dethead.predict import find_images, load, predict_folder
    from dethead.training.progress import bar

    _set_threads(threads)
    chosen = [name.strip() for name in classes.split(",")] if classes else None
    predictor = load(run, device, score=score, classes=chosen)
    files = find_images(images)
    with bar("prediction", len(files)) as progress:
        done = predict_folder(predictor, files, out, progress)
    print(f"{out}: {done.objects} objects in {done.images} images; detections.json, images.json")
    if done.broken:
        raise DataError("\n".join([f"{len(done.broken)} files left out:", *map(str, done.broken)]))


@app.command("config")
def show_config(
    config_file: Annotated[str | None, typer.Argument(help="YAML file or name of a shipped config.")] = None,
    overrides: Overrides = None,
    list_shipped: Annotated[bool, typer.Option("--list", help="Name the shipped configs.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="JSON schema, for editors.")] = False,
) -> None:
    """Show a config with every default spelled out, the shipped configs, or the JSON schema."""
    if schema:
        print(json.dumps(config.Run.model_json_schema(), indent=2))
    elif list_shipped:
        for name, path in config.shipped().items():
            print(f"{name:32} {path}")
    elif config_file is None:
        raise config.ConfigError("name a config, or ask for --list or --schema")
    else:
        print(config.dump(config.load(config_file, overrides or ())), end="")


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
        _fail(*_explain(error))
    sys.exit(status or 0)


def _explain(error: Exception) -> tuple[str, int]:
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


def _fail(message: str, status: int) -> None:
    process = "" if _is_main() else f" (process {os.environ['RANK']})"  # what it met, the first may not know
    print(f"dethead{process}: {message}", file=sys.stderr)
    sys.exit(status)


def _is_main() -> bool:
    """Whether this is the first of the processes that ``torchrun`` or ``accelerate launch`` started."""
    return os.environ.get("RANK", "0") == "0"


def _workers(wanted: int | None) -> int:
    """By default a process per core but one, shared among the processes of this machine."""
    if wanted is not None:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(0, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
