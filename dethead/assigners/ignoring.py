"""Ignore regions, the same for every assigner."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dethead.boxes import box_areas, intersections

CHUNK_PAIRS = 2**21
"""(box, anchor) pairs looked at together: bounds a matching's memory at some 130 MB, whatever its size."""


def box_chunks(boxes: Tensor, anchors: int) -> Iterator[tuple[int, Tensor]]:
    """Cut (M, 4) boxes into runs whose pairs with all anchors stay within CHUNK_PAIRS; gives (start, run)."""
    step = max(1, CHUNK_PAIRS // max(anchors, 1))
    for start in range(0, len(boxes), step):
        yield start, boxes[start : start + step]


def inside_ignored(anchors: Tensor, ignore_boxes: Tensor, overlap: float) -> Tensor:
    """(A,) bool: anchors with at least ``overlap`` of their own area inside one of the (G, 4) regions.

    The anchor's area is what is divided by (not the union): a region may be far larger than any anchor in it.
    """
    inside = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    areas = box_areas(anchors)
    for _, regions in box_chunks(ignore_boxes, len(anchors)):
        covered = intersections(regions[:, None], anchors) / areas
        inside |= (covered >= overlap).any(dim=0)
    return inside
