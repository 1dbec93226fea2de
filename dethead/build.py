"""Name tables, and the functions that turn sections of a config into objects."""

import hashlib
import importlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from dethead import normalisers, postprocess, schemes
from dethead.anchors import AnchorGrid
from dethead.assigners import Assigner, MaxIoUAssigner
from dethead.backbones import FeaturePyramid, freeze_stages, set_norm, torchvision_backbone
from dethead.boxes import BoxCodec
from dethead.config import ConfigError, Run
from dethead.config.sections import OwnPart, Section
from dethead.config.sections import Term as TermSection
from dethead.criterion import BoxLoss, DetectionLoss, Term
from dethead.detector import Detector
from dethead.heads import DetectionHead
from dethead.losses.regression import smooth_l1

T = TypeVar("T")

CLASS_SCHEMES: dict[str, Callable[..., schemes.ClassScheme]] = {
    "softmax_ce": schemes.SoftmaxCE,
    "sigmoid_bce": schemes.SigmoidBCE,
}
BOX_LOSSES: dict[str, Callable[..., BoxLoss]] = {
    "smooth_l1": lambda beta: partial(smooth_l1, beta=beta),
}
NORMALISERS: dict[str, Callable[..., normalisers.Normaliser]] = {
    "positives": lambda: normalisers.by_positives,
    "positives_per_image": lambda: normalisers.by_positives_per_image,
    "anchors": lambda: normalisers.by_anchors,
    "constant": normalisers.Constant,
}
ASSIGNERS: dict[str, Callable[..., Assigner]] = {
    "max_iou": MaxIoUAssigner,
}
FUSIONS: dict[str, postprocess.ScoreFusion] = {
    "product": postprocess.product,
    "geometric_mean": postprocess.geometric_mean,
    "class_only": postprocess.class_only,
    "confidence_only": postprocess.confidence_only,
}


def make(table: Mapping[str, Callable[..., T]], section: Section) -> T:
    """Make the object that a section names, with the section's other keys as arguments."""
    if isinstance(section, OwnPart):
        made: T = _make_own(section.name, section.options)
        return made
    options: dict[str, Any] = section.model_dump()
    for key, value in options.items():
        options[key] = tuple(value) if isinstance(value, list) else value  # for objects that are frozen
    return table[options.pop("name")](**options)


def import_factory(name: str) -> Callable[..., Any]:
    """Give what ``package.module:factory`` names.

    Raises:
        ConfigError: there is no such module, or nothing callable of that name in it.
    """
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name!r} cannot be imported: {error}") from None
    if not callable(factory):
        raise ConfigError(f"{name!r} is not callable, got {type(factory).__name__}")
    return factory  # type: ignore[no-any-return]


def _make_own(name: str, options: Mapping[str, Any]) -> Any:
    factory = import_factory(name)
    try:
        return factory(**options)
    except TypeError as error:  # most often an argument that it does not take
        raise ConfigError(f"{name!r} cannot be made with {dict(options)}: {error}") from error


def class_scheme(run: Run) -> schemes.ClassScheme:
    """Make the class scheme of a run."""
    return make(CLASS_SCHEMES, run.class_scheme)


def assigner(run: Run) -> Assigner:
    """Make the assigner of a run."""
    return make(ASSIGNERS, run.assigner)


def codec(run: Run) -> BoxCodec:
    """Make the box codec of a run, the same for loss and postprocessor."""
    x, y, width, height = run.codec.weights
    return BoxCodec((x, y, width, height))


def criterion(run: Run) -> DetectionLoss:
    """Make the loss of a run."""
    return DetectionLoss(
        class_scheme(run),
        make(BOX_LOSSES, run.loss.box_loss),
        codec(run),
        class_term=_term(run.loss.class_term),
        confidence_term=_term(run.loss.confidence_term),
        box_term=_term(run.loss.box_term),
        confidence_target=run.loss.confidence_target,
    )


def postprocessor(run: Run) -> postprocess.Postprocessor:
    """Make the postprocessor of a run."""
    options = run.postprocess.model_dump()
    fusion = FUSIONS[options.pop("fusion")]
    return postprocess.Postprocessor(class_scheme(run), codec(run), fusion, **options)


def without_weights(run: Run) -> Run:
    """Give the run without backbone weights: a checkpoint holds all of them, nothing is looked up."""
    return run.model_copy(update={"backbone": run.backbone.model_copy(update={"weights": None})})


def detector(run: Run, num_classes: int, weights: Path | None = None) -> Detector:
    """Make the detector of a run.

    Every part draws its initial weights from a seed of its own, made from the run's seed and the part's name,
    so that two runs agree in the parts they share, however they differ in the others.

    Args:
        run: the config.
        num_classes: C.
        weights: file of backbone weights; takes the place of ``backbone.weights``.

    Raises:
        ConfigError: parts that do not fit each other, or an own part that cannot be made.
    """
    _seed(run.seed, "backbone")
    backbone: Any = _backbone(run, weights)
    # Frozen first: a stage that is frozen keeps its statistics, whatever is wanted of the others.
    freeze_stages(backbone, run.backbone.frozen_stages)
    set_norm(backbone, run.backbone.norm)
    _seed(run.seed, "neck")
    pyramid = FeaturePyramid(backbone, run.neck.channels, run.neck.extra_levels)
    grid = AnchorGrid.from_sizes(
        pyramid.strides, run.anchors.sizes, ratios=run.anchors.ratios, scales=run.anchors.scales
    )
    _seed(run.seed, "head")
    options = run.head.model_dump()
    head = DetectionHead(run.neck.channels, grid.anchors_per_cell, num_classes, class_scheme(run), **options)
    # The faster layout for convolutions, and the one in which the head's output needs a single copy.
    made: Detector = Detector(pyramid, head, grid).to(memory_format=torch.channels_last)
    return made


def _backbone(run: Run, weights: Path | None) -> nn.Module:
    section = run.backbone
    source = str(weights) if weights is not None else section.weights
    if ":" in section.name:
        options = {"strides": tuple(section.strides), "weights": source, **section.options}
        own: nn.Module = _make_own(section.name, options)
        return own
    if section.options:
        raise ConfigError(f"backbone.options {section.options} go with package.module:factory names only")
    return torchvision_backbone(section.name, strides=tuple(section.strides), weights=source)


def _term(section: TermSection) -> Term:
    return Term(section.weight, make(NORMALISERS, section.normaliser))


def _seed(seed: int, part: str) -> None:
    digest = hashlib.sha256(f"{seed}/{part}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") % 2**63)
