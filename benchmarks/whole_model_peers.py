"""Detectors that ``whole_model.py`` measures: torchvision's, and dethead's beside each of them.

All have the same backbone module, EfficientNet-Lite0 with random weights, in the same pyramid module, 96
channels wide, as in the shipped road configs; SSDlite has its own extra layers in place of the pyramid. What
differs is the head, its loss, its matching and its postprocessing.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block

from dethead import build, config
from dethead.assigners import Assigner
from dethead.backbones import FeaturePyramid, efficientnet_lite0
from dethead.criterion import DetectionLoss
from dethead.detector import Detector
from dethead.heads import DetectionHead, Norm
from dethead.postprocess import Postprocessor
from dethead.presets import Preset, fcos_torchvision, retinanet_torchvision
from dethead.structures import Anchors, Assignment, GroundTruth, HeadOutput, Resize

CLASSES: Final = 5
WIDTH: Final = 96
"""Channels of pyramid and towers."""
TORCHVISION_WIDTH: Final = 256
"""The same in torchvision's own RetinaNet and FCOS."""
WIDTHS: Final = ("neck.channels", "head.width")
BOXES: Final = 7
"""In each image."""
SHIPPED: Final = "road_softmax_ce"
"""The config whose head and loss are "the default head"."""
SCORE, NMS_IOU, KEPT = 0.05, 0.5, 300
"""Postprocessing of all: least score, overlap that suppresses, detections of an image at most."""
CANDIDATES: Final = 1000
"""Pairs of an image above ``SCORE`` after ``equalise``; nobody cuts off fewer."""
SCALES: Final = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""Of RetinaNet's anchors."""
SSD_CHANNELS: Final = (112, 320, 256, 128, 128)
"""Of SSDlite's maps, stride 16 to 256."""


class Drawn(NamedTuple):
    """B images and what is in them, in nobody's own format."""

    images: Tensor
    """(B, 3, S, S) uint8"""
    boxes: list[Tensor]
    """(M, 4) each"""
    labels: list[Tensor]
    """(M,) each, in [0, C)"""


def draw(batch: int, size: int) -> Drawn:
    """Draw noise and boxes of 8 % to 60 % of the image's side, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, size, size), generator=generator, dtype=torch.uint8)
    sides = (0.08 + 0.52 * torch.rand(batch, BOXES, 2, generator=generator)) * size
    corner = torch.rand(batch, BOXES, 2, generator=generator) * (size - sides)
    labels = torch.randint(0, CLASSES, (batch, BOXES), generator=generator)
    return Drawn(images, list(torch.cat([corner, corner + sides], dim=2)), list(labels))


class Contender(nn.Module, ABC):
    """A detector with its loss and its postprocessing."""

    head: nn.Module
    """Where the towers and the prediction layers are."""

    @abstractmethod
    def loss(self, drawn: Drawn) -> Tensor:
        """Give the scalar to call backward on; in training mode."""

    @abstractmethod
    def detect(self, drawn: Drawn) -> list[int]:
        """Give the number of detections of each image; in evaluation mode."""

    @abstractmethod
    def scores(self, drawn: Drawn) -> Callable[[float], Tensor]:
        """Give what gives (B, A, C) scores if a number is added to all class logits."""

    @abstractmethod
    def raise_logits(self, shift: float) -> None:
        """Add a number to the bias of all class logits."""


class Peer(Contender):
    """A torchvision detector; its images are made floats in 0..1 beforehand, at no charge.

    Args:
        model: the detector.
        first_label: 1 where 0 is the background.
    """

    def __init__(self, model: nn.Module, first_label: int) -> None:
        super().__init__()
        self.model, self.first_label = model, first_label
        self.head = model.head  # type: ignore[assignment]
        self._prepared: dict[int, list[Tensor]] = {}

    def _images(self, drawn: Drawn) -> list[Tensor]:
        key = drawn.images.data_ptr()
        if key not in self._prepared:
            self._prepared = {key: list(drawn.images.float() / 255)}
        return self._prepared[key]

    def loss(self, drawn: Drawn) -> Tensor:
        """See ``Contender``."""
        pairs = zip(drawn.boxes, drawn.labels, strict=True)
        targets = [{"boxes": boxes, "labels": labels + self.first_label} for boxes, labels in pairs]
        terms: dict[str, Tensor] = self.model(self._images(drawn), targets)
        return torch.stack(list(terms.values())).sum()

    def detect(self, drawn: Drawn) -> list[int]:
        """See ``Contender``."""
        return [len(one["scores"]) for one in self.model(self._images(drawn))]

    def scores(self, drawn: Drawn) -> Callable[[float], Tensor]:
        """See ``Contender``."""
        said: list[dict[str, Tensor]] = []
        handle = self.head.register_forward_hook(lambda _, __, output: said.append(output))
        self.detect(drawn)
        handle.remove()
        logits, background = said[0]["cls_logits"], self.first_label
        if background:
            return lambda shift: torch.cat([logits[..., :1], logits[..., 1:] + shift], -1).softmax(-1)[
                ..., 1:
            ]
        if "bbox_ctrness" in said[0]:
            return lambda shift: ((logits + shift).sigmoid() * said[0]["bbox_ctrness"].sigmoid()).sqrt()
        return lambda shift: (logits + shift).sigmoid()

    def raise_logits(self, shift: float) -> None:
        """See ``Contender``."""
        head: Any = self.head.classification_head
        layers = (
            [head.cls_logits] if hasattr(head, "cls_logits") else [block[1] for block in head.module_list]
        )
        classes = CLASSES + self.first_label
        for layer in layers:
            layer.bias.view(-1, classes)[:, self.first_label :] += shift


def assign(
    assigner: Assigner,
    postprocessor: Postprocessor,
    output: HeadOutput,
    anchors: Anchors,
    truth: list[GroundTruth],
) -> Assignment:
    """Match as the training loop does."""
    if not assigner.needs_predictions:
        return assigner(anchors, truth)
    return assigner(anchors, truth, postprocessor.predictions(output, anchors))


class Ours(Contender):
    """A dethead detector with its parts."""

    def __init__(
        self, detector: Detector, assigner: Assigner, criterion: DetectionLoss, postprocessor: Postprocessor
    ) -> None:
        super().__init__()
        self.detector = detector.to(memory_format=torch.channels_last)
        self.head = detector.head
        self.assigner, self.criterion = assigner, criterion
        self.postprocessor = replace(
            postprocessor, score_threshold=SCORE, nms_iou=NMS_IOU, max_detections=KEPT
        )
        self._folded: dict[tuple[int, int], Detector] = {}

    def loss(self, drawn: Drawn) -> Tensor:
        """See ``Contender``; truth is made from boxes and labels here, as the peers must do."""
        self._folded.clear()  # made of weights that are about to change
        pairs = zip(drawn.boxes, drawn.labels, strict=True)
        truth = [GroundTruth.from_labels(boxes, labels, CLASSES) for boxes, labels in pairs]
        output = self.detector(drawn.images)
        anchors = self.detector.anchors(drawn.images.shape[2:])
        assignment = assign(self.assigner, self.postprocessor, output, anchors, truth)
        total: Tensor = self.criterion(output, assignment, truth, anchors).total
        return total

    def detect(self, drawn: Drawn) -> list[int]:
        """See ``Contender``; as ``dethead.load`` detects."""
        height, width = drawn.images.shape[2:]
        if (height, width) not in self._folded:
            self._folded[height, width] = self.detector.for_detection((height, width))
        resizes = [Resize((height, width), (1.0, 1.0))] * len(drawn.images)
        output = self._folded[height, width](drawn.images)
        return [
            len(one.scores)
            for one in self.postprocessor(output, self.detector.anchors((height, width)), resizes)
        ]

    def scores(self, drawn: Drawn) -> Callable[[float], Tensor]:
        """See ``Contender``."""
        output, post = self.detector(drawn.images), self.postprocessor
        confidence = output.confidence_logits.unsqueeze(-1)
        return lambda shift: post.fusion(
            (confidence + shift).sigmoid(), post.scheme.probabilities(output.class_logits + shift)
        )

    def raise_logits(self, shift: float) -> None:
        """See ``Contender``: class and confidence logits alike, as the softmax would not feel it."""
        head: Any = self.head
        head.prediction.bias.view(-1, CLASSES + 5)[:, : CLASSES + 1] += shift
        self._folded.clear()


class Named(nn.Module):
    """Maps under the names that torchvision's detectors want."""

    def __init__(self, pyramid: FeaturePyramid) -> None:
        super().__init__()
        self.pyramid, self.out_channels = pyramid, pyramid.channels[0]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Give the maps of (B, 3, H, W) images, finest first."""
        return OrderedDict((str(i), features) for i, features in enumerate(self.pyramid(images)))


class SSDMaps(nn.Module):
    """Two maps of the backbone and three that SSDlite adds to them."""

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self.backbone = efficientnet_lite0(strides=(16, 32), weights=weights)
        steps = pairwise(SSD_CHANNELS[1:])
        self.extra = nn.ModuleList(_extra_block(entering, leaving, ssd_norm) for entering, leaving in steps)
        self.out_channels = list(SSD_CHANNELS)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Give the maps of (B, 3, H, W) images, finest first."""
        maps = self.backbone(images)
        for step in self.extra:
            maps.append(step(maps[-1]))
        return OrderedDict((str(i), features) for i, features in enumerate(maps))


ssd_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
"""As in torchvision's SSDlite."""


def _pyramid(extra_levels: int, width: int = WIDTH) -> FeaturePyramid:
    return FeaturePyramid(efficientnet_lite0(), width, extra_levels)


def _peer_options(size: int) -> dict[str, Any]:
    mean, std = [127 / 255] * 3, [128 / 255] * 3  # EfficientNet-Lite's
    post = {"score_thresh": SCORE, "nms_thresh": NMS_IOU, "detections_per_img": KEPT}
    # The images have their size: without this, torchvision resizes them to it all the same.
    return {"image_mean": mean, "image_std": std, "_skip_resize": True, **post}


def _retinanet(size: int, *, extra_levels: int, depth: int, width: int = WIDTH) -> Contender:
    run = config.load(SHIPPED)
    smallest = (*run.anchors.sizes, 2 * run.anchors.sizes[-1])[: 3 + extra_levels]
    sizes = tuple(tuple(int(one * scale) for scale in SCALES) for one in smallest)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    options = {"min_size": size, "max_size": size, "anchor_generator": anchors, **_peer_options(size)}
    model = RetinaNet(Named(_pyramid(extra_levels, width)), CLASSES, **options)
    for half in (model.head.classification_head, model.head.regression_head):
        del half.conv[depth:]
    return Peer(model, first_label=0)


def _fcos(size: int) -> Contender:
    options = {"min_size": size, "max_size": size, **_peer_options(size)}
    return Peer(FCOS(Named(_pyramid(2)), CLASSES, **options), first_label=0)


def _ssdlite(size: int) -> Contender:
    maps, anchors = SSDMaps(), DefaultBoxGenerator([[2, 3]] * len(SSD_CHANNELS), min_ratio=15, max_ratio=95)
    head = SSDLiteHead(maps.out_channels, anchors.num_anchors_per_location(), CLASSES + 1, ssd_norm)
    model = SSD(
        maps, anchors, (size, size), CLASSES + 1, head=head, topk_candidates=CANDIDATES, **_peer_options(size)
    )
    return Peer(model, first_label=1)


def _like(preset: Preset, *, depth: int, norm: Norm) -> Contender:
    """Put dethead's head in a peer's place: same pyramid, loss and matching, two towers of the same depth."""
    head = DetectionHead(
        WIDTH,
        preset.grid.anchors_per_cell,
        CLASSES,
        preset.scheme,
        depth=depth,
        norm=norm,
        towers="decoupled",
        **preset.head,
    )
    detector = Detector(_pyramid(2), head, preset.grid)
    return Ours(detector, preset.assigner, preset.criterion, preset.postprocessor)


def _shipped(*overrides: str) -> Contender:
    run = config.load(SHIPPED, [*AS_PEERS, *overrides])
    detector = build.detector(run, CLASSES)
    return Ours(detector, build.assigner(run), build.criterion(run), build.postprocessor(run))


AS_PEERS: Final = ("backbone.frozen_stages=0", "backbone.enlarge=1.0", "anchors.sizes=[24, 48, 96, 192]")
"""All train the whole backbone and let it see images of one size."""
AS_SSDLITE: Final = (
    "backbone.strides=[16, 32]",
    "neck={channels: 40, extra_levels: 2}",
    "head={width: 40, depth: 1, separable: true, norm: batch}",
    "anchors={sizes: [48, 96, 160, 224], ratios: [0.5, 1.0, 2.0], scales: [1.0, 1.4142]}",
    "assigner={name: max_iou, positive_iou: 0.5, negative_iou: 0.4}",
    "loss.box_loss={name: smooth_l1, beta: 0.1}",
    "postprocess.suppression={name: nms}",
)
"""About SSDlite's work: two maps of the backbone, six anchors in a cell, no full convolution in the head."""

CONTENDERS: Final[dict[str, Callable[[int], Contender]]] = {
    "torchvision RetinaNet": partial(_retinanet, extra_levels=2, depth=4),
    "torchvision RetinaNet P6": partial(_retinanet, extra_levels=1, depth=4),
    "torchvision RetinaNet P6, towers of 2": partial(_retinanet, extra_levels=1, depth=2),
    "torchvision RetinaNet P6, 256 wide": partial(
        _retinanet, extra_levels=1, depth=4, width=TORCHVISION_WIDTH
    ),
    "torchvision FCOS": _fcos,
    "torchvision SSDlite": _ssdlite,
    "dethead as RetinaNet": lambda size: _like(retinanet_torchvision(), depth=4, norm="none"),
    "dethead as FCOS": lambda size: _like(fcos_torchvision(), depth=4, norm="group"),
    "dethead as SSDlite": lambda size: _shipped(*AS_SSDLITE),
    "dethead default": lambda size: _shipped(),
    "dethead default, 256 wide": lambda size: _shipped(*(f"{key}={TORCHVISION_WIDTH}" for key in WIDTHS)),
}
"""Name -> maker of the contender for images of so many px a side."""


def make(name: str, size: int, *, channels_last: bool) -> Contender:
    """Make a contender, always with the same random numbers.

    Args:
        name: one of ``CONTENDERS``.
        size: of the images, in px.
        channels_last: the layout of the weights; dethead's are always so.
    """
    torch.manual_seed(0)
    contender = CONTENDERS[name](size)
    return contender.to(memory_format=torch.channels_last) if channels_last else contender


def count_work(contender: Contender, size: int) -> tuple[float, float]:
    """Give MACs of convolutions for an image, in 1e9, and trained parameters, in 1e6."""
    contender.eval()
    with torch.no_grad():
        contender.detect(draw(1, size))  # what happens only once does not count
        with FlopCounterMode(display=False) as counter:
            contender.detect(draw(1, size))
    parameters = sum(one.numel() for one in contender.parameters() if one.requires_grad)
    return counter.get_total_flops() / 2 / 1e9, parameters / 1e6


def make_step(contender: Contender) -> Callable[[Drawn], None]:
    """Give one training step: what a plain loop does, the same for all."""
    parameters = [one for one in contender.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.02)

    def step(drawn: Drawn) -> None:
        contender.loss(drawn).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


@torch.no_grad()
def equalise(contender: Contender, drawn: Drawn) -> None:
    """Let an untrained detector find something, all contenders alike many candidates.

    Weights of the head are drawn so that scores spread; then the bias of the class logits is moved until
    ``CANDIDATES`` pairs of an image, on average, pass ``SCORE``.
    """
    for layer in contender.head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    with _statistics_of_now(contender):
        contender.train()
        contender.loss(drawn)
    contender.eval()
    scores = contender.scores(drawn)
    low, high = -50.0, 50.0
    for _ in range(30):
        shift = (low + high) / 2
        passed = int((scores(shift) >= SCORE).sum())
        low, high = (low, shift) if passed > CANDIDATES * len(drawn.images) else (shift, high)
    contender.raise_logits(high)


@contextmanager
def _statistics_of_now(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation take over the statistics of the batches it sees."""
    norms = {norm: norm.momentum for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)}
    for norm in norms:
        norm.momentum = 1.0
    yield
    for norm, momentum in norms.items():
        norm.momentum = momentum
