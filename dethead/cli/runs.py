"""Commands that make and use runs: train, evaluate, predict."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dethead import config
from dethead.cli.app import (
    AnnotationsOption,
    ConfigArgument,
    DataOption,
    DeviceOption,
    ImagesOption,
    InitFromOption,
    Overrides,
    RunArgument,
    TeacherOption,
    ThreadsOption,
    WeightsOption,
    WorkersOption,
    app,
    is_main,
    set_threads,
    share_workers,
)
from dethead.files import prepare_file, write_json


@app.command()
def train(
    config_file: ConfigArgument,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    weights: WeightsOption = None,
    init_from: InitFromOption = None,
    teacher: TeacherOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    tracker: Annotated[list[str] | None, typer.Option(help="tensorboard, wandb, ...")] = None,
    train_annotations: AnnotationsOption = None,
    train_images: ImagesOption = None,
    val_annotations: AnnotationsOption = None,
    val_images: ImagesOption = None,
) -> None:
    """Train one run: a detector by a config, on a COCO-format data set."""
    run = config.load(config_file, overrides or ())
    from dethead.training import Inputs
    from dethead.training import train as train_run

    set_threads(threads)
    inputs = Inputs.find(
        data,
        train_annotations=train_annotations,
        train_images=train_images,
        val_annotations=val_annotations,
        val_images=val_images,
        weights=weights,
        init_from=init_from,
        teacher=teacher,
        device=device,
        workers=_workers(workers),
        trackers=tuple(tracker or ()),
    )
    report = train_run(run, inputs, out, resume=resume)
    if is_main():
        best = report["best"]
        ap = "-" if best["AP"] is None else f"{100 * best['AP']:.1f} %"
        print(f"best: AP {ap} at epoch {best['epoch']}; {out}/metrics.json, curves.png, examples/")


@app.command()
def evaluate(
    run: RunArgument,
    data: DataOption,
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="Which part of the data.")] = "val",
    official: Annotated[bool, typer.Option("--official", help="Let pycocotools compute.")] = False,
    oracles: Annotated[bool, typer.Option("--oracles", help="Also with each branch true.")] = False,
    flip: Annotated[bool, typer.Option("--flip", help="Ask mirror images, too: twice the time.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    detections: Annotated[Path | None, typer.Option(help="Write COCO results here.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="In place of the file found.")] = None,
    images: Annotated[Path | None, typer.Option(help="In place of the folder found.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 8,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Score a trained run: COCO mAP on a split of a data set. Changes are those of postprocess.* alone."""
    from dethead.data import find_split
    from dethead.oracles import oracle_table
    from dethead.training import evaluate_run
    from dethead.training.validation import write_detections

    set_threads(threads)
    prepare_file(json_file)
    prepare_file(detections)
    done = evaluate_run(
        run,
        find_split(data, split, annotations=annotations, images=images),
        device=device,
        batch_size=batch_size,
        workers=_workers(workers),
        official=official,
        keep_detections=detections is not None,
        oracles=oracles,
        flip=flip,
        overrides=overrides or (),
    )
    if not done.is_main:
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(done.metrics.as_table())
    print(f"{len(done.coco)} images, {done.images_per_s:.1f} images/s")
    numbers = done.metrics.as_dict() | ({"flip": True} if flip else {})
    if overrides:
        numbers["overrides"] = overrides
    if oracles:
        console.print(oracle_table(done.metrics, done.oracles))
        numbers["oracles"] = {name: metrics.as_dict() for name, metrics in done.oracles.items()}
    if json_file is not None:
        write_json(json_file, numbers)
    if detections is not None:
        write_detections(detections, done.coco, done.detections)


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(help="Image files and folders.")],
    out: Annotated[Path, typer.Option(help="Folder for pictures and detections.json.")],
    score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Lowest score; without it a class's own threshold, or 0.3."),
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Only these, comma-separated.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Ask mirror images, too: twice the time.")] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Find objects in images: annotated pictures and one COCO results file."""
    from dethead.data import DataError
    from dethead.predict import find_images, for_pictures, load, predict_folder
    from dethead.training.progress import bar

    set_threads(threads)
    chosen = [name.strip() for name in classes.split(",")] if classes is not None else None
    predictor = load(run, device, score=score, classes=chosen, flip=flip)
    if score is None:
        predictor.postprocessor = for_pictures(predictor.postprocessor)
    files = find_images(images)
    with bar("prediction", len(files)) as progress:
        done = predict_folder(predictor, files, out, progress)
    print(f"{out}: {done.objects} objects in {done.images} images; detections.json, images.json")
    if done.broken:
        raise DataError("\n".join([f"{len(done.broken)} files left out:", *map(str, done.broken)]))


def _workers(wanted: int | None) -> int:
    """By default a process per core but one, shared among the processes of this machine."""
    return share_workers(wanted, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
