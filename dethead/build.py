"""Name tables, and the functions that turn sections of a config into objects."""

import hashlib
import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from dethead import normalisers, postprocess, schemes
from dethead.anchors import AnchorGrid
from dethead.assigners import (
    Assigner,
    ATSSAssigner,
    CenterAssigner,
    MaxIoUAssigner,
    SimOTAAssigner,
    TaskAlignedAssigner,
)
from dethead.auxiliary import Distillation, EmbeddingLoss
from dethead.backbones import (
    FeaturePyramid,
    PathAggregation,
    freeze_stages,
    quicken_depthwise,
    set_norm,
    torchvision_backbone,
)
from dethead.boxes import BoxCodec, Codec, LTRBCodec, PointExpCodec, anchor_code
from dethead.config import ConfigError, Run
from dethead.config.sections import OwnPart, Section
from dethead.config.sections import Term as TermSection
from dethead.criterion import BoxLoss, ConfidenceLoss, DetectionLoss, ExtraLoss, Term
from dethead.data import ClassAware, CocoSet, Order, RepeatFactor, Uniform
from dethead.detector import Detector
from dethead.enlarging import seen_strides
from dethead.heads import DetectionHead
from dethead.losses import confidence, regression

T = TypeVar("T")

NECKS: dict[str, type[FeaturePyramid]] = {"fpn": FeaturePyramid, "pan": PathAggregation}
CLASS_SCHEMES: dict[str, Callable[..., schemes.ClassScheme]] = {
    "softmax_ce": schemes.SoftmaxCE,
    "sigmoid_bce": schemes.SigmoidBCE,
    "multilabel_softmax": schemes.MultilabelSoftmax,
    "focal": schemes.Focal,
    "softmax_focal": schemes.SoftmaxFocal,
    "quality_focal": schemes.QualityFocal,
    "varifocal": schemes.Varifocal,
    "asymmetric": schemes.Asymmetric,
    "ghm": schemes.GHM,
    "poly1": schemes.SigmoidPoly1,
    "softmax_poly1": schemes.SoftmaxPoly1,
    "hinge": schemes.Hinge,
    "margin_ranking": schemes.MarginRanking,
    "kl": schemes.KLDivergence,
    "brier": schemes.SigmoidBrier,
    "softmax_brier": schemes.SoftmaxBrier,
    "seesaw": schemes.Seesaw,
    "equalization": schemes.Equalization,
    "logit_adjustment": schemes.LogitAdjustment,
    "balanced_softmax": partial(schemes.LogitAdjustment, tau=1.0),
    "ldam": schemes.LDAM,
}
BOX_LOSSES: dict[str, Callable[..., BoxLoss]] = {
    "smooth_l1": lambda beta: partial(regression.smooth_l1, beta=beta),
    "l1": lambda: regression.l1,
    "mse": lambda: regression.mse,
    "iou_squared": lambda: regression.iou_squared_loss,
    "giou": lambda: regression.giou_loss,
    "diou": lambda: regression.diou_loss,
    "ciou": lambda: regression.ciou_loss,
}
CONFIDENCE_LOSSES: dict[str, Callable[..., ConfidenceLoss]] = {
    "bce": lambda pos_weight: partial(confidence.confidence_bce, pos_weight=pos_weight),
    "focal": lambda alpha, gamma: partial(confidence.confidence_focal, alpha=alpha, gamma=gamma),
}
CODECS: dict[str, Callable[..., Codec]] = {
    "deltas": BoxCodec,
    "ltrb": LTRBCodec,
    "point_exp": PointExpCodec,
}
NORMALISERS: dict[str, Callable[..., normalisers.Normaliser]] = {
    "positives": lambda: normalisers.by_positives,
    "positives_per_image": lambda: normalisers.by_positives_per_image,
    "positives_plus_one": lambda: normalisers.by_positives_plus_one,
    "running_positives": lambda: normalisers.by_running_positives,
    "anchors": lambda: normalisers.by_anchors,
    "constant": normalisers.Constant,
}
ASSIGNERS: dict[str, Callable[..., Assigner]] = {
    "max_iou": MaxIoUAssigner,
    "atss": ATSSAssigner,
    "center": lambda size_limits, **options: CenterAssigner(size_ranges=_ranges(size_limits), **options),
    "sim_ota": SimOTAAssigner,
    "task_aligned": TaskAlignedAssigner,
}
SAMPLERS: dict[str, Callable[..., Order]] = {
    "uniform": lambda coco: Uniform(len(coco)),
    "repeat_factor": RepeatFactor.of,
    "class_aware": ClassAware.of,
}
FUSIONS: dict[str, postprocess.ScoreFusion] = {
    "product": postprocess.product,
    "geometric_mean": postprocess.geometric_mean,
    "class_only": postprocess.class_only,
    "confidence_only": postprocess.confidence_only,
}
FUSION_FAMILIES: dict[str, Callable[..., postprocess.ScoreFusion]] = {
    "powers": postprocess.PowersFusion,
}
SUPPRESSIONS: dict[str, Callable[..., postprocess.Suppression]] = {
    "nms": postprocess.NMS,
    "soft_nms": postprocess.SoftNMS,
    "box_voting": postprocess.BoxVoting,
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
    """Make the class scheme of a run.

    Raises:
        ConfigError: numbers by class that the training set must give first; see ``data.by_class``.
    """
    for key, value in run.class_scheme:
        if key in ("class_weights", "pos_weight", "neg_weight", "class_counts") and not (
            value is None or isinstance(value, list)
        ):
            raise ConfigError(f"class_scheme.{key}: {value!r} must be worked out from a training set first")
    return make(CLASS_SCHEMES, run.class_scheme)


def order(run: Run, coco: CocoSet) -> Order:
    """Make the order in which a run sees the images of its training set."""
    options = run.data.sampler.model_dump()
    return SAMPLERS[options.pop("name")](coco, **options)


def assigner(run: Run) -> Assigner:
    """Make the assigner of a run."""
    taught = run.loss.confidence_term.weight > 0
    options = run.assigner.model_dump(exclude={"name"})
    if run.assigner.name == "sim_ota":  # its cost is the class loss of the run
        kind: Literal["softmax", "sigmoid"] = "softmax" if class_scheme(run).sums_to_one else "sigmoid"
        return SimOTAAssigner(kind, use_confidence=taught, **options)
    if run.assigner.name == "task_aligned":
        return TaskAlignedAssigner(use_confidence=taught, **options)
    return make(ASSIGNERS, run.assigner)


def _ranges(limits: tuple[float, ...] | None) -> tuple[tuple[float, float], ...] | None:
    return None if limits is None else tuple(pairwise((0.0, *limits, math.inf)))


def codec(run: Run) -> Codec:
    """Make the box codec of a run, the same for loss and postprocessor."""
    return make(CODECS, run.codec)


def criterion(run: Run) -> DetectionLoss:
    """Make the loss of a run.

    Raises:
        ConfigError: parts that do not fit each other.
    """
    scheme = class_scheme(run)
    try:
        return DetectionLoss(
            scheme,
            make(BOX_LOSSES, run.loss.box_loss),
            codec(run),
            class_term=_term(run.loss.class_term),
            confidence_term=_term(run.loss.confidence_term),
            box_term=_term(run.loss.box_term),
            class_on=run.loss.class_on,
            confidence_on=run.loss.confidence_on,
            confidence_loss=make(CONFIDENCE_LOSSES, run.loss.confidence_loss),
            confidence_target=run.loss.confidence_target,
            hard_negatives=run.loss.hard_negatives,
            extra=dict(_extra_terms(run, scheme)),
            class_l2=run.loss.class_l2,
            # Over all anchors it would cost as much as the loss itself.
            observe=scheme.uses_classes_seen or run.loss.class_on == "positives",
        )
    except ValueError as error:
        raise ConfigError(f"loss: {error}") from None


def _extra_terms(run: Run, scheme: schemes.ClassScheme) -> Iterator[tuple[str, tuple[Term, ExtraLoss]]]:
    embedding, distillation = run.loss.embedding, run.loss.distillation
    if embedding is not None:
        options = embedding.model_dump(exclude={"weight"})
        yield "embedding", (Term(embedding.weight), EmbeddingLoss(**options))
    if distillation is not None:
        activation: Literal["softmax", "sigmoid"] = "softmax" if scheme.sums_to_one else "sigmoid"
        yield (
            "distillation",
            (Term(distillation.weight), Distillation(distillation.temperature, activation)),
        )


def postprocessor(run: Run) -> postprocess.Postprocessor:
    """Make the postprocessor of a run.

    Raises:
        ConfigError: thresholds by name, whose labels the training set must give first.
    """
    section = run.postprocess
    options = section.model_dump(exclude={"fusion", "suppression", "class_thresholds"})
    chosen, own = section.fusion, section.class_thresholds
    if isinstance(own, dict):
        raise ConfigError(f"postprocess.class_thresholds: {own} must be put in the order of the labels first")
    fusion = FUSIONS[chosen] if isinstance(chosen, str) else make(FUSION_FAMILIES, chosen)
    return postprocess.Postprocessor(
        class_scheme(run),
        codec(run),
        fusion,
        suppression=make(SUPPRESSIONS, section.suppression),
        class_thresholds=tuple(own or ()),
        **options,
    )


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
    pyramid = _neck(run, backbone)
    enlarge = run.backbone.enlarge
    grid = _grid(run, seen_strides(pyramid.strides, enlarge))
    _seed(run.seed, "head")
    head = _head(run, grid, num_classes)
    # The faster layout for convolutions, and the one in which the head's output needs a single copy.
    made: Detector = Detector(pyramid, head, grid, enlarge=enlarge).to(memory_format=torch.channels_last)
    quicken_depthwise(made)
    return made


def _grid(run: Run, strides: tuple[float, ...]) -> AnchorGrid:
    section = run.anchors
    if section.shapes is not None:
        levels = (tuple((width, height) for width, height in level) for level in section.shapes)
        return AnchorGrid(strides, tuple(levels))
    return AnchorGrid.from_sizes(strides, section.sizes or (), ratios=section.ratios, scales=section.scales)


def _neck(run: Run, backbone: Any) -> FeaturePyramid:
    options = run.neck.model_dump(exclude={"name", "channels"})
    try:
        return NECKS[run.neck.name](backbone, run.neck.channels, **options)
    except ValueError as error:
        raise ConfigError(f"neck: {error}") from None


def _head(run: Run, grid: AnchorGrid, num_classes: int) -> DetectionHead:
    if run.head.class_prior == "data":
        raise ConfigError("head.class_prior: 'data' must be worked out from a training set first")
    options = run.head.model_dump() | {"box_bias": anchor_code(codec(run)), "levels": len(grid.strides)}
    try:
        return DetectionHead(
            run.neck.channels, grid.anchors_per_cell, num_classes, class_scheme(run), **options
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"head: {error}") from None


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
