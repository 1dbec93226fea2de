"""The annotation file that commands score against, and which of its classes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dethead.data.coco import CocoSet
    from dethead.evaluation.arrays import EvaluationInput

AnnotationsArgument = Annotated[Path, typer.Argument(help="COCO annotation file.")]
ClassesOption = Annotated[str | None, typer.Option(help="Only these, comma-separated.")]
ParentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--parent",
        metavar="NAME=CLASS,CLASS",
        help="A class above others, with rows of its own: its id is the file's largest + 1.",
    ),
]


def read_truth(annotations: Path, classes: str | None, parents: list[str] | None = None) -> "CocoSet":
    """Read the truth. A box without an area is an object that nothing finds, as it is to pycocotools.

    Args:
        annotations: COCO file.
        classes: names with commas between; None for all.
        parents: ``vehicle=car,truck``; later ones may be above earlier ones.

    Raises:
        DataError: a file or a name that cannot be.
        BadParameter: a parent of another form.
    """
    from dethead.data.coco import CocoSet, DataError

    coco_set = CocoSet.read(
        annotations,
        None if classes is None else _names(classes),
        hierarchy=_hierarchy(parents or []),
        invalid_boxes="drop",  # from the training, which is not what happens here
    )
    if lost := coco_set.dropped["not finite"]:
        raise DataError(f"{annotations}: {lost} boxes with a coordinate that is not finite; correct them")
    return coco_set


def read_given(detections: Path, coco_set: "CocoSet", parents: list[str] | None) -> "EvaluationInput":
    """Read a results file beside its truth; says so if a parent class has no detections of its own.

    Raises:
        ResultsError: as ``read_evaluation``.
    """
    from dethead.evaluation.results import read_evaluation

    given, classes = read_evaluation(detections, coco_set), coco_set.classes
    for name in _hierarchy(parents or []) or ():
        label = classes.names.index(name)
        if not (given.detections.label == label).any():
            print(
                f"{detections}: no detection has category id {classes.category_ids[label]} ({name}): "
                "its AP is 0, since detections of the classes below do not count for it",
                file=sys.stderr,
            )
    return given


def _hierarchy(parents: list[str]) -> dict[str, list[str]] | None:
    found = {}
    for text in parents:
        name, equals, children = text.partition("=")
        if not name or not equals or not children:
            raise typer.BadParameter(f"{text!r} must look like vehicle=car,truck", param_hint="--parent")
        found[name.strip()] = _names(children)
    return found or None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
