"""Small evaluations made by hand, for the tests of this folder."""

from collections.abc import Sequence

import torch

from dethead.data.coco import CocoTruth
from dethead.structures import Detections

Box = Sequence[float]


def objects(
    image_id: int,
    boxes: Sequence[Box] = (),
    labels: Sequence[int] | None = None,
    *,
    crowd: Sequence[bool] | None = None,
    areas: Sequence[float] | None = None,
) -> CocoTruth:
    """Truth of one image; boxes xywh, class 0 and the boxes' own areas unless said otherwise."""
    count = len(boxes)
    return CocoTruth(
        image_id=image_id,
        boxes=torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        labels=torch.tensor(labels or [0] * count, dtype=torch.int64),
        crowd=torch.tensor(crowd or [False] * count, dtype=torch.bool),
        areas=torch.tensor(areas or [w * h for _, _, w, h in boxes], dtype=torch.float64),
    )


def found(
    boxes: Sequence[Box] = (), scores: Sequence[float] | None = None, labels: Sequence[int] | None = None
) -> Detections:
    """Detections of one image; boxes xyxy float32, class 0 and score 1 unless said otherwise."""
    count = len(boxes)
    ones = torch.ones(count)
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores if scores is not None else [1.0] * count),
        labels=torch.tensor(labels or [0] * count, dtype=torch.int64),
        class_probabilities=ones,
        confidence=ones,
    )
