"""YOLOX: one anchor per cell, sigmoids that are taught the IoU, a confidence on every anchor."""

from typing import Final

from torch import Tensor

from dethead.anchors import AnchorGrid
from dethead.assigners import SimOTAAssigner
from dethead.boxes import PointExpCodec
from dethead.criterion import DetectionLoss, ExtraLoss, Positives, Term
from dethead.losses import iou_squared_loss, l1
from dethead.postprocess import Postprocessor, product
from dethead.presets.preset import HeadSettings, Preset
from dethead.schemes import SigmoidBCE

STRIDES: Final = (8, 16, 32)
CELLS: Final = 8400
"""Of a 640 px image: YOLOX keeps all that pass, which are at most these."""

DIFFERS: Final = (
    "The system turns the L1 term on for the last 15 of 300 epochs; here it is on or off.",
    "The system scores the best class of an anchor alone; here every class that reaches the threshold.",
    "The system's classes have a tower of their own; give DetectionHead towers='decoupled'.",
    "The system's divisors are each process's own; here they are averaged over processes.",
    "Of boxes that take the same prediction the system may give it to one that did not take it.",
)


def yolox(*, with_l1: bool = False) -> Preset:
    """Follow YOLOX 6ddff48.

    * class: binary cross-entropy on positives; the label's target is the IoU of the decoded prediction;
    * confidence: binary cross-entropy on all anchors, target 1 or 0;
    * box: 1 - IoU^2, weight 5;
    * all divided by the positives of the batch, at least 1; weights of class and confidence 1;
    * matching: SimOTA among the cells within 1.5 strides of the centre, IoU cost 3, k from the 10 best IoUs;
    * anchors: the cells of strides 8, 16 and 32;
    * start: prior 0.01 for class and confidence;
    * score: confidence times class probability, from 0.01 on; suppression above IoU 0.65; no limit.

    Args:
        with_l1: add L1 of the four box numbers with weight 1, as YOLOX does in the last 15 epochs. It is the
            extra term "l1", divided by the positives, too.
    """
    scheme, codec = SigmoidBCE(quality_target=True), PointExpCodec()

    def on_code(positives: Positives) -> Tensor:
        return l1(positives.output.box_deltas, positives.boxes, positives.anchors, codec)

    extra: dict[str, tuple[Term, ExtraLoss]] = {"l1": (Term(1.0), on_code)} if with_l1 else {}
    return Preset(
        scheme,
        codec,
        DetectionLoss(scheme, iou_squared_loss, codec, box_term=Term(5.0), extra=extra),
        SimOTAAssigner("sigmoid", center_radius=1.5, center_only=True, iou_weight=3.0, top_ious=10),
        Postprocessor(scheme, codec, product, 0.01, CELLS, 0.65, CELLS),
        AnchorGrid.from_sizes(STRIDES, STRIDES),
        HeadSettings(class_prior=0.01, confidence_prior=0.01, box_bias=(0.0, 0.0, 0.0, 0.0)),
        DIFFERS,
    )
