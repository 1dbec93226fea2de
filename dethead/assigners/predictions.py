"""Predictions are checked before anything is assigned by them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dethead.boxes import at_least_float32
from dethead.structures import Anchors, GroundTruth, Predictions


def checked(predictions: Predictions | None, truth: Sequence[GroundTruth], anchors: Anchors) -> Predictions:
    """Give the predictions in float32 at least, detached.

    Raises:
        ValueError: none were given, their shapes are not (B, A, 4), (B, A, C) and (B, A) with the C of the
            truth, a box is not finite or a probability not in [0, 1]; names the row of the image. A nan would
            lose every comparison, and so assign anchors in silence.
    """
    if predictions is None:
        raise ValueError("this assigner matches by what the network predicts: give it predictions, not None")
    boxes, classes, confidence = (at_least_float32(part.detach()) for part in predictions)
    _check_shapes(boxes, classes, confidence, (len(truth), len(anchors.boxes)))
    for image, one in enumerate(truth):
        if one.targets.shape[1] != classes.shape[2]:
            raise ValueError(
                f"truth {image} has targets of {one.targets.shape[1]} classes, the predictions have "
                f"{classes.shape[2]}"
            )
    largest = torch.finfo(boxes.dtype).max
    _check_ranges(
        _Range("boxes", boxes, -largest, largest, "finite"),
        _Range("class_probabilities", classes, 0.0, 1.0, "in [0, 1]"),
        _Range("confidence", confidence, 0.0, 1.0, "in [0, 1]"),
    )
    return Predictions(boxes, classes, confidence)


def _check_shapes(boxes: Tensor, classes: Tensor, confidence: Tensor, wanted: tuple[int, int]) -> None:
    shapes = tuple(boxes.shape), tuple(classes.shape), tuple(confidence.shape)
    if (shapes[0], shapes[1][:-1], shapes[2]) != ((*wanted, 4), wanted, wanted):
        raise ValueError(
            f"{wanted[0]} truths and {wanted[1]} anchors need predictions with boxes (B, A, 4), "
            f"class_probabilities (B, A, C) and confidence (B, A), got {shapes}"
        )


class _Range(NamedTuple):
    """What may be predicted."""

    name: str
    values: Tensor
    """(B, ...)"""
    low: float
    high: float
    allowed: str

    def holds(self, extremes: Sequence[float]) -> bool:
        """Whether the lowest and the highest value, or one that is no number, are allowed."""
        lowest, highest = extremes
        return self.low <= lowest and highest <= self.high


def _check_ranges(*ranges: _Range) -> None:
    """Look at the extremes alone: they pass a nan on, and nothing of the size of the values is made."""
    filled = [one for one in ranges if one.values.numel()]
    if not filled:
        return
    # All in one tensor, so that a GPU is waited for once.
    extremes = torch.stack([torch.stack(one.values.aminmax()) for one in filled])
    for one, reached in zip(filled, extremes.tolist(), strict=True):
        if not one.holds(reached):
            _refuse(one)


def _refuse(wrong: _Range) -> None:
    """Name the first image that has something else."""
    for image, values in enumerate(wrong.values):
        lowest, highest = (float(extreme) for extreme in values.aminmax())
        if not wrong.holds((lowest, highest)):
            raise ValueError(
                f"predicted {wrong.name} of image row {image} must be {wrong.allowed}, they reach from "
                f"{lowest} to {highest}"
            )
