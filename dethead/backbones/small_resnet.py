"""A residual network small enough to be trained from scratch on a CPU in minutes; the demo's backbone."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1

from dethead.backbones.chain import ChainBackbone
from dethead.backbones.weights_file import load_weights

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def small_resnet(
    *,
    strides: Sequence[int] = (8, 16, 32),
    weights: str | Path | None = None,
    width: int = 24,
    blocks: Sequence[int] = (1, 2, 2, 1),
) -> ChainBackbone:
    """Make a ResNet of basic blocks with ``width``, 2, 4 and 8 x ``width`` channels at strides 4, 8, 16, 32.

    The stem is one 3 x 3 convolution of stride 2; the first stage steps to stride 4, in place of a pooling.

    Source: He et al., "Deep Residual Learning for Image Recognition", 2015.

    Args:
        strides: of the maps wanted, finest first.
        weights: state-dict file of such a network; None: random weights.
        width: channels at stride 4.
        blocks: residual blocks of each stage.

    Raises:
        ValueError: a stride that does not exist, or a file of another architecture.

    Example:
        >>> small_resnet(width=16).channels
        (32, 64, 128)
    """
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
    entering = width
    for stage, count in enumerate(blocks):
        leaving = width * 2**stage
        for block in range(count):
            layers.append(_block(entering, leaving, stride=2 if block == 0 else 1))
            entering = leaving
    backbone = ChainBackbone(
        nn.Sequential(*layers), strides, IMAGENET_MEAN, IMAGENET_STD, name="small_resnet"
    )
    if weights is not None:
        load_weights(backbone, weights)
    return backbone


def _block(entering: int, leaving: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1 or entering != leaving:
        shortcut = nn.Sequential(conv1x1(entering, leaving, stride), nn.BatchNorm2d(leaving))
    return BasicBlock(entering, leaving, stride, shortcut)
