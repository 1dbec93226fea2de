"""The classification networks of torchvision, by name, as pyramids of feature maps."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn
from torchvision import models
from torchvision.models.maxvit import PartitionAttentionLayer

from dethead.backbones.chain import ChainBackbone
from dethead.backbones.weights_file import load_weights

_WITHOUT_PYRAMID: Final = {
    "vit_": "a vision transformer has maps of one stride only",
    "alexnet": "its 11 x 11 and 3 x 3 steps lie on no regular grid of cells",
    "googlenet": "it is no chain of blocks (auxiliary classifiers between them)",
    "inception_v3": "it is no chain of blocks, and its unpadded steps lie on no regular grid of cells",
}

_MAXVIT_SIZE: Final = (224, 224)
_MAXVIT_WINDOW: Final = 7
"""Cells along a window and along a grid; torchvision has MaxViT with this one only."""

_OLD_DENSENET_KEY: Final = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def torchvision_backbone(
    name: str, *, strides: Sequence[int] = (8, 16, 32), weights: str | None = None
) -> ChainBackbone:
    """Make a torchvision classification network into a pyramid; see ``ChainBackbone`` for what is cut off.

    SqueezeNet ends at stride 16; its unpadded stem is padded, so that its maps lie on a regular grid.
    MaxViT takes square images only, whose side is a multiple of 7 cells of the last map (224 px at stride
    32). Pixel mean and deviation are those of the weights that are named, else of the network's default ones.

    Args:
        name: as ``torchvision.models.get_model`` knows it, such as "resnet18" or "mobilenet_v3_large".
        strides: of the maps wanted, finest first; 4 exists too, in most networks also 2.
        weights: None for random ones; the name of torchvision's weights, such as "DEFAULT" or "IMAGENET1K_V2"
            (the only case that may download); or a state-dict file of the backbone or the whole network.

    Raises:
        ValueError: a name, stride or weights that do not exist, or a file of another architecture.
        ConnectionError: weights of torchvision that are not on this machine and cannot be downloaded.

    Example:
        >>> backbone = torchvision_backbone("resnet18")
        >>> backbone.strides, backbone.channels
        ((8, 16, 32), (128, 256, 512))
    """
    _check_name(name)
    published = _published_weights(name, weights)
    model = _build(name, published)
    mean, std = _pixel_statistics(published or models.get_model_weights(name).DEFAULT)
    if name.startswith("maxvit"):
        backbone = ChainBackbone(model, strides, mean, std, name=name, trace_size=_MAXVIT_SIZE)
        _make_resizable(backbone)
    else:
        backbone = ChainBackbone(model, strides, mean, std, name=name)
    if weights is not None and published is None:
        load_weights(backbone, weights, rename=lambda key: _OLD_DENSENET_KEY.sub(r"\1\2", key))
    return backbone


def _check_name(name: str) -> None:
    known = models.list_models(module=models)
    for start, reason in _WITHOUT_PYRAMID.items():
        if name in known and name.startswith(start):
            raise ValueError(f"{name} cannot be a backbone: {reason}")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise ValueError(f"torchvision has no classification network {name!r}; {advice}")


def _published_weights(name: str, weights: str | None) -> Any:
    """Give torchvision's enum member of that name, or None if ``weights`` is a file or nothing."""
    if weights is None:
        return None
    members = models.get_model_weights(name).__members__
    if weights in members:
        return members[weights]
    if not Path(weights).is_file():
        raise ValueError(
            f"weights {weights!r} of {name} are neither a file nor one of torchvision's: {', '.join(members)}"
        )
    return None


def _build(name: str, published: Any) -> nn.Module:
    try:
        model: nn.Module = models.get_model(name, weights=published)
    except OSError as error:  # urllib's errors are OSErrors
        raise ConnectionError(
            f"weights {published} of {name} are not on this machine and could not be downloaded ({error}); "
            "copy the file here by other means and give its path as weights"
        ) from error
    return model


def _pixel_statistics(published: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    transforms = published.transforms()
    mean, std = transforms.mean, transforms.std  # of pixels in [0, 1]
    return (mean[0] * 255, mean[1] * 255, mean[2] * 255), (std[0] * 255, std[1] * 255, std[2] * 255)


def _make_resizable(backbone: ChainBackbone) -> None:
    """Let MaxViT see other sizes than torchvision fixes at construction; no parameter depends on it."""
    backbone.register_forward_pre_hook(_check_square)
    for layer in backbone.modules():
        if isinstance(layer, PartitionAttentionLayer):
            layer.register_forward_pre_hook(_fit_windows)


def _check_square(backbone: ChainBackbone, inputs: tuple[Tensor]) -> None:
    height, width = inputs[0].shape[-2:]
    unit = _MAXVIT_WINDOW * backbone.strides[-1]
    if height != width or height % unit:
        raise ValueError(
            f"{backbone.name} with strides {backbone.strides} takes square images whose side is a multiple "
            f"of {unit} px, got {height} x {width}"
        )


def _fit_windows(layer: Any, inputs: tuple[Tensor]) -> None:
    """Tell an attention layer how many windows of 7 x 7 cells (or grids of 7 x 7 samples) its input has."""
    side = inputs[0].shape[-1]
    layer.grid_size, layer.n_partitions = (side, side), side // _MAXVIT_WINDOW
    setattr(layer, "p" if layer.partition_type == "grid" else "g", layer.n_partitions)
