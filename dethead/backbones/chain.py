"""Any network that is a chain of blocks, cut into a pyramid of feature maps.

No table of layer names: a small image runs through the blocks once, and the shapes tell each block's stride.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from dethead.backbones.interface import Backbone

_CLASSIFIER_PARTS: Final = frozenset({"avgpool", "classifier", "fc", "head"})
"""A top-level part of this name, and whatever follows it, makes no feature maps."""

_TRACE_SIZE: Final = (64, 96)
"""(height, width) of the traced image, 2 x 3 cells at stride 32; not square, so that layouts tell apart."""


class _Block(NamedTuple):
    """One link of the chain."""

    name: str
    """As in the state dict."""
    module: nn.Module
    stride: int
    channels: int
    channels_last: bool
    """Gives (B, H, W, channels), as Swin does."""


class ChainBackbone(Backbone):
    """The blocks of a classification network up to the deepest stride that is asked for.

    Each map is the output of the deepest block at its stride. The classifier is dropped, and so is a last
    1 x 1 convolution that only widens the map for it (MobileNet, EfficientNet, ShuffleNet, MNASNet).
    Parameters keep the names that they have in ``model``, so its state dicts load. The blocks are taken over,
    not copied.

    Where s does not divide H, a map of stride s has ceil(H / s) rows in networks that step by padded
    convolutions (ResNet, MobileNet, EfficientNet, ...) and floor(H / s) in those that step by unpadded
    windows (VGG, ConvNeXt); DenseNet, Swin and SqueezeNet mix the two. Sizes that are multiples of the last
    stride are exact in all of them.

    Args:
        model: its children, with the members of plain ``nn.Sequential`` and ``nn.ModuleList`` in the place of
            their container, are called one after the other.
        strides: input pixels per cell of the maps wanted, finest first.
        pixel_mean: see ``Backbone``.
        pixel_std: see ``Backbone``.
        name: of the network, for errors.
        trace_size: (height, width) of the image that is traced, for networks that do not accept the default.

    Raises:
        ValueError: strides that are not increasing or that the network does not have.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1))
        >>> backbone = ChainBackbone(model, (2, 4), (127.0,) * 3, (128.0,) * 3, name="tiny")
        >>> [tuple(x.shape) for x in backbone(torch.zeros(1, 3, 32, 64))]
        [(1, 8, 16, 32), (1, 16, 8, 16)]
    """

    def __init__(
        self,
        model: nn.Module,
        strides: Sequence[int],
        pixel_mean: tuple[float, float, float],
        pixel_std: tuple[float, float, float],
        *,
        name: str,
        trace_size: tuple[int, int] = _TRACE_SIZE,
    ) -> None:
        super().__init__()
        _pad_steps(model)
        blocks = _without_widening(_trace(model, trace_size))
        taps = {block.stride: index for index, block in enumerate(blocks)}
        _check_strides(strides, sorted(taps), name)
        blocks = blocks[: taps[strides[-1]] + 1]
        self.name = name
        self.strides = tuple(strides)
        self.channels = tuple(blocks[taps[stride]].channels for stride in strides)
        self.pixel_mean, self.pixel_std = pixel_mean, pixel_std
        self.dropped = _dropped_names(model, {block.name for block in blocks})
        self._taps = frozenset(taps[stride] for stride in strides)
        self._block_strides = tuple(block.stride for block in blocks)
        self._channels_last = tuple(block.channels_last for block in blocks)
        self._opened = frozenset(block.name.split(".")[0] for block in blocks if "." in block.name)
        for block in blocks:
            self._adopt(block)

    def _adopt(self, block: _Block) -> None:
        container, _, member = block.name.rpartition(".")
        if container and container not in self._modules:
            self.add_module(container, nn.Sequential())
        parent = self.get_submodule(container) if container else self
        parent.add_module(member, block.module)

    def _chain(self) -> Iterator[nn.Module]:
        # Looked up anew each time, because converting a model replaces modules (set_norm, quantisation).
        for name, child in self.named_children():
            if name in self._opened:
                yield from child.children()
            else:
                yield child

    def forward(self, images: Tensor) -> list[Tensor]:
        """Give the maps of (B, 3, H, W) normalised images, finest first; see ``Backbone.forward``."""
        maps, features = [], images
        for index, block in enumerate(self._chain()):
            features = block(features)
            if index in self._taps:
                maps.append(features.permute(0, 3, 1, 2) if self._channels_last[index] else features)
        return maps

    def stages(self) -> list[nn.Module]:
        """Give one list of blocks for each stride at which the network computes: 2 (the stem), 4, 8, ..."""
        pairs = zip(self._block_strides, self._chain(), strict=True)
        return [nn.ModuleList(b for _, b in group) for _, group in groupby(pairs, key=lambda pair: pair[0])]


def _named_blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        # A subclass of nn.Sequential (convolution + norm + activation) is one block.
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from ((f"{name}.{member}", block) for member, block in child.named_children())
        else:
            yield name, child


def _trace(model: nn.Module, size: tuple[int, int]) -> list[_Block]:
    """Run one black image through the feature blocks; the model's training mode is left as it was."""
    parameter = next(model.parameters())
    features = torch.zeros(1, 3, *size, device=parameter.device, dtype=parameter.dtype)
    blocks = []
    modes = {module: module.training for module in model.modules()}
    model.eval()  # running statistics must not see the black image
    with torch.no_grad():
        for name, module in _named_blocks(model):
            if name.split(".")[0] in _CLASSIFIER_PARTS:
                break
            features = module(features)
            blocks.append(_describe(name, module, features, size))
    for module, mode in modes.items():
        module.training = mode
    return blocks


def _describe(name: str, module: nn.Module, features: Tensor, size: tuple[int, int]) -> _Block:
    _, *shape = features.shape
    channels_last = shape[1] * size[1] != shape[2] * size[0]
    rows, channels = (shape[0], shape[2]) if channels_last else (shape[1], shape[0])
    return _Block(name, module, size[0] // rows, channels, channels_last)


def _without_widening(blocks: list[_Block]) -> list[_Block]:
    """Cut off the last convolution, and what follows it, if it looks at single cells."""
    for index in reversed(range(len(blocks))):
        kernels = [m.kernel_size for m in blocks[index].module.modules() if isinstance(m, nn.Conv2d)]
        if kernels:
            return blocks[:index] if set(kernels) == {(1, 1)} else blocks
    return blocks


def _pad_steps(model: nn.Module) -> None:
    """Pad convolutions that step by two without padding (SqueezeNet's stem): H / 2 rows instead of H / 2 - 1.

    Only then do the cells of the maps behind lie on a regular grid: 64 px gave 31, 15, 7 and 3 rows.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.padding == (0, 0) and module.stride == (2, 2):
            height, width = module.kernel_size
            # An even kernel halves exactly as it is, and a 1 x 1 kernel stays unpadded.
            module.padding = (height // 2 * (height % 2), width // 2 * (width % 2))


def _check_strides(strides: Sequence[int], known: list[int], name: str) -> None:
    if not strides or list(strides) != sorted(set(strides)):
        raise ValueError(f"strides must be increasing and not empty, got {tuple(strides)}")
    if missing := [stride for stride in strides if stride not in known]:
        raise ValueError(f"{name} has no feature map of stride {missing[0]}; it has {known}")


def _dropped_names(model: nn.Module, kept: set[str]) -> tuple[str, ...]:
    """Name the blocks that were cut off; a container of which nothing was kept is named itself."""
    opened = {name.split(".")[0] for name in kept}
    names = [name if name.split(".")[0] in opened else name.split(".")[0] for name, _ in _named_blocks(model)]
    return tuple(name for name in dict.fromkeys(names) if name not in kept)
