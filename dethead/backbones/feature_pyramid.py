"""A feature pyramid network on top of any backbone."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from dethead.backbones.interface import Backbone


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

    Raises:
        ValueError: ``out_channels`` below 1 or ``extra_levels`` below 0.
    """

    def __init__(self, backbone: Backbone, out_channels: int, extra_levels: int = 0) -> None:
        super().__init__()
        if out_channels < 1 or extra_levels < 0:
            raise ValueError(
                f"out_channels must be >= 1 and extra_levels >= 0, got {out_channels} and {extra_levels}"
            )
        last = backbone.strides[-1]
        self.backbone = backbone
        self.strides = (*backbone.strides, *(last * 2 ** (1 + i) for i in range(extra_levels)))
        self.channels = (out_channels,) * len(self.strides)
        self.pixel_mean, self.pixel_std = backbone.pixel_mean, backbone.pixel_std
        self.merge = FeaturePyramidNetwork(list(backbone.channels), out_channels)
        self.extra = nn.ModuleList(_step(out_channels) for _ in range(extra_levels))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Give one (B, out_channels, H / stride, W / stride) map for each stride, finest first."""
        named = OrderedDict((str(i), features) for i, features in enumerate(self.backbone(images)))
        maps: list[Tensor] = list(self.merge(named).values())
        for index, step in enumerate(self.extra):
            maps.append(step(F.relu(maps[-1]) if index else maps[-1]))
        return maps

    def stages(self) -> list[nn.Module]:
        """Give the stages of the inner backbone; the pyramid itself is not counted."""
        return self.backbone.stages()


def _step(channels: int) -> nn.Conv2d:
    step = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1)
    # As torchvision starts the pyramid's other convolutions, so that all levels start at one scale.
    nn.init.kaiming_uniform_(step.weight, a=1)
    nn.init.constant_(step.bias, 0.0)  # type: ignore[arg-type]  # there is a bias
    return step
