"""RetinaNet and its kin: focal loss over all anchors, no confidence, boxes as deltas of the anchors."""

from collections.abc import Iterable
from functools import partial
from typing import Final

from dethead.anchors import AnchorGrid
from dethead.assigners import MaxIoUAssigner
from dethead.boxes import BoxCodec
from dethead.criterion import BoxLoss, DetectionLoss, Term
from dethead.losses import giou_loss, l1, smooth_l1
from dethead.normalisers import (
    Normaliser,
    by_positives_per_image,
    by_positives_plus_one,
    by_running_positives,
)
from dethead.postprocess import Postprocessor, class_only
from dethead.presets.preset import HeadSettings, Preset
from dethead.schemes import Focal

STRIDES: Final = (8, 16, 32, 64, 128)
SIZES: Final = (32, 64, 128, 256, 512)
"""Of the smallest anchors in px, level by level."""
SCALES: Final = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS: Final = (0.5, 1.0, 2.0)
"""height / width"""

ALL_LEVELS: Final = 5000
"""Pairs that go on to suppression: 1000 of each of 5 levels in torchvision and Detectron2."""

UNTRAINED: Final = "The head's confidence logit is there, but not trained and not in the score."
LOCAL: Final = "The system's divisors are each process's own; here they are averaged over processes."
RETINANET_DIFFERS: Final = (
    UNTRAINED,
    LOCAL,
    "Anchors stand in the middle of their cells, the system's on the top left corners: half a stride away.",
    "The system keeps the 1000 best pairs of each level; here 5000 of all levels together.",
    "A box that no anchor touches gets no anchor; in the system it makes every anchor of the image positive.",
)


def retinanet_torchvision() -> Preset:
    """Follow torchvision 0.29.2's ``retinanet_resnet50_fpn``.

    * class: focal loss, alpha 0.25, gamma 2, over all anchors that are not ignored;
    * box: L1 on deltas;
    * both divided by the positives of each image, at least 1, then averaged over images; weights 1 and 1;
    * matching: positive from IoU 0.5 on, background below 0.4, and the best anchors of every box;
    * anchors: 32 to 512 px on strides 8 to 128, times 1, 2^(1/3), 2^(2/3) cut to whole px, ratios 0.5, 1, 2,
      half the sides rounded;
    * start: class prior 0.01;
    * score: the class probability, from 0.05 on; suppression above IoU 0.5; 300 kept.

    Example:
        >>> import torch
        >>> from dethead.structures import GroundTruth, HeadOutput
        >>> preset = retinanet_torchvision()
        >>> anchors = preset.grid.place((256, 256))
        >>> truth = [GroundTruth.from_labels(anchors.boxes[5000:5001] + 2, torch.tensor([1]), num_classes=3)]
        >>> raw = torch.zeros(1, len(anchors.boxes), 3 + 5, requires_grad=True)  # of your head
        >>> assignment = preset.assigner(anchors, truth)
        >>> terms = preset.criterion(HeadOutput(raw), assignment, truth, anchors)
        >>> terms.total.backward()
        >>> terms.confidence.item(), bool(raw.grad.isfinite().all())
        (0.0, True)
    """
    return _torchvision(l1)


def retinanet_torchvision_v2() -> Preset:
    """Follow torchvision 0.29.2's ``retinanet_resnet50_fpn_v2``.

    As ``retinanet_torchvision``, but with 1 - GIoU of the decoded boxes in place of L1 on deltas. Its head
    also has GroupNorm, in 32 groups; ``DetectionHead`` makes groups of 8 channels.
    """
    return _torchvision(giou_loss)


def _torchvision(box_loss: BoxLoss) -> Preset:
    grid = AnchorGrid(STRIDES, tuple(tuple(_rounded(size)) for size in SIZES))
    return _retinanet(by_positives_per_image, box_loss, grid, max_detections=300)


def _rounded(size: int) -> Iterable[tuple[float, float]]:
    """(width, height) of the anchors of a cell in torchvision's order: ratio by ratio, scale by scale."""
    for ratio in RATIOS:
        for scale in SCALES:
            whole = int(size * scale)
            yield 2.0 * round(whole / ratio**0.5 / 2), 2.0 * round(whole * ratio**0.5 / 2)


def detectron2_retinanet(beta: float = 0.1) -> Preset:
    """Follow RetinaNet of Detectron2 02b5c4e.

    As ``retinanet_torchvision`` (focal loss, matching, class prior, threshold, suppression), but

    * box: smooth L1 on deltas;
    * class and box divided by a running mean of the positives of a step, which starts at 100 and moves by a
      tenth (at least 1 is taken for each step). ``dethead.running.RunningState.with_mean`` keeps it; without,
      the positives of the step are the divisor;
    * anchors: sides not rounded;
    * 100 kept.

    Args:
        beta: where smooth L1 ends its square. 0.1 is the system's default, 0 (plain L1) that of its
            ``Base-RetinaNet.yaml``, from which the published models come.
    """
    grid = AnchorGrid.from_sizes(STRIDES, SIZES, ratios=RATIOS, scales=SCALES)
    return _retinanet(by_running_positives, partial(smooth_l1, beta=beta), grid, max_detections=100)


def _retinanet(normaliser: Normaliser, box_loss: BoxLoss, grid: AnchorGrid, *, max_detections: int) -> Preset:
    scheme, codec, term = Focal(alpha=0.25, gamma=2.0), BoxCodec(), Term(1.0, normaliser)
    postprocessor = Postprocessor(scheme, codec, class_only, 0.05, ALL_LEVELS, 0.5, max_detections)
    criterion = _without_confidence(scheme, box_loss, codec, class_term=term, box_term=term)
    assigner = MaxIoUAssigner(positive_iou=0.5, negative_iou=0.4, low_quality=True)
    return Preset(scheme, codec, criterion, assigner, postprocessor, grid, _start(), RETINANET_DIFFERS)


EFFICIENTDET_DIFFERS: Final = (
    UNTRAINED,
    LOCAL,
    "The system's four box numbers are dy dx dh dw.",
    "The system has no box loss for an encoded number that is exactly 0.",
    "The system gives each box its one best anchor even where that overlaps another box more; here all best "
    "anchors of a box are positive, each for the box that it overlaps most.",
)


def efficientdet() -> Preset:
    """Follow EfficientDet of efficientdet-pytorch c6dff77.

    * class: focal loss, alpha 0.25, gamma 1.5, over all anchors, divided by the positives of the batch + 1;
    * box: Huber's loss with delta 0.1, divided by 4 (positives + 1), weight 50. Huber's loss is 0.1 times
      smooth L1 with beta 0.1, so the weight here is 50 * 0.1 / 4 = 1.25;
    * matching: positive from IoU 0.5 on, background below, and the best anchor of every box;
    * anchors: 4 strides times 1, 2^(1/3), 2^(2/3), with sides 1 x 1, 1.4 x 0.7 and 0.7 x 1.4 of that;
    * start: class prior 0.01;
    * score: the class probability of the 5000 best pairs; suppression above IoU 0.5; 100 kept.
    """
    scheme, codec = Focal(alpha=0.25, gamma=1.5), BoxCodec()
    criterion = _without_confidence(
        scheme,
        partial(smooth_l1, beta=0.1),
        codec,
        class_term=Term(1.0, by_positives_plus_one),
        box_term=Term(50 * 0.1 / 4, by_positives_plus_one),
    )
    assigner = MaxIoUAssigner(positive_iou=0.5, negative_iou=0.5, low_quality=True)
    postprocessor = Postprocessor(scheme, codec, class_only, 0.0, 5000, 0.5, 100)
    grid = AnchorGrid(STRIDES, tuple(tuple(_octaves(4 * stride)) for stride in STRIDES))
    return Preset(scheme, codec, criterion, assigner, postprocessor, grid, _start(), EFFICIENTDET_DIFFERS)


def _octaves(size: int) -> Iterable[tuple[float, float]]:
    """(width, height) of EfficientDet's anchors of a cell: scale by scale, shape by shape."""
    for scale in SCALES:
        for width, height in ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)):
            yield size * scale * width, size * scale * height


def _without_confidence(
    scheme: Focal, box_loss: BoxLoss, codec: BoxCodec, *, class_term: Term, box_term: Term
) -> DetectionLoss:
    return DetectionLoss(
        scheme,
        box_loss,
        codec,
        class_term=class_term,
        confidence_term=Term(0.0),
        box_term=box_term,
        class_on="all",
    )


def _start() -> HeadSettings:
    return HeadSettings(class_prior=0.01, confidence_prior=0.5, box_bias=(0.0, 0.0, 0.0, 0.0))
