"""Weights from a file into a backbone, all of them or none."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dethead.backbones.chain import ChainBackbone

_SHOWN = 3
"""Keys named in an error."""


def load_weights(
    backbone: ChainBackbone, file: str | Path, rename: Callable[[str], str] = lambda key: key
) -> None:
    """Load a state dict of the backbone, or of the whole network that it was cut from.

    Args:
        backbone: filled in place.
        file: written by ``torch.save(model.state_dict(), file)``.
        rename: from a key in the file to a key of the backbone.

    Raises:
        ValueError: no such file, not a state dict, or one of another architecture: a parameter is missing or
            has another shape, or a key belongs neither to the backbone nor to the parts cut off.
    """
    found = {rename(key): value for key, value in _read(Path(file)).items()}
    wanted = backbone.state_dict()
    # Files written before PyTorch 0.4.1 do not count batches; no computation here reads that count.
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    missing = [k for k in needed if k not in found]
    mismatched = [k for k in wanted if k in found and found[k].shape != wanted[k].shape]
    dropped = tuple(f"{name}." for name in backbone.dropped)
    foreign = [k for k in found if k not in wanted and not k.startswith(dropped)]
    if missing or mismatched or foreign:
        examples = ", ".join((missing + mismatched + foreign)[:_SHOWN])
        raise ValueError(
            f"{file} seems to be of another architecture than {backbone.name}: of {len(needed)} keys "
            f"{len(missing)} are missing, {len(mismatched)} have another shape; {len(foreign)} are unknown "
            f"({examples}, ...)"
        )
    backbone.load_state_dict({k: found[k] for k in wanted if k in found}, strict=False)


def _read(file: Path) -> Mapping[str, Tensor]:
    if not file.is_file():
        raise ValueError(f"weights file {file} does not exist")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{file} cannot be read as a state dict: {error}") from error
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        keys = list(content)[:_SHOWN] if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{file} holds no plain state dict (name -> tensor) but {keys}")
    return content
