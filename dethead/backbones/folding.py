"""Batch normalisation folded into the convolution before it: fewer passes over the maps, the same numbers."""

import copy
from collections import defaultdict
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from dethead.backbones.depthwise import DepthwiseConv2d
from dethead.backbones.freezing import FrozenBatchNorm2d

M = TypeVar("M", bound=nn.Module)

CONVOLUTIONS: Final = (nn.Conv2d, DepthwiseConv2d)
"""Types that multiply by their weights and add their bias; a subclass may do anything."""
NORMS: Final = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
"""Types that multiply and add per channel in evaluation; a subclass may do anything."""


@torch.no_grad()  # copies of scripted parts have no history either
def fold_batch_norm(module: M, example: Any) -> M:
    """Give a copy for inference in which a convolution does what the batch normalisation behind it did.

    With fixed statistics, normalisation is one number to multiply by and one to add per channel, and both can
    be part of the convolution: ``w * scale`` and ``(b - mean) * scale + bias`` with ``scale = weight /
    sqrt(variance + eps)``. Outputs are the same to rounding.

    Which normalisation follows which convolution is not guessed from names or order: the copy is called once,
    and a pair is folded only if every map of the convolution goes to that normalisation and nowhere else, and
    the normalisation sees no other maps. So one convolution and one normalisation that several levels share
    are folded, too. All else stays as it is. What cannot be seen is a network that takes another way for
    another image, or that reads the weights of a convolution otherwise than by calling it.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2018, https://arxiv.org/abs/1712.05877, section 3.2, equation 14.

    Args:
        module: on any device, in any mode; not changed.
        example: what it is called with, such as one (1, 3, H, W) image of zeros.

    Returns:
        The copy, in evaluation mode and without gradients; normalisations that were folded are
        ``nn.Identity``, and have their numbers still. It must not be trained, and its state dict has other
        keys than the module's.

    Example:
        >>> layers = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> fold_batch_norm(layers, torch.zeros(1, 3, 16, 16))
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
          (1): Identity()
          (2): ReLU()
        )
    """
    folded = _copied(module).eval().requires_grad_(False)
    watch = _Watch()
    watch.call(folded, example)
    for norm, convolution in watch.pairs().items():
        _absorb(convolution, norm)
        norm.__class__ = nn.Identity  # wherever the network finds it: by several names, in a plain list
    return folded


def _copied(module: M) -> M:
    """Copy a module; results that its parts have kept of a training step come without their history."""
    kept = tree_leaves([vars(part) for part in module.modules()])
    results = [one for one in kept if isinstance(one, Tensor) and not one.is_leaf]
    return copy.deepcopy(module, {id(one): one.detach() for one in results})


def _absorb(convolution: nn.Conv2d, norm: Any) -> None:
    numbers = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *numbers)
    convolution.weight, convolution.bias = weight.requires_grad_(False), bias.requires_grad_(False)


def _is_plain(part: nn.Module) -> bool:
    """Whether calling a layer does what its class says, and no more."""
    return not (part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))


def _is_fixed(norm: Any) -> bool:
    """Whether a normalisation does the same to every image: some stay in training mode for ever."""
    return norm.running_mean is not None and not norm.training


@dataclass(eq=False)
class _Map:
    """One output of a convolution, and what became of it."""

    maker: nn.Conv2d
    readers: int = 0
    """Operations that it went into."""
    norm: nn.Module | None = None
    """The normalisation that got it, the last of several."""
    kept: bool = False
    """Whether somebody still holds it in the end: it was given out, say."""


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's own
    """Follows the maps of convolutions while it is entered, through the operations of this thread alone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.maps: list[_Map] = []
        self.makers: dict[nn.Module, set[nn.Conv2d | None]] = defaultdict(set)
        """Of the maps that a normalisation got; None for anything but a convolution."""
        self._held: MutableMapping[Tensor, _Map] = WeakTensorKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and value in self._held:
                self._held[value].readers += 1
        return func(*args, **(kwargs or {}))

    def call(self, module: nn.Module, example: Any) -> None:
        """Call a module and see what happens."""
        hooks = []
        for part in module.modules():
            if type(part) in CONVOLUTIONS and _is_plain(part):
                hooks.append(part.register_forward_hook(self._made))
            elif type(part) in NORMS and _is_plain(part) and _is_fixed(part):
                hooks.append(part.register_forward_pre_hook(self._given, with_kwargs=True))
        with self:
            output = module(example)  # held, so that what is in it counts as kept
        for one in self._held.values():
            one.kept = True
        del output
        for hook in hooks:
            hook.remove()

    def _made(self, convolution: nn.Conv2d, _: Any, output: Tensor) -> None:
        self._held[output] = _Map(convolution)
        self.maps.append(self._held[output])

    def _given(self, norm: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
        found = self._held.get([*inputs, *named.values()][0])
        self.makers[norm].add(None if found is None else found.maker)
        if found is not None:
            found.norm = norm

    def pairs(self) -> dict[nn.Module, nn.Conv2d]:
        """Give the convolution of each normalisation that can be folded into one."""
        maps: dict[nn.Conv2d, list[_Map]] = defaultdict(list)
        for one in self.maps:
            maps[one.maker].append(one)
        found = {}
        for convolution, own in maps.items():
            norm = own[0].norm
            alone = all(one.norm is norm and one.readers == 1 and not one.kept for one in own)
            if norm is not None and alone and self.makers[norm] == {convolution}:
                found[norm] = convolution
        return found
