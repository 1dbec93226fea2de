"""Many boxes on one object become one detection: by suppression, by decay, by a vote on its place."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from dethead.boxes import by_coordinate, iou

_MANY_BOXES = 2000
"""From here on, one suppression per class is faster than one of all classes moved apart."""

_PAIRS = 2**16
"""Pairs of a survivor and a voter looked at together: they fit a cache."""

_VOTES_FROM = 0.001
"""Score from which a pair votes, so that a picture of scores from 0.3 on shows the boxes and scores that the
evaluation has of all."""

_NEAR = 0.5
"""IoU from which a candidate is asked how well it agrees with a box: below, it may mean another object."""


class Candidates(NamedTuple):
    """K pairs of an anchor and a class in one image, best first; of equal scores the first comes first."""

    boxes: Tensor
    """(K, 4) original pixels, cut off at the border; each has an area."""
    scores: Tensor
    """(K,) in [0, 1]"""
    labels: Tensor
    """(K,) int64; classes have nothing to do with each other."""
    lowest: Tensor
    """(K,) what the score of a survivor must not be below."""
    size: tuple[int, int]
    """(height, width) of the image."""

    def precise_boxes(self) -> Tensor:
        """(K, 4) in float64, where the device has it.

        Classes are told apart by moving their boxes far from each other; in float32 a box of the last class
        would be rounded more than one of the first, and survive or not by the number of its class.
        """
        return self.boxes if self.boxes.device.type == "mps" else self.boxes.double()

    def apart(self) -> Tensor:
        """(K, 4) boxes, those of different classes so far apart that they cannot meet."""
        boxes = self.precise_boxes()
        return boxes + self.labels.to(boxes.dtype).unsqueeze(1) * (max(self.size) + 1)


class Survivors(NamedTuple):
    """N <= K candidates that are detections, best first."""

    rows: Tensor
    """(N,) int64 among the candidates."""
    boxes: Tensor
    """(N, 4) as they were, or moved."""
    scores: Tensor
    """(N,) as they were, or judged anew; in [0, 1]."""


class Suppression(Protocol):
    """Leaves one detection where several boxes of a class lie on one object."""

    @property
    def lazy(self) -> bool:
        """True where the first survivors of the best few candidates are those of all."""
        ...

    @property
    def votes_from(self) -> float:
        """Score from which a pair is a candidate also where it can be no survivor; 1: only those that can."""
        ...

    def __call__(self, found: Candidates, nms_iou: float, wanted: int) -> Survivors:
        """Give the survivors of K >= 0 candidates.

        Args:
            found: of one image.
            nms_iou: in [0, 1]: two detections of a class may overlap so much.
            wanted: no more are needed; the first so many must be right.
        """
        ...


@dataclass(frozen=True, slots=True)
class NMS:
    """Non-maximum suppression: a box is dropped if a better one of its class overlaps it by more."""

    lazy: ClassVar[bool] = True
    votes_from: ClassVar[float] = 1.0

    def __call__(self, found: Candidates, nms_iou: float, wanted: int) -> Survivors:
        """See ``Suppression``."""
        # In place of scores, so that equal ones cannot be put in another order by a sort that is not stable.
        boxes = found.precise_boxes()
        best_first = torch.arange(len(boxes), 0, -1, device=boxes.device).to(boxes.dtype)
        if len(boxes) > _MANY_BOXES:
            kept = batched_nms(boxes, best_first, found.labels, nms_iou)
        else:
            kept = nms(found.apart(), best_first, nms_iou)
        rows = kept.sort().values
        return Survivors(rows, found.boxes[rows], found.scores[rows])


@dataclass(frozen=True, slots=True)
class SoftNMS:
    """Soft-NMS: a box is not dropped, its score falls by exp(-IoU^2 / sigma) for each better one.

    The best remaining box is taken, those of its class decay, and so on; of equal scores the one that was
    first among the candidates is taken. A score that falls below the threshold is dropped. ``nms_iou`` has no
    part in it. All ``pre_nms_top_k`` pairs are looked at, one step for each detection: slower than NMS.

    Args:
        sigma: above 0; the larger, the softer (the paper has 0.5).

    Source: Bodla et al. 2017, https://arxiv.org/abs/1704.04503, figure 2 and equation 3.
    """

    sigma: float = 0.5
    lazy: ClassVar[bool] = False
    votes_from: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be above 0 and finite, got {self.sigma}")

    def __call__(self, found: Candidates, nms_iou: float, wanted: int) -> Survivors:
        """See ``Suppression``."""
        boxes = found.apart()
        left = found.scores.to(boxes.dtype)
        lowest = found.lowest.to(boxes.dtype)
        rows, scores = [found.labels[:0]], [left[:0]]
        for _ in range(min(wanted, len(boxes))):
            best = left.argmax(dim=0, keepdim=True)  # of equals the first, on every device
            rows.append(best)
            scores.append(left[best])
            left = left * (iou(boxes[best], boxes).square() / -self.sigma).exp()
            left = left.where(left >= lowest, -1.0)
            left[best] = -1.0
        taken, decayed = torch.cat(rows), torch.cat(scores)
        taken, decayed = taken[decayed >= 0], decayed[decayed >= 0]
        return Survivors(taken, found.boxes[taken], decayed.to(found.scores.dtype))


@dataclass(frozen=True, slots=True)
class BoxVoting:
    """NMS, then each survivor moves to the mean of the candidates of its class that lie on it.

    Those are all that overlap it by ``overlap`` or more, itself and the suppressed ones among them, weighted
    by their scores. Unlike NMS it looks at all ``pre_nms_top_k`` pairs, also those below ``score_threshold``.

    With ``agreement`` the candidates have a say in the score, too: it becomes the geometric mean of what it
    was and of m V / (V + ``agreement``), with V the sum of the scores of those that overlap the moved box by
    ``overlap`` or more, and m the mean IoU with it, weighted by score, of those that overlap it by 0.5 or
    more. Many anchors that all mean the same box are right about it more often than one that stands alone.

    Args:
        overlap: IoU from which a candidate votes, in (0, 1] (the paper has 0.5).
        iou_weighted: weigh by score * IoU with the survivor instead: what is nearer counts more.
        agreement: the V that is half of what it could be, in scores, finite; 0: scores stay as they are.

    Source: Gidaris & Komodakis 2015, https://arxiv.org/abs/1505.01749, "bounding box voting"; weights with
    IoU: Zheng et al. 2020, https://arxiv.org/abs/2005.03572, "weighted Cluster-NMS"; that many boxes make a
    better score than one: Solovyev et al. 2021, https://arxiv.org/abs/1910.13302, section 3, of several
    detectors.
    """

    overlap: float = 0.5
    iou_weighted: bool = False
    agreement: float = 0.0
    lazy: ClassVar[bool] = False
    votes_from: ClassVar[float] = _VOTES_FROM

    def __post_init__(self) -> None:
        if not 0 < self.overlap <= 1:
            raise ValueError(f"overlap must be in (0, 1], got {self.overlap}")
        if not 0 <= self.agreement < math.inf:
            raise ValueError(f"agreement must be at least 0 and finite, got {self.agreement}")

    def __call__(self, found: Candidates, nms_iou: float, wanted: int) -> Survivors:
        """See ``Suppression``."""
        rows = NMS()(found, nms_iou, wanted).rows
        if not self.agreement:  # otherwise what is best, and good enough, is known at the end only
            rows = rows[found.scores[rows] >= found.lowest[rows]][:wanted]
        boxes, apart = found.precise_boxes(), found.apart()
        voters, scores = by_coordinate(apart), found.scores.to(boxes.dtype)
        moved, judged = [boxes[:0]], [scores[:0]]
        for some in torch.split(rows, max(1, _PAIRS // max(len(boxes), 1))):
            overlaps = iou(voters[some, None], voters)
            votes = scores * (overlaps >= self.overlap)
            if self.iou_weighted:
                votes *= overlaps
            total = votes.sum(dim=1, keepdim=True)
            # Votes of nothing but scores of 0 move no box.
            moved.append(torch.where(total > 0, votes @ boxes / total, boxes[some]))
            if self.agreement:
                there = by_coordinate(moved[-1] + (apart[some] - boxes[some]))
                share = self._agreement(iou(there[:, None], voters), scores)
                judged.append((scores[some] * share).sqrt())
        survivors = Survivors(rows, torch.cat(moved).to(found.boxes.dtype), found.scores[rows])
        return _in_order(survivors, torch.cat(judged), found, wanted) if self.agreement else survivors

    def _agreement(self, overlaps: Tensor, scores: Tensor) -> Tensor:
        """(S,) how far K candidates agree with S boxes, in [0, 1], of their (S, K) IoU and (K,) scores."""
        near = scores * (overlaps >= _NEAR)
        # Of scores of 0 nobody knows a mean; the score stays 0.
        mean = (near * overlaps).sum(dim=1) / near.sum(dim=1).clamp(min=torch.finfo(near.dtype).tiny)
        votes = (scores * (overlaps >= self.overlap)).sum(dim=1)
        return mean * votes / (votes + self.agreement)


def _in_order(kept: Survivors, scores: Tensor, found: Candidates, wanted: int) -> Survivors:
    """Give the survivors with other (N,) scores: the best, those in front that are high enough."""
    scores = scores.to(found.scores.dtype)
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= found.lowest[kept.rows[order]]][:wanted]
    return Survivors(kept.rows[order], kept.boxes[order], scores[order])
