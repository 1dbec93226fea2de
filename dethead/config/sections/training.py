"""Postprocessing, optimiser, schedule, length."""

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from dethead.config.sections.section import (
    Count,
    Fraction,
    Natural,
    NotNegative,
    Positive,
    Probability,
    Section,
    by_name,
)


class Powers(Section):
    name: Literal["powers"]
    confidence_power: NotNegative
    class_power: NotNegative


class NMS(Section):
    name: Literal["nms"]


class SoftNMS(Section):
    """Scores of worse boxes on the same object decay; ``nms_iou`` has no part in it."""

    name: Literal["soft_nms"]
    sigma: Positive = 0.5
    """The larger, the softer."""


class BoxVoting(Section):
    """After NMS, each box moves to the mean of those on the same object, weighted by score."""

    name: Literal["box_voting"]
    overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """IoU from which a box votes."""
    iou_weighted: bool = False
    """Weights of score * IoU: nearer boxes count more."""
    agreement: NotNegative = 0.0
    """Votes have a say in the score, too: their sum, in scores, that is half of what it could be; 0: none."""


Suppression = Annotated[
    Annotated[NMS, Tag("nms")]
    | Annotated[SoftNMS, Tag("soft_nms")]
    | Annotated[BoxVoting, Tag("box_voting")],
    by_name("nms", "soft_nms", "box_voting"),
]


class Postprocess(Section):
    fusion: Literal["product", "geometric_mean", "class_only", "confidence_only"] | Powers = "product"
    """How confidence and class probability make a score; ``{name: powers, ...}``: confidence^a * class^b."""
    score_threshold: Fraction = 0.001
    pre_nms_top_k: Count = 1000
    nms_iou: Fraction = 0.6
    max_detections: Count = 300
    suppression: Suppression = NMS(name="nms")
    """What becomes of several boxes on one object."""
    class_thresholds: dict[str, Fraction] | list[Fraction] | None = None
    """``{name: score}`` (0 for the others), or C scores in order of the classes: detections of a class below
    its own are dropped, too. For pictures and alarms, after the scores are known; AP can only lose by it."""


class AdamW(Section):
    name: Literal["adamw"]
    lr: Positive
    weight_decay: NotNegative = 0.05
    backbone_lr_factor: NotNegative = 1.0
    """Learning rate of the backbone, in learning rates."""


class Muon(Section):
    """Brings the singular values of a step to about 1: matrices and convolutions by Muon, the rest by AdamW.

    The rest: biases, normalisation, depthwise convolutions and output layers.
    """

    name: Literal["muon"]
    lr: Positive
    weight_decay: NotNegative = 0.05
    backbone_lr_factor: NotNegative = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Of matrices."""
    update_rms: Positive = 0.2
    """Root mean square of a matrix's step, in learning rates; AdamW's is 0.2 to 0.4."""


class SGD(Section):
    name: Literal["sgd"]
    lr: Positive
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 1.0e-4
    backbone_lr_factor: NotNegative = 1.0


Optimizer = Annotated[
    Annotated[AdamW, Tag("adamw")] | Annotated[Muon, Tag("muon")] | Annotated[SGD, Tag("sgd")],
    by_name("adamw", "muon", "sgd"),
]


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
    Annotated[Cosine, Tag("cosine")] | Annotated[Steps, Tag("steps")], by_name("cosine", "steps")
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
    """Micro-batches of one optimiser step, to save memory. The gradient is the same, but where something
    looks at one micro-batch by itself: BatchNorm, loss.hard_negatives, loss.embedding, ghm, margin_ranking of
    the batch."""
    optimizer: Optimizer
    schedule: Schedule
    clip_norm: Positive | None = 10.0
    """Largest norm of the gradient."""
    ema: EMA | None = EMA()
    precision: Literal["no", "auto", "bf16", "fp16"] = "no"
    """Mixed precision; the losses stay in float32. auto is bf16 on devices that calculate in it, else no."""
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
