"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excite, with ReLU6, for small devices.

Also the example of a network that torchvision does not have: a config names a factory that returns a
``Backbone``, here ``dethead.backbones.efficientnet_lite:efficientnet_lite0``.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from dethead.backbones.chain import ChainBackbone
from dethead.backbones.weights_file import load_weights

_STAGES: Final = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""(expansion, kernel, stride of the first block, channels, blocks). Source: Tan and Le, "EfficientNet", 2019,
table 1; Lite keeps the stem at 32 and the head at 1280 channels."""


def efficientnet_lite0(
    *, strides: Sequence[int] = (8, 16, 32), weights: str | Path | None = None
) -> ChainBackbone:
    """Make EfficientNet-Lite0 as a pyramid: 24, 40, 112, 320 channels at strides 4, 8, 16, 32.

    Modules are named as in the published file, so that it loads as it is. Padding is symmetric (kernel // 2);
    the published network pads as TensorFlow does, less at the left and the top where it steps by two.

    Args:
        strides: of the maps wanted, finest first.
        weights: state-dict file of the whole network (``_conv_stem.weight``, ...); None: random weights.

    Raises:
        ValueError: a stride that does not exist, or a file of another architecture.

    Example:
        >>> efficientnet_lite0(strides=(8, 16)).channels
        (40, 112)
    """
    # Google's pixel range: (x - 127) / 128, not ImageNet's mean and deviation.
    backbone = ChainBackbone(_network(), strides, (127.0,) * 3, (128.0,) * 3, name="efficientnet_lite0")
    if weights is not None:
        load_weights(backbone, weights)
    return backbone


class _Residual(nn.Sequential):
    """Layers whose input is added to their output."""

    def forward(self, features: Tensor) -> Tensor:
        change = features
        for layer in self:
            change = layer(change)
        return features + change


def _network() -> nn.Module:
    layers = [
        *_convolution("_conv_stem", "_bn0", 3, 32, 3, stride=2),
        ("_blocks", nn.Sequential(*_blocks())),
        *_convolution("_conv_head", "_bn1", 320, 1280, 1),
        ("avgpool", nn.AdaptiveAvgPool2d(1)),
        ("_fc", nn.Linear(1280, 1000)),
    ]
    return nn.Sequential(OrderedDict(layers))


def _blocks() -> Iterator[nn.Module]:
    entering = 32
    for expansion, kernel, first_stride, channels, repeats in _STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            yield _inverted_residual(entering, channels, expansion, kernel, stride)
            entering = channels


def _inverted_residual(entering: int, leaving: int, expansion: int, kernel: int, stride: int) -> nn.Module:
    """Widen, filter each channel by itself, narrow (Sandler et al., "MobileNetV2", 2018)."""
    wide = entering * expansion
    layers = [] if expansion == 1 else _convolution("_expand_conv", "_bn0", entering, wide, 1)
    layers += _convolution("_depthwise_conv", "_bn1", wide, wide, kernel, stride=stride, groups=wide)
    layers += _convolution("_project_conv", "_bn2", wide, leaving, 1)
    del layers[-1]  # no activation behind the narrow layer: a linear bottleneck
    same_shape = stride == 1 and entering == leaving
    return (_Residual if same_shape else nn.Sequential)(OrderedDict(layers))


def _convolution(
    name: str, norm: str, entering: int, leaving: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[tuple[str, nn.Module]]:
    """Give convolution, norm and activation with the names they have in the published file."""
    convolution = nn.Conv2d(entering, leaving, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
    return [
        (name, convolution),
        (norm, nn.BatchNorm2d(leaving, eps=1e-3, momentum=0.01)),
        (f"{norm}_relu6", nn.ReLU6(inplace=True)),
    ]
