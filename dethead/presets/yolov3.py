"""YOLOv3: three anchors per cell, centres that stay in their cell, sums that nothing divides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dethead.anchors import AnchorGrid
from dethead.assigners.claims import Claims
from dethead.assigners.geometry import centers, per_anchor
from dethead.assigners.ignoring import box_chunks, check_ignore_overlap, settle
from dethead.boxes import BoxCodec, Codec, at_least_float32, iou
from dethead.criterion import DetectionLoss, Term
from dethead.normalisers import Constant
from dethead.postprocess import Postprocessor, product
from dethead.presets.preset import HeadSettings, Preset
from dethead.schemes import SigmoidBCE
from dethead.structures import BACKGROUND, IGNORE, Anchors, Assignment, GroundTruth, Predictions

GRID: Final = AnchorGrid(
    (8, 16, 32),
    (
        ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
        ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
        ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
    ),
)
INSIDE: Final = 1e-6
"""How near to its sides, in cells, the system lets a centre come: the logit stays finite."""
NEAR: Final = 0.5
"""IoU above which an anchor is positive in a box's cell, and no background anywhere."""

DIFFERS: Final = (
    "The system starts the confidence at 8 objects in an image of 608 px: 0.0014 on stride 8, 0.0055 on 16, "
    "0.022 on 32. A head here has one prior for all its levels: 0.01.",
    "The system has a head for each level; DetectionHead has one for all.",
    "The system averages over processes what it has summed on each; here the sum is over all processes.",
    "The system asks for a class probability of 0.05 and a confidence of 0.005, and takes its 1000 best pairs"
    " by class probability; here a product of 0.05 * 0.005 passes, so all of those and more do, "
    "and the 1000 best pairs go by the product.",
)


@dataclass(frozen=True, slots=True)
class CellCodec:
    """YOLOv3's code: where in its cell a box's centre is, as a logit, and log size ratios to the anchor.

    ``centre = (sigmoid(dx) + column) * stride``: it cannot leave the cell. An anchor's cell is told by its
    size: that of the grid's nearest shape.

    Args:
        grid: of the anchors; anchors of different strides must differ in size.

    Source: Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767, section 2.1.
    """

    grid: AnchorGrid

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) code of ``boxes`` seen from ``anchors``, both (..., 4); no empty anchors.

        A centre outside of the anchor's cell is moved to the cell's side.
        """
        deltas = BoxCodec().encode(boxes, anchors)
        place = deltas[..., :2] * self._anchors_per_cell(anchors) + 0.5
        return torch.cat([place.clamp(INSIDE, 1 - INSIDE).logit(), deltas[..., 2:]], dim=-1)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Give the (..., 4) boxes that (..., 4) ``deltas`` describe, not clipped to the image."""
        deltas = at_least_float32(deltas)
        shift = (deltas[..., :2].sigmoid() - 0.5) / self._anchors_per_cell(anchors)
        return BoxCodec().decode(torch.cat([shift, deltas[..., 2:]], dim=-1), anchors)

    def _anchors_per_cell(self, anchors: Tensor) -> Tensor:
        """(..., 2) width and height of the anchors, in cells."""
        size = at_least_float32(anchors[..., 2:] - anchors[..., :2])
        shapes = size.new_tensor([shape for level in self.grid.shapes for shape in level])
        strides = size.new_tensor([s for s in self.grid.strides for _ in range(self.grid.anchors_per_cell)])
        nearest = (size.unsqueeze(-2) - shapes).abs().sum(dim=-1).argmin(dim=-1)
        return size / strides[nearest].unsqueeze(-1)


def cell_box_loss(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec) -> Tensor:
    """Twice the binary cross-entropy of the place in the cell, and twice the squared error of the log sizes.

    Args:
        deltas: (P, 4) predicted.
        boxes: (P, 4) true.
        anchors: (P, 4).
        codec: a ``CellCodec``.

    Returns:
        (P,). The cross-entropy of a place is not 0 at the target: it is least there.
    """
    deltas = at_least_float32(deltas)
    wanted = codec.encode(boxes, anchors).to(deltas.dtype)
    place = F.binary_cross_entropy_with_logits(deltas[:, :2], wanted[:, :2].sigmoid(), reduction="none")
    size = F.mse_loss(deltas[:, 2:], wanted[:, 2:], reduction="none")
    return 2 * (place + size).sum(dim=1)


@dataclass(frozen=True, slots=True)
class CellAssigner:
    """Positive: anchors of the cells that hold a box's centre, one cell on each level.

    Of these, the best ones of each box (all that tie; where boxes share them, the last box has them), and
    every one of an IoU above 0.5, for the box it overlaps most. Of the others, those of an IoU above 0.5 with
    any box are IGNORE, as are those inside an ignore region.

    Args:
        ignore_overlap: an anchor that is not positive and has this share of its area in one ignore region is
            IGNORE.

    Source: Redmon and Farhadi 2018, https://arxiv.org/abs/1804.02767, section 2.1, as in MMDetection.
    """

    ignore_overlap: float = 0.5
    needs_predictions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_ignore_overlap(self.ignore_overlap)

    @torch.no_grad()
    def __call__(
        self, anchors: Anchors, truth: Sequence[GroundTruth], predictions: Predictions | None = None
    ) -> Assignment:
        """Assign a batch. Memory is bounded: boxes are compared in chunks, never all with all anchors."""
        rows = [self._match(anchors, one.boxes) for one in truth]
        settled = settle(anchors, truth, [box for box, _ in rows], self.ignore_overlap)
        near = torch.stack([near for _, near in rows])
        matched = settled.matched.masked_fill((settled.matched == BACKGROUND) & near, IGNORE)
        return settled._replace(matched=matched)

    def _match(self, anchors: Anchors, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(A,) the box each anchor answers for, -1 for none; (A,) whether it overlaps one too much."""
        points, strides = centers(anchors.boxes), per_anchor(anchors, anchors.strides)[:, None]
        best, over = Claims(len(points), points), Claims(len(points), points)
        near = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        for start, some in box_chunks(boxes, len(points)):
            overlaps = iou(some[:, None], anchors.boxes)
            near |= (overlaps > NEAR).any(dim=0)
            cells = (points // strides == centers(some)[:, None] // strides).all(dim=-1)
            overlaps = overlaps.where(cells, -1.0)
            highest = overlaps.amax(dim=1, keepdim=True)
            rows = torch.arange(start, start + len(some), device=points.device, dtype=points.dtype)
            best.add(start, (overlaps == highest) & (highest > 0), rows[:, None].expand_as(overlaps))
            over.add(start, overlaps > NEAR, overlaps)
        return torch.where(best.box >= 0, best.box, over.box), near


def yolov3() -> Preset:
    """Follow YOLOv3 of MMDetection 3.3.0.

    * class: binary cross-entropy on positives;
    * confidence: binary cross-entropy on all anchors that are not ignored, target 1 or 0;
    * box: binary cross-entropy of the centre's place in its cell, twice, and the squared error of the log
      sizes, twice;
    * all are sums over the batch that nothing divides; weights 1 and 1;
    * matching: ``CellAssigner``; no confidence loss above IoU 0.5 with any box;
    * anchors: three on each of the strides 8, 16 and 32, from 10 x 13 to 373 x 326 px;
    * start: class prior 0.01;
    * score: confidence times class probability, from 0.00025 on; suppression above IoU 0.45; 100 kept.
    """
    scheme, codec, term = SigmoidBCE(), CellCodec(GRID), Term(1.0, Constant(1.0))
    criterion = DetectionLoss(
        scheme, cell_box_loss, codec, class_term=term, confidence_term=term, box_term=term
    )
    return Preset(
        scheme,
        codec,
        criterion,
        CellAssigner(),
        Postprocessor(scheme, codec, product, 0.05 * 0.005, 1000, 0.45, 100),
        GRID,
        HeadSettings(class_prior=0.01, confidence_prior=0.01, box_bias=(0.0, 0.0, 0.0, 0.0)),
        DIFFERS,
    )
