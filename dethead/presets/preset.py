"""What a preset holds."""

from typing import NamedTuple, TypedDict

from dethead.anchors import AnchorGrid
from dethead.assigners import Assigner
from dethead.boxes import Codec
from dethead.criterion import DetectionLoss
from dethead.postprocess import Postprocessor
from dethead.schemes import ClassScheme


class HeadSettings(TypedDict):
    """Where a head starts; arguments of ``DetectionHead``."""

    class_prior: float
    """Probability that each class starts with."""
    confidence_prior: float
    """Probability that the confidence starts with; 0.5 where the system has none, or starts at logit 0."""
    box_bias: tuple[float, float, float, float]
    """The four box numbers that every anchor starts with."""


class Preset(NamedTuple):
    """A system's head, losses and decoding in dethead's parts, each of which works alone."""

    scheme: ClassScheme
    codec: Codec
    criterion: DetectionLoss
    assigner: Assigner
    postprocessor: Postprocessor
    grid: AnchorGrid
    """The system's anchors on its default pyramid; for other strides make your own."""
    head: HeadSettings
    """``DetectionHead(channels, grid.anchors_per_cell, C, scheme, **head)``."""
    differs: tuple[str, ...]
    """What the system does that these parts do not, in words."""
