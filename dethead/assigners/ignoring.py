"""What all assigners share: boxes in chunks, ignore regions, and the assignment made of the matches."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dethead.boxes import box_areas, intersections, iou
from dethead.structures import BACKGROUND, IGNORE, Anchors, Assignment, GroundTruth

CHUNK_PAIRS = 2**20
"""(box, anchor) pairs looked at together: bounds a matching's memory at some 100 MB, whatever its size."""


def box_chunks(boxes: Tensor, anchors: int, pairs: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """Cut (M, 4) boxes into runs whose ``pairs`` with all anchors are no more; gives (start, run).

    CHUNK_PAIRS unless given; a single box may have more.
    """
    step = max(1, (CHUNK_PAIRS if pairs is None else pairs) // max(anchors, 1))
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


def check_ignore_overlap(overlap: float) -> None:
    """Refuse a share of an anchor's area that is not in (0, 1]."""
    if not 0 < overlap <= 1:
        raise ValueError(f"ignore_overlap must be in (0, 1], got {overlap}")


def settle(
    anchors: Anchors,
    truth: Sequence[GroundTruth],
    boxes: Sequence[Tensor],
    ignore_overlap: float,
    *,
    seen: Tensor | None = None,
    quality: Sequence[Tensor] | None = None,
) -> Assignment:
    """Make the assignment of a batch of positives: the others are BACKGROUND, or IGNORE inside a region.

    Args:
        anchors: A of them.
        truth: of B images.
        boxes: (A,) int64 for each image: the row of the box an anchor answers for, BACKGROUND for none.
        ignore_overlap: share of an anchor's area that one region must hold.
        seen: (B, A, 4) predictions whose IoU with their boxes is wanted; the anchors' by default.
        quality: (A,) for each image.
    """
    seen = anchors.boxes.expand(len(truth), -1, -1) if seen is None else seen
    overlaps = [
        _overlaps(boxes_seen, one.boxes, box) for boxes_seen, one, box in zip(seen, truth, boxes, strict=True)
    ]
    matched = []
    for one, box in zip(truth, boxes, strict=True):
        if not len(one.ignore_boxes):
            matched.append(box)
            continue
        ignored = inside_ignored(anchors.boxes, one.ignore_boxes, ignore_overlap)
        matched.append(box.masked_fill(ignored & (box == BACKGROUND), IGNORE))
    soft = None if quality is None else torch.stack([*quality])
    return Assignment(torch.stack(matched), torch.stack(overlaps), soft)


def _overlaps(seen: Tensor, boxes: Tensor, box: Tensor) -> Tensor:
    """(A,) IoU of (A, 4) ``seen`` with the matched of (M, 4) boxes, 0 where there is none."""
    result = seen.new_zeros(len(box))
    rows = (box >= 0).nonzero()[:, 0]
    result[rows] = iou(seen[rows], boxes[box[rows]]).to(result.dtype)
    return result
