"""The sections of a config file: types, ranges and agreement. Nothing is built here."""

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: no unknown keys, no silent conversion, no later change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                close = difflib.get_close_matches(str(key), cls.model_fields, n=1)
                known = ", ".join(cls.model_fields)
                hint = f"did you mean {close[0]!r}?" if close else f"known keys: {known}"
                raise ValueError(f"unknown key {key!r}; {hint}")
        return values


class OwnPart(Section):
    """A part of the user's own, in place of a built-in one."""

    name: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """``package.module:factory``"""
    options: dict[str, Any] = {}
    """Keyword arguments of the factory."""


OWN: Literal["own"] = "own"


def _by_name(*names: str) -> Discriminator:
    """Pick a section by its ``name``; one with a colon is a part of the user's own."""

    def tag(value: Any) -> str | None:
        name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
        return OWN if isinstance(name, str) and ":" in name else name

    return Discriminator(
        tag,
        custom_error_type=UNKNOWN_NAME,
        custom_error_message="unknown name",
        custom_error_context={"names": ", ".join(names)},
    )


UNKNOWN_NAME = "unknown_name"
"""Type of the error for a ``name`` that no section has; its context lists the known ones."""


class Augment(Section):
    """Random changes of training images, in this order; a number is a probability unless said otherwise."""

    photometric: Fraction = 0.5
    zoom_out: Fraction = 0.3
    zoom_out_max: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """Largest side of the canvas, in sides of the image."""
    iou_crop: Fraction = 1.0
    """An IoU crop of probability 1 still leaves one image in seven whole."""
    flip: Fraction = 0.5
    min_box_size: NotNegative = 2.0
    """Objects narrower or lower than so many original pixels after all changes are dropped."""


class Data(Section):
    classes: list[str | dict[str, list[str]]] | None = None
    """Order is label. ``person`` takes a category as it is, ``{pedestrian: [person]}`` renames or merges;
    null takes all categories of the training file in order of their ids."""
    other_categories: Literal["background", "ignore"] = "background"
    """Objects of categories that are not chosen."""
    invalid_boxes: Literal["error", "drop"] = "error"
    """Boxes of no size, outside the image or nan: stop, or leave them out of the training and count them."""
    merge_equal_boxes: bool = False
    """Equal boxes of different categories in an image are one object with several labels."""
    skip_unreadable: bool = False
    """Leave out, and count, images that are missing or broken: no loss, no score."""
    image_size: Annotated[list[Count], Field(min_length=2, max_length=2)]
    """(height, width) in px that images are fitted into; multiples of the coarsest stride waste least."""
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _distinct_classes(self) -> Self:
        if self.classes is None:
            return self
        names = [n for one in self.classes for n in ([one] if isinstance(one, str) else one)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            what = f"names {twice[0]!r} twice" if twice else "is empty: null takes all categories"
            raise ValueError(f"classes {what}")
        return self


class Backbone(Section):
    name: str
    """A classification model of torchvision by its name, or ``package.module:factory``."""
    strides: Annotated[list[Count], Field(min_length=1)] = [8, 16, 32]
    """Pyramid levels taken from the backbone, finest first."""
    weights: str | None = None
    """Name of a torchvision weights enum such as IMAGENET1K_V2. A file is given by --weights instead."""
    frozen_stages: Natural = 0
    """Stages, stem first, that are not trained."""
    norm: Literal["train", "frozen", "sync"] = "train"
    """BatchNorm of the backbone: trained, kept as loaded, or with statistics over all processes."""
    options: dict[str, Any] = {}
    """Further keyword arguments of a factory of one's own."""

    @model_validator(mode="after")
    def _finest_first(self) -> Self:
        if self.strides != sorted(set(self.strides)):
            raise ValueError(f"strides must increase, finest first, got {self.strides}")
        return self


class Neck(Section):
    """Feature pyramid network between backbone and head."""

    channels: Count = 128
    extra_levels: Annotated[int, Field(ge=0, le=2)] = 0
    """Coarser levels on top, each of twice the stride: 1 adds P6, 2 adds P6 and P7."""


class Head(Section):
    width: Count | None = None
    """Channels of the tower; null takes those of the neck."""
    depth: Natural = 2
    """Convolutions in the tower."""
    separable: bool = False
    norm: Literal["group", "batch", "none"] = "group"
    class_prior: Probability | list[Probability] | None = None
    """Class probability at the start, one for all or one for each; null is 1/C."""
    confidence_prior: Probability = 0.01


class Anchors(Section):
    sizes: Annotated[list[Positive], Field(min_length=1)]
    """Square root of the area in px, one for each level."""
    ratios: Annotated[list[Positive], Field(min_length=1)] = [0.5, 1.0, 2.0]
    """Height / width."""
    scales: Annotated[list[Positive], Field(min_length=1)] = [1.0]
    """Factors on every size."""


class SoftmaxCE(Section):
    name: Literal["softmax_ce"]
    class_weights: list[NotNegative] | None = None
    """Factor on the class loss of a box, one for each class."""


class SigmoidBCE(Section):
    name: Literal["sigmoid_bce"]
    class_weights: list[NotNegative] | None = None
    """Factor on the class loss of a box, one for each class."""
    pos_weight: list[NotNegative] | None = None
    """Factor on the "yes" term alone, one for each class."""


ClassScheme = Annotated[
    Annotated[SoftmaxCE, Tag("softmax_ce")]
    | Annotated[SigmoidBCE, Tag("sigmoid_bce")]
    | Annotated[OwnPart, Tag(OWN)],
    _by_name("softmax_ce", "sigmoid_bce"),
]


class ByCount(Section):
    name: Literal["positives", "positives_per_image", "anchors"]


class ByConstant(Section):
    name: Literal["constant"]
    value: Positive


Normaliser = Annotated[
    Annotated[ByCount, Tag("positives")]
    | Annotated[ByCount, Tag("positives_per_image")]
    | Annotated[ByCount, Tag("anchors")]
    | Annotated[ByConstant, Tag("constant")]
    | Annotated[OwnPart, Tag(OWN)],
    _by_name("positives", "positives_per_image", "anchors", "constant"),
]


class Term(Section):
    weight: NotNegative = 1.0
    normaliser: Normaliser = ByCount(name="positives")


class SmoothL1(Section):
    name: Literal["smooth_l1"]
    beta: NotNegative
    """Where the square ends and the line begins, in units of the deltas; 0 is L1."""


BoxLoss = Annotated[
    Annotated[SmoothL1, Tag("smooth_l1")] | Annotated[OwnPart, Tag(OWN)], _by_name("smooth_l1")
]


class Loss(Section):
    class_term: Term = Term()
    confidence_term: Term = Term()
    box_term: Term = Term()
    box_loss: BoxLoss
    confidence_target: Literal["one", "iou"] = "one"
    """What a positive anchor's confidence is taught: 1, or the IoU of its decoded prediction."""


class Codec(Section):
    weights: Annotated[list[Positive], Field(min_length=4, max_length=4)] = [1.0, 1.0, 1.0, 1.0]
    """Factors on dx, dy, dw, dh."""


class MaxIoU(Section):
    name: Literal["max_iou"]
    positive_iou: Fraction = 0.5
    negative_iou: Fraction = 0.4
    low_quality: bool = True
    """A box without an anchor above positive_iou gets its best ones all the same."""
    ignore_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of an anchor's area inside an ignore region from which on it is ignored."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.negative_iou > self.positive_iou:
            raise ValueError(f"negative_iou {self.negative_iou} is above positive_iou {self.positive_iou}")
        return self


Assigner = Annotated[Annotated[MaxIoU, Tag("max_iou")] | Annotated[OwnPart, Tag(OWN)], _by_name("max_iou")]


class Postprocess(Section):
    fusion: Literal["product", "geometric_mean", "class_only", "confidence_only"] = "product"
    """How confidence and class probability make a score."""
    score_threshold: Fraction = 0.001
    pre_nms_top_k: Count = 1000
    nms_iou: Fraction = 0.6
    max_detections: Count = 300


class AdamW(Section):
    name: Literal["adamw"]
    lr: Positive
    weight_decay: NotNegative = 0.05
    backbone_lr_factor: NotNegative = 1.0
    """Learning rate of the backbone, in learning rates."""


class SGD(Section):
    name: Literal["sgd"]
    lr: Positive
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 1.0e-4
    backbone_lr_factor: NotNegative = 1.0


Optimizer = Annotated[Annotated[AdamW, Tag("adamw")] | Annotated[SGD, Tag("sgd")], _by_name("adamw", "sgd")]


class Cosine(Section):
    name: Literal["cosine"]
    warmup_steps: Natural = 100
    final_factor: Fraction = 0.01
    """Learning rate at the end, in learning rates."""


class Steps(Section):
    name: Literal["steps"]
    warmup_steps: Natural = 100
    milestones: list[Count]
    """Epochs after which the learning rate is multiplied by ``factor``."""
    factor: Fraction = 0.1


Schedule = Annotated[
    Annotated[Cosine, Tag("cosine")] | Annotated[Steps, Tag("steps")], _by_name("cosine", "steps")
]


class EMA(Section):
    """Exponential moving average of the weights: what is evaluated and used afterwards."""

    decay: Probability = 0.998
    warmup_steps: Natural = 200
    """The average forgets faster at first: decay * (1 - exp(-step / warmup_steps))."""


class Training(Section):
    epochs: Count
    batch_size: Count
    """Images of one optimiser step, over all processes and micro-batches."""
    accumulate: Count = 1
    """Micro-batches of one optimiser step, to save memory; the gradient is the same."""
    optimizer: Optimizer
    schedule: Schedule
    clip_norm: Positive | None = 10.0
    """Largest norm of the gradient."""
    ema: EMA | None = EMA()
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; the losses stay in float32."""
    compile: bool = False
    """torch.compile the detector."""
    validate_every: Count = 1
    """Epochs between validations; the last epoch is always validated."""
    log_every: Count = 10
    """Steps between lines of log.jsonl."""
    checkpoint_every: Count | None = None
    """Steps between checkpoints besides those at the end of every epoch."""

    @model_validator(mode="after")
    def _milestones_within(self) -> Self:
        late = [m for m in getattr(self.schedule, "milestones", []) if m >= self.epochs]
        if late:
            raise ValueError(f"schedule.milestones: {late[0]} is not before the last of {self.epochs} epochs")
        return self

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into {self.accumulate} micro-batches "
                "(accumulate)"
            )
        return self


class Run(Section):
    """One run, complete."""

    seed: Natural = 0
    """Fixes the initial weights, the order of the images and their augmentation."""
    data: Data
    backbone: Backbone
    neck: Neck = Neck()
    head: Head = Head()
    anchors: Anchors
    class_scheme: ClassScheme
    loss: Loss
    codec: Codec = Codec()
    assigner: Assigner
    postprocess: Postprocess = Postprocess()
    training: Training

    @model_validator(mode="after")
    def _one_value_per_class(self) -> Self:
        """Lists by class must have one value per class, as far as the config names the classes."""
        if self.data.classes is not None:
            self.check_lists(sum(1 if isinstance(one, str) else len(one) for one in self.data.classes))
        return self

    def check_lists(self, classes: int) -> None:
        """Refuse a list by class that has not C values.

        Args:
            classes: C, which the data decide where the config takes all categories.

        Raises:
            ValueError: naming the list.
        """
        lists: dict[str, Any] = {f"class_scheme.{key}": value for key, value in self.class_scheme}
        lists["head.class_prior"] = self.head.class_prior
        for key, values in lists.items():
            if isinstance(values, list) and len(values) != classes:
                raise ValueError(f"{key} has {len(values)} values for {classes} classes")

    @model_validator(mode="after")
    def _whole_cells(self) -> Self:
        """Networks round a started cell up or down, each in its way; whole cells are right for all."""
        coarsest = self.backbone.strides[-1]
        if any(side % coarsest for side in self.data.image_size):
            raise ValueError(
                f"data.image_size {self.data.image_size} must be multiples of the backbone's coarsest stride "
                f"{coarsest}"
            )
        return self

    @model_validator(mode="after")
    def _one_size_per_level(self) -> Self:
        levels = len(self.backbone.strides) + self.neck.extra_levels
        if len(self.anchors.sizes) != levels:
            raise ValueError(
                f"anchors.sizes has {len(self.anchors.sizes)} values for {levels} levels "
                f"(strides {self.backbone.strides} and {self.neck.extra_levels} extra)"
            )
        return self
