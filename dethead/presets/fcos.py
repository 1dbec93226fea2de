"""FCOS: one anchor per cell, distances to the four sides, and a confidence that is the centreness."""

from typing import Final

from dethead.anchors import AnchorGrid
from dethead.assigners import CenterAssigner
from dethead.boxes import LTRBCodec
from dethead.criterion import DetectionLoss
from dethead.losses import giou_loss
from dethead.postprocess import Postprocessor, geometric_mean
from dethead.presets.preset import HeadSettings, Preset
from dethead.schemes import Focal

STRIDES: Final = (8, 16, 32, 64, 128)

DIFFERS: Final = (
    "Anchors stand in the middle of their cells, the system's on the top left corners: half a stride away.",
    "The system's confidence and boxes have a tower of their own; give DetectionHead towers='decoupled'.",
    "Both ends of a level's range of sizes belong to it; in the system neither does, so that an object of "
    "exactly 64, 128, 256 or 512 px, seen from a point, is not seen from there.",
    "The system keeps the 1000 best pairs of each level; here 5000 of all levels together.",
    "The system's divisors are each process's own; here they are averaged over processes.",
)


def fcos_torchvision() -> Preset:
    """Follow torchvision 0.29.2's ``fcos_resnet50_fpn``.

    * class: focal loss, alpha 0.25, gamma 2, over all anchors;
    * confidence: binary cross-entropy towards the centreness, on positives alone;
    * box: 1 - GIoU of the decoded distances, which are in strides and cut off at 0;
    * all divided by the positives of the batch, at least 1; weights 1, 1 and 1;
    * matching: points within 1.5 strides of a box's centre and inside it, whose farthest side is up to 64 px
      away on stride 8, then up to 128, 256, 512, and any on stride 128; of several boxes the smallest;
    * anchors: squares of one stride on strides 8 to 128;
    * start: class prior 0.01, logit 0 for the centreness, distance 0 for the sides;
    * score: square root of class probability times confidence, from 0.2 on; suppression above IoU 0.6; 100
      kept.
    """
    scheme, codec = Focal(alpha=0.25, gamma=2.0), LTRBCodec()
    criterion = DetectionLoss(
        scheme, giou_loss, codec, class_on="all", confidence_on="positives", confidence_target="quality"
    )
    return Preset(
        scheme,
        codec,
        criterion,
        CenterAssigner(radius=1.5),
        Postprocessor(scheme, codec, geometric_mean, 0.2, 5000, 0.6, 100),
        AnchorGrid.from_sizes(STRIDES, STRIDES),
        HeadSettings(class_prior=0.01, confidence_prior=0.5, box_bias=(0.0, 0.0, 0.0, 0.0)),
        DIFFERS,
    )
