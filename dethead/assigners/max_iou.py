"""Assignment by overlap: the rule of RetinaNet, RPN and SSD."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dethead.assigners.ignoring import box_chunks, check_ignore_overlap, inside_ignored
from dethead.boxes import iou
from dethead.structures import BACKGROUND, IGNORE, Anchors, Assignment, GroundTruth, Predictions


@dataclass(frozen=True, slots=True)
class MaxIoUAssigner:
    """Positive from ``positive_iou`` on, BACKGROUND below ``negative_iou``, IGNORE in between.

    Args:
        positive_iou: an anchor answers for its best box from this IoU on.
        negative_iou: below this IoU with every box it is background.
        low_quality: a box whose best anchor stays below ``positive_iou`` gets its best anchors all the same
            (all that tie), so that no object goes untrained. Such an anchor answers for *its own* best box,
            as in torchvision and Detectron2. A box that no anchor touches gets none, nor does one whose best
            anchors all overlap another box more: denser anchors help.
        ignore_overlap: an anchor that is not positive and has this share of its area in one ignore region is
            IGNORE. Positives stay: an object inside a crowd region is still an object.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 4.
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.4
    low_quality: bool = True
    ignore_overlap: float = 0.5
    needs_predictions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                "0 <= negative_iou <= positive_iou <= 1 must hold, got "
                f"negative_iou {self.negative_iou}, positive_iou {self.positive_iou}"
            )
        check_ignore_overlap(self.ignore_overlap)

    @torch.no_grad()
    def __call__(
        self, anchors: Anchors, truth: Sequence[GroundTruth], predictions: Predictions | None = None
    ) -> Assignment:
        """Assign a batch. Memory is bounded: boxes are compared in chunks, never all with all anchors."""
        rows = [self._assign(anchors.boxes, one) for one in truth]
        return Assignment(torch.stack([m for m, _ in rows]), torch.stack([o for _, o in rows]))

    def _assign(self, anchors: Tensor, truth: GroundTruth) -> tuple[Tensor, Tensor]:
        """(A,) matches and (A,) overlaps of one image."""
        best, best_box, best_of_a_box = _best_overlaps(anchors, truth.boxes)
        positive = (best >= self.positive_iou) & (best_box >= 0)
        if self.low_quality:
            positive |= best_of_a_box
        matched = torch.full_like(best_box, BACKGROUND)
        matched[best >= self.negative_iou] = IGNORE
        matched[inside_ignored(anchors, truth.ignore_boxes, self.ignore_overlap)] = IGNORE
        matched = torch.where(positive, best_box, matched)
        return matched, best.where(positive, 0.0)


def _best_overlaps(anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(A,) each: the best IoU, the box it is with (-1: none), whether the anchor is the best of some box."""
    best = anchors.new_full((len(anchors),), -1.0)
    best_box = torch.full((len(anchors),), -1, device=anchors.device)
    best_of_a_box = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    for start, some in box_chunks(boxes, len(anchors)):
        overlaps = iou(some[:, None], anchors)
        values, rows = overlaps.max(dim=0)
        better = values > best  # strictly: of equal boxes the first one keeps the anchor
        best = torch.where(better, values, best)
        best_box = torch.where(better, rows + start, best_box)
        highest = overlaps.amax(dim=1, keepdim=True)
        best_of_a_box |= ((overlaps == highest) & (highest > 0)).any(dim=0)
    return best.clamp(min=0), best_box, best_of_a_box
