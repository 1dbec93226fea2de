"""Predictions are checked before anything is assigned by them."""

from collections.abc import Sequence

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
    _check_range("boxes", boxes, -torch.finfo(boxes.dtype).max, torch.finfo(boxes.dtype).max, "finite")
    _check_range("class_probabilities", classes, 0.0, 1.0, "in [0, 1]")
    _check_range("confidence", confidence, 0.0, 1.0, "in [0, 1]")
    return Predictions(boxes, classes, confidence)


def _check_shapes(boxes: Tensor, classes: Tensor, confidence: Tensor, wanted: tuple[int, int]) -> None:
    shapes = tuple(boxes.shape), tuple(classes.shape), tuple(confidence.shape)
    if (shapes[0], shapes[1][:-1], shapes[2]) != ((*wanted, 4), wanted, wanted):
        raise ValueError(
            f"{wanted[0]} truths and {wanted[1]} anchors need predictions with boxes (B, A, 4), "
            f"class_probabilities (B, A, C) and confidence (B, A), got {shapes}"
        )


def _check_range(name: str, values: Tensor, low: float, high: float, allowed: str) -> None:
    """Look at the extremes alone: they pass a nan on, and nothing of the size of ``values`` is made."""
    if not values.numel() or _within(values, low, high):
        return
    image = next(row for row, one in enumerate(values) if not _within(one, low, high))
    lowest, highest = (float(extreme) for extreme in values[image].aminmax())
    raise ValueError(
        f"predicted {name} of image row {image} must be {allowed}, they reach from {lowest} to {highest}"
    )


def _within(values: Tensor, low: float, high: float) -> bool:
    lowest, highest = values.aminmax()
    return bool((lowest >= low) & (highest <= high))
