"""Which branch to work on: the AP with the class, the confidence or the boxes replaced by the truth.

A branch is replaced in the head output, before scores, top-k and suppression; all that follows is as ever.
What AP gains is what that branch costs, the others being as they are. The gains need not add up: a right
class on a misplaced box is still a miss.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from dethead.assigners import Assigner
from dethead.assigners.ignoring import box_chunks
from dethead.boxes import iou
from dethead.postprocess import Postprocessor
from dethead.structures import Anchors, Detections, GroundTruth, HeadOutput, Predictions, Resize

if TYPE_CHECKING:
    from rich.table import Table

    from dethead.evaluation import CocoMetrics

ORACLES: Final = ("class", "confidence", "box", "all")
"""What is replaced by the truth."""
_SHOWN: Final = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class _Nearest(NamedTuple):
    """For each of the A decoded boxes of an image, the object that it overlaps most."""

    overlap: Tensor
    """(A,) IoU in [0, 1]; 0: no object touches it."""
    object: Tensor
    """(A,) int64 row of that object; of equals the first; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class BranchOracles:
    """Gives the detections of a batch under each of the ``ORACLES``.

    With ``u`` the largest IoU of an anchor's decoded box, cut off at the image's border, with an object of
    any class:

    class
        An anchor with ``u >= overlap`` gives the class of that object probability 1, the others 0. Elsewhere
        class probabilities stay: on background no class is the true one. They stay, too, on an object whose
        class is not known.
    confidence
        Every anchor says ``u``: the ideal ranking, which COCO rewards at all its thresholds.
    box
        An anchor that answers for an object gets its box. It does if ``u >= overlap``, and else if the
        assigner makes it a positive: that is what the branch was trained to give. The assigner's positives
        alone would leave near duplicates beside the right boxes; ``u`` alone would say of a detector whose
        boxes are all wrong that it has nothing to gain from better ones.
    all
        Boxes, then classes, then confidence, of the boxes as they are by then. What AP lacks to 1 here no
        branch can give: objects without an anchor, and what top-k and suppression take away.

    Args:
        postprocessor: of the run.
        assigner: of the run; with None, the boxes of anchors with ``u >= overlap`` alone are replaced.
        overlap: IoU from which a decoded box lies on an object, in (0, 1]; 0.5 is COCO's lowest threshold.
    """

    postprocessor: Postprocessor
    assigner: Assigner | None = None
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.overlap <= 1:
            raise ValueError(f"overlap must be in (0, 1], got {self.overlap}")

    @torch.no_grad()
    def __call__(
        self,
        output: HeadOutput,
        anchors: Anchors,
        truth: Sequence[GroundTruth],
        resizes: Sequence[Resize],
    ) -> dict[str, list[Detections]]:
        """Give B detections in original pixels for each oracle by name.

        Args:
            output: of B images.
            anchors: of the same input size.
            truth: of the same images, in pixels of the network input, on the device of the output.
            resizes: of the same images.

        Raises:
            ValueError: numbers of images that differ.
        """
        images = len(output.raw)
        if not len(truth) == len(resizes) == images:
            raise ValueError(f"{images} images have {len(truth)} truths and {len(resizes)} resizes")
        said = self.postprocessor.predictions(output, anchors)
        matched = self._matched(anchors, truth, said)
        said = said._replace(boxes=_inside(said.boxes, resizes))
        return {
            name: self.postprocessor.select(self._replaced(name, said, truth, matched), resizes)
            for name in ORACLES
        }

    def _matched(self, anchors: Anchors, truth: Sequence[GroundTruth], said: Predictions) -> Tensor:
        """(B, A) the object that the assigner gives each anchor, below 0: none."""
        if self.assigner is None:
            return said.confidence.new_full(said.confidence.shape, -1, dtype=torch.int64)
        return self.assigner(anchors, truth, said if self.assigner.needs_predictions else None).matched

    def _replaced(
        self, name: str, said: Predictions, truth: Sequence[GroundTruth], matched: Tensor
    ) -> Predictions:
        """Give predictions in which what ``name`` says is true."""
        images = [Predictions(*one) for one in zip(*said, strict=True)]
        for place, (one, objects) in enumerate(zip(images, truth, strict=True)):
            if name in ("box", "all"):
                one = true_boxes(one, objects, matched[place], self.overlap)
            if name in ("class", "all"):
                one = true_classes(one, objects, self.overlap)
            if name in ("confidence", "all"):
                one = true_confidence(one, objects)
            images[place] = one
        return Predictions(*(torch.stack(column) for column in zip(*images, strict=True)))


def oracle_table(now: "CocoMetrics", oracles: Mapping[str, "CocoMetrics"]) -> "Table":
    """Give AP as it is, and with each branch true, in percent, as a table for the terminal.

    Args:
        now: of the detector as it is.
        oracles: of the same images under each oracle, by name.
    """
    from rich.table import Table

    table = Table(title="AP with a branch replaced by the truth, %")
    table.add_column("true branch")
    for name in (*_SHOWN, "AP gained"):
        table.add_column(name, justify="right")
    for name, metrics in {"none": now, **oracles}.items():
        values = [*(getattr(metrics, number) for number in _SHOWN), metrics.AP - now.AP]
        table.add_row(name, *("-" if math.isnan(value) else f"{100 * value:.1f}" for value in values))
    return table


def true_classes(said: Predictions, truth: GroundTruth, overlap: float) -> Predictions:
    """Give boxes that lie on an object its classes, in an image's predictions: (A, 4), (A, C) and (A,)."""
    near = _nearest(said.boxes, truth.boxes)
    on_object = near.overlap >= overlap
    rows = on_object.nonzero().squeeze(1)
    rows = rows[truth.class_known[near.object[rows]]]
    probabilities = said.class_probabilities.clone()
    probabilities[rows] = (truth.targets[near.object[rows]] > 0).to(probabilities.dtype)
    return said._replace(class_probabilities=probabilities)


def true_confidence(said: Predictions, truth: GroundTruth) -> Predictions:
    """Give every box its largest IoU with an object as its confidence, in an image's predictions."""
    overlap = _nearest(said.boxes, truth.boxes).overlap
    return said._replace(confidence=overlap.to(said.confidence.dtype))


def true_boxes(said: Predictions, truth: GroundTruth, matched: Tensor, overlap: float) -> Predictions:
    """Give anchors that answer for an object its box, in an image's predictions.

    Args:
        said: (A, 4), (A, C) and (A,).
        truth: of the image.
        matched: (A,) the object the anchor is trained for, below 0: none; asked if its box lies on none.
        overlap: IoU from which a box lies on an object.
    """
    near = _nearest(said.boxes, truth.boxes)
    answers_for = torch.where(near.overlap >= overlap, near.object, matched)
    rows = (answers_for >= 0).nonzero().squeeze(1)
    boxes = said.boxes.clone()
    boxes[rows] = truth.boxes[answers_for[rows]].to(boxes.dtype)
    return said._replace(boxes=boxes)


def _nearest(boxes: Tensor, objects: Tensor) -> _Nearest:
    best = boxes.new_zeros(len(boxes))
    place = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    for start, some in box_chunks(objects, len(boxes)):
        values, rows = iou(some[:, None], boxes).max(dim=0)
        better = values > best
        best = torch.where(better, values, best)
        place = torch.where(better, rows + start, place)
    return _Nearest(best, place)


def _inside(boxes: Tensor, resizes: Sequence[Resize]) -> Tensor:
    """Cut (B, A, 4) boxes off at the border of their image, in pixels of the network input.

    Detections are cut off there, too: the overlap that counts is that of the visible part.
    """
    sizes = [[size * scale for size, scale in zip(*resize, strict=True)] for resize in resizes]
    limits = boxes.new_tensor([[width, height, width, height] for height, width in sizes])
    return torch.minimum(boxes.clamp(min=0), limits.reshape(-1, 1, 4))
