"""Starting from the weights of another run, also one of other classes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dethead.detector import Detector

PREDICTION = "head.prediction."
"""The layer whose rows are numbers of the head's output: they move by class name."""
TOWER, BOX_TOWER = "head.tower.", "head.box_tower."
"""Of a head with two towers; a head with one has the first alone."""


class Taken(NamedTuple):
    """What came from the other run."""

    tensors: int
    """Tensors taken whole."""
    classes: tuple[str, ...]
    """Classes whose rows of the prediction layer were taken."""
    fresh: tuple[str, ...]
    """Tensors that keep their own start: not in the other run, or of another shape."""

    def describe(self) -> str:
        """Say it in a line."""
        fresh = f"{len(self.fresh)} tensors start fresh" + (
            f" ({', '.join(self.fresh[:5])}" if self.fresh else ""
        )
        if self.fresh:
            fresh += ", ...)" if len(self.fresh) > 5 else ")"
        classes = ", ".join(self.classes) or "none"
        return f"{self.tensors} tensors taken; class rows taken: {classes}; {fresh}"


def take_weights(
    detector: Detector, state: Mapping[str, Tensor], old_classes: Sequence[str], new_classes: Sequence[str]
) -> Taken:
    """Load what fits of another run's weights into ``detector``, in place.

    The prediction layer is taken row by row: confidence and box rows always, class rows where a class of that
    name was in the other run. Where this head has two towers and the other one, both start as that one did:
    the box rows go on seeing what they were trained on.

    Args:
        detector: of the new run.
        state: state dict of the other run's detector.
        old_classes: its classes, in order.
        new_classes: the new run's.
    """
    own = detector.state_dict()
    fresh, tensors = [], 0
    shared = [name for name in new_classes if name in old_classes]
    for name, value in own.items():
        other = state.get(name, state.get(name.replace(BOX_TOWER, TOWER)))
        if other is not None and name.startswith(PREDICTION):
            other = _by_class(value, other, old_classes, new_classes)
        if other is None or other.shape != value.shape:
            fresh.append(name)
            continue
        own[name] = other
        tensors += 1
    if not tensors:
        raise ValueError("none of the other run's weights fit: not one tensor has the same name and shape")
    detector.load_state_dict(own)
    predicted = not any(name.startswith(PREDICTION) for name in fresh)
    return Taken(tensors, tuple(shared) if predicted else (), tuple(fresh))


def _by_class(
    value: Tensor, other: Tensor, old_classes: Sequence[str], new_classes: Sequence[str]
) -> Tensor | None:
    """Move rows of the prediction layer to their places; None where the anchors per cell differ."""
    new_width, old_width = len(new_classes) + 5, len(old_classes) + 5
    if value.shape[0] % new_width or other.shape[0] % old_width or value.shape[1:] != other.shape[1:]:
        return None
    rows = value.clone().reshape(-1, new_width, *value.shape[1:])
    old_rows = other.reshape(-1, old_width, *other.shape[1:])
    if len(rows) != len(old_rows):
        return None
    with torch.no_grad():
        rows[:, -5:] = old_rows[:, -5:]
        for label, name in enumerate(new_classes):
            if name in old_classes:
                rows[:, label] = old_rows[:, list(old_classes).index(name)]
    return rows.flatten(0, 1)
