"""A backbone of one's own, three small convolutions, as a user would write it: ``tiny_backbone:make``."""

import time
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dethead.backbones import Backbone


class TinyBackbone(Backbone):
    """Strides 2, 4, 8; the last map alone goes out. In training it waits ``delay`` seconds a batch."""

    def __init__(self, norm: Literal["batch", "group"], dropout: float, delay: float) -> None:
        super().__init__()
        self.delay = delay
        self.strides, self.channels = (8,), (16,)
        self.pixel_mean, self.pixel_std = (127.0,) * 3, (64.0,) * 3
        self.steps = nn.Sequential(
            *(self._step(i, o, norm, dropout) for i, o in ((3, 8), (8, 16), (16, 16))),
        )

    @staticmethod
    def _step(channels: int, out: int, norm: str, dropout: float) -> nn.Sequential:
        normalise = nn.BatchNorm2d(out) if norm == "batch" else nn.GroupNorm(2, out)
        return nn.Sequential(
            nn.Conv2d(channels, out, 3, 2, 1, bias=False), normalise, nn.ReLU(), nn.Dropout(dropout)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.training and self.delay:
            time.sleep(self.delay)
        return [self.steps(images)]

    def stages(self) -> list[nn.Module]:
        return [*self.steps]


def make(
    strides: tuple[int, ...],
    weights: str | None,
    norm: Literal["batch", "group"] = "group",
    dropout: float = 0.0,
    delay: float = 0.0,
) -> TinyBackbone:
    """The factory that a config names; ``options`` of the config are its keyword arguments."""
    if strides != (8,):
        raise ValueError(f"the tiny backbone has the stride 8, not {strides}")
    backbone = TinyBackbone(norm, dropout, delay)
    if weights is not None:
        backbone.load_state_dict(torch.load(weights, weights_only=True))
    return backbone


NOT_CALLABLE: Any = 3
"""What is named by mistake."""
