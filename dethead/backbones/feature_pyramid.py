"""A feature pyramid network on top of any backbone."""

import zlib
from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from dethead.backbones.interface import Backbone

NeckNorm = Literal["none", "batch"]


class FeaturePyramid(Backbone):
    """Maps of one width, in which the fine ones know what the coarse ones saw; itself a backbone.

    Extra levels are made by 3 x 3 convolutions of stride 2: P6 from P5, P7 from relu(P6), and so on, as in
    FCOS and in torchvision's second RetinaNet (its first takes P6 from the wider C5, at a higher cost).

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", 2017; extra levels: Lin et al.,
    "Focal Loss for Dense Object Detection", 2017, section 4.

    Args:
        backbone: whose maps are merged. Its strides need not be consecutive: maps are resized to the next.
        out_channels: of every map.
        extra_levels: number of maps behind the backbone's last; each doubles the stride.
        separable: depthwise 3x3 and pointwise 1x1 in place of the full 3x3 convolutions behind the sums.
            Those of extra levels stay full: on few cells they cost little.
        norm: "batch" puts batch normalisation behind every convolution, in place of its bias. There is no
            activation in this pyramid either way.

    Raises:
        ValueError: ``out_channels`` below 1, ``extra_levels`` below 0, or an unknown norm.
    """

    def __init__(
        self,
        backbone: Backbone,
        out_channels: int,
        extra_levels: int = 0,
        *,
        separable: bool = False,
        norm: NeckNorm = "none",
    ) -> None:
        super().__init__()
        if out_channels < 1 or extra_levels < 0:
            raise ValueError(
                f"out_channels must be >= 1 and extra_levels >= 0, got {out_channels} and {extra_levels}"
            )
        if norm not in ("none", "batch"):
            raise ValueError(f"norm must be 'none' or 'batch', got {norm!r}")
        stream = own_stream("separable")
        last = backbone.strides[-1]
        self.backbone = backbone
        self.strides = (*backbone.strides, *(last * 2 ** (1 + i) for i in range(extra_levels)))
        self.channels = (out_channels,) * len(self.strides)
        self.pixel_mean, self.pixel_std = backbone.pixel_mean, backbone.pixel_std
        self.merge = FeaturePyramidNetwork(list(backbone.channels), out_channels)
        self.extra = nn.ModuleList(convolution3x3(out_channels, stride=2) for _ in range(extra_levels))
        # The plain pyramid is drawn first and changed then: what two pyramids have in common starts alike.
        if separable:
            for block in self.merge.layer_blocks:
                block[0] = convolution3x3(out_channels, separable=True, stream=stream)
        if norm == "batch":
            for block in (*self.merge.inner_blocks, *self.merge.layer_blocks):
                normalise(block)
            self.extra = nn.ModuleList(normalise(nn.Sequential(step)) for step in self.extra)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Give one (B, out_channels, H / stride, W / stride) map for each stride, finest first."""
        maps = self.merged(self.backbone(images))
        for index, step in enumerate(self.extra):
            maps.append(step(F.relu(maps[-1]) if index else maps[-1]))
        return maps

    def merged(self, features: list[Tensor]) -> list[Tensor]:
        """Merge the backbone's maps: a (B, out_channels, H_l, W_l) map for each of its levels."""
        named = OrderedDict((str(i), one) for i, one in enumerate(features))
        return list(self.merge(named).values())

    def stages(self) -> list[nn.Module]:
        """Give the stages of the inner backbone; the pyramid itself is not counted."""
        return self.backbone.stages()


def own_stream(part: str) -> torch.Generator:
    """Make a stream of random numbers for a part that not every pyramid has.

    Its seed is made of the part's name and of the number that torch's stream gives next, and still gives.
    """
    with torch.random.fork_rng(devices=[]):
        seed = int(torch.randint(2**32, (), device="cpu"))
    return torch.Generator().manual_seed(seed + zlib.crc32(part.encode()))


def convolution3x3(
    channels: int, *, stride: int = 1, separable: bool = False, stream: torch.Generator | None = None
) -> nn.Module:
    """Make a padded 3 x 3 convolution that keeps the channels; ``separable``: depthwise, then pointwise."""
    if separable:
        depthwise = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
        return nn.Sequential(_start(depthwise, stream), _start(nn.Conv2d(channels, channels, 1), stream))
    return _start(nn.Conv2d(channels, channels, 3, stride, padding=1), stream)


def normalise(block: nn.Sequential) -> nn.Sequential:
    """Append batch normalisation, in place of the bias of the block's last convolution."""
    last = [module for module in block.modules() if isinstance(module, nn.Conv2d)][-1]
    last.register_parameter("bias", None)
    return block.append(nn.BatchNorm2d(last.out_channels))


def _start(convolution: nn.Conv2d, stream: torch.Generator | None) -> nn.Conv2d:
    # As torchvision starts the pyramid's other convolutions, so that all levels start at one scale.
    nn.init.kaiming_uniform_(convolution.weight, a=1, generator=stream)
    if convolution.bias is not None:
        nn.init.constant_(convolution.bias, 0.0)
    return convolution
