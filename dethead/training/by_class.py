"""Numbers by class that a config leaves to the training set: recipes, counts, priors become plain lists."""

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from rich.table import Table

from dethead.config import ConfigError, Run
from dethead.config.sections import Recipe
from dethead.data import CocoSet
from dethead.losses.imbalance import ClassCounts, class_shares, weights_by_recipe

BY_CLASS = ("class_weights", "pos_weight", "neg_weight")
"""Keys of class schemes that hold a number for each class."""


def count_classes(coco: CocoSet) -> ClassCounts:
    """Count the boxes to train on of each class, and the boxes around them."""
    trained = coco.trainable & ~coco.crowd & coco.class_known
    image = torch.arange(len(coco)).repeat_interleave(coco.starts.diff())
    per_image = torch.bincount(image[trained], minlength=len(coco))
    labels, images = coco.label_images().unbind(dim=1)
    company = torch.zeros(len(coco.classes.names), dtype=torch.int64)
    company.index_add_(0, labels, per_image[images])
    return ClassCounts(coco.class_counts(), company, int(trained.sum()))


def resolve(run: Run, coco: CocoSet) -> Run:
    """Give the run with every number by class written out; without any, the run as it is.

    Args:
        run: as in its config file.
        coco: the training set.

    Raises:
        ConfigError: a class name that the run does not have.
    """
    counts, names = count_classes(coco), coco.classes.names
    scheme: dict[str, Any] = {}
    for key in BY_CLASS:
        value = getattr(run.class_scheme, key, None)
        if isinstance(value, Recipe):
            scheme[key] = plain(weights_by_recipe(counts, value.recipe, value.beta))
        elif isinstance(value, dict):
            scheme[key] = _by_name(f"class_scheme.{key}", value, names)
    if getattr(run.class_scheme, "class_counts", None) == "data":
        scheme["class_counts"] = counts.boxes.double().tolist()
    update: dict[str, Any] = {}
    if scheme:
        update["class_scheme"] = run.class_scheme.model_copy(update=scheme)
    if run.head.class_prior == "data":
        prior = plain(class_shares(counts)) if len(names) > 1 else None
        update["head"] = run.head.model_copy(update={"class_prior": prior})
    return with_thresholds_in_order(run.model_copy(update=update) if update else run, names)


def with_thresholds_in_order(run: Run, names: Sequence[str]) -> Run:
    """Give the run with ``class_thresholds`` as a list in the order of its C class names.

    Raises:
        ConfigError: a class name that is not among them.
    """
    thresholds = run.postprocess.class_thresholds
    if not isinstance(thresholds, dict):
        return run
    in_order = _by_name("postprocess.class_thresholds", thresholds, names, others=0.0)
    post = run.postprocess.model_copy(update={"class_thresholds": in_order})
    return run.model_copy(update={"postprocess": post})


def table(run: Run, coco: CocoSet) -> Table | None:
    """Show the numbers by class of a resolved run beside the counts; None if there are none to show."""
    values = {key: getattr(run.class_scheme, key, None) for key in BY_CLASS}
    values["class_prior"] = run.head.class_prior
    columns = {key: value for key, value in values.items() if isinstance(value, list)}
    if not columns:
        return None
    shown = Table(title="numbers by class")
    for name in ("class", "boxes", *columns):
        shown.add_column(name, justify="left" if name == "class" else "right")
    boxes = count_classes(coco).boxes.tolist()
    for row, name in enumerate(coco.classes.names):
        shown.add_row(name, str(boxes[row]), *(f"{values[row]:.4g}" for values in columns.values()))
    return shown


def plain(values: torch.Tensor) -> list[float]:
    """Seven digits of each: a share of one in a million is not rounded away, and shares still sum to 1."""
    return [float(f"{float(value):.7g}") for value in values]


def _by_name(key: str, values: dict[str, float], names: Sequence[str], *, others: float = 1.0) -> list[float]:
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"classes: {', '.join(names)}"
            raise ConfigError(f"{key}: unknown class {name!r}; {hint}")
    return [values.get(name, others) for name in names]
