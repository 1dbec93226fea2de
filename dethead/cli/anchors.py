"""``dethead anchors``: how well the anchors of a config fit a data set, and which would fit better."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dethead import config
from dethead.cli.app import AnnotationsOption, ConfigArgument, DataOption, ImagesOption, Overrides, app
from dethead.files import prepare_file, write_json

if TYPE_CHECKING:
    from dethead.anchors import AnchorGrid
    from dethead.data.seen_boxes import SeenBoxes
    from dethead.training.inputs import RunData


@app.command()
def anchors(
    config_file: ConfigArgument,
    data: DataOption,
    overrides: Overrides = None,
    shapes: Annotated[int | None, typer.Option(min=1, help="Shapes per cell; as the config has.")] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Fit all levels at once, not each to its own boxes.")
    ] = False,
    augmented: Annotated[int, typer.Option(min=0, help="Look at so many epochs, augmented.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the fit.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    train_annotations: AnnotationsOption = None,
    train_images: ImagesOption = None,
    val_annotations: AnnotationsOption = None,
    val_images: ImagesOption = None,
) -> None:
    """Measure the anchors of a config on the training boxes, and fit others to them."""
    run = config.load(config_file, overrides or ())
    prepare_file(json_file)
    from dethead import build
    from dethead.data.box_shapes import fitted_grid, sizes_of
    from dethead.evaluation.recall_ceiling import recall_ceiling
    from dethead.training.by_class import resolve
    from dethead.training.inputs import Inputs, open_data

    inputs = Inputs.find(
        data,
        train_annotations=train_annotations,
        train_images=train_images,
        val_annotations=val_annotations,
        val_images=val_images,
    )
    sets = open_data(run, inputs)
    run, names = resolve(run, sets.train.coco), sets.class_names
    grid = build.detector(build.without_weights(run), len(names)).grid
    seen = _look(sets, augmented)
    assigner = build.assigner(run)
    console = Console(width=None if sys.stdout.isatty() else 140)
    numbers: dict[str, Any] = {}

    def measure(name: str, one: "AnchorGrid") -> None:
        found = recall_ceiling(seen, one, sets.train.size, assigner, names)
        console.print(found.as_table(f"anchors {name}, {run.assigner.name}"))
        numbers[name] = {"shapes": one.shapes, **found.as_dict()}

    measure("of the config", grid)
    # Afterwards: with too few boxes to fit to, the anchors of the config are measured all the same.
    count = shapes or grid.anchors_per_cell
    fitted = fitted_grid(sizes_of(seen), grid, count, together=together, seed=seed)
    measure("fitted", fitted)
    if assigner.needs_predictions:
        print(f"{run.assigner.name} looks at predictions: here at those of a head that knows nothing")
    print(f"fitted, in place of the section anchors:\n{_as_yaml(fitted)}")
    if json_file is not None:
        write_json(json_file, numbers)


def _look(sets: "RunData", augmented: int) -> "list[SeenBoxes]":
    from dethead.data.seen_boxes import boxes_as_they_are, boxes_as_trained
    from dethead.training.progress import bar

    if not augmented:
        return [*boxes_as_they_are(sets.train.coco, sets.train.size)]
    with bar("images", augmented * len(sets.train)) as progress:
        return [*boxes_as_trained(sets.train, augmented, progress)]


def _as_yaml(grid: "AnchorGrid") -> str:
    levels = zip(grid.strides, grid.shapes, strict=True)
    lines = [
        f"    - [{', '.join(f'[{width:g}, {height:g}]' for width, height in shapes)}] # stride {stride:g}"
        for stride, shapes in levels
    ]
    return "\n".join(["anchors:", "  shapes: # width, height in px", *lines])
