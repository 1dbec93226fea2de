"""Which numbers are moved, how, and how fast."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dethead.config import Run
from dethead.config.sections import AdamW, Cosine, Muon
from dethead.detector import Detector
from dethead.training import muon


def make_optimizer(run: Run, detector: Detector) -> torch.optim.Optimizer:
    """Make the optimizer over all parameters that are trained.

    Weight decay applies to weights of convolutions and linear layers only: biases and normalisation would be
    pulled to values that mean something. The backbone has a learning rate of its own.
    """
    section = run.training.optimizer
    inner = _ids(detector.backbone.backbone.parameters())  # type: ignore[union-attr]
    layers = [m for m in detector.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    decaying = _ids([layer.weight for layer in layers])
    matrices = _ids(_matrices(layers, detector)) if isinstance(section, Muon) else set()
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for parameter in detector.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in inner, id(parameter) in decaying, id(parameter) in matrices)
            groups.setdefault(key, []).append(parameter)
    settings: list[dict[str, Any]] = []
    for (in_backbone, decays, by_muon), parameters in groups.items():
        lr = section.lr * (section.backbone_lr_factor if in_backbone else 1.0)
        decay = section.weight_decay if decays else 0.0
        group = {"params": parameters, "lr": lr, "base_lr": lr, "weight_decay": decay}
        settings.append({**group, "matrices": True} if by_muon else group)
    if isinstance(section, AdamW):
        return torch.optim.AdamW(settings, fused=_in_one_pass(detector))
    if isinstance(section, Muon):
        own = {"momentum": section.momentum, "update_rms": section.update_rms}
        return muon.Muon(settings, **own, fused=_in_one_pass(detector))
    return torch.optim.SGD(settings, momentum=section.momentum)


def _ids(parameters: Iterable[Tensor]) -> set[int]:
    return {id(parameter) for parameter in parameters}


def _matrices(layers: Iterable[nn.Module], detector: Detector) -> Iterator[Tensor]:
    """Weights that mix all channels, but those that make the outputs.

    Each output has a row of its own there, and its gradient a size that means something.
    """
    outputs: tuple[nn.Module, ...] = detector.head.output_layers  # type: ignore[assignment]
    for layer in layers:
        if layer not in outputs and getattr(layer, "groups", 1) == 1:
            yield layer.weight  # type: ignore[misc]


def _in_one_pass(detector: Detector) -> bool | None:
    """True where AdamW can move all numbers in one pass over them; None leaves the way to PyTorch.

    On the CPU that pass goes through the memory of a parameter, its gradient and their averages side by side,
    whatever their strides. Autograd gives a gradient the strides of its parameter if those leave no gaps.
    """
    return all(map(_is_simple, detector.parameters())) or None


def _is_simple(parameter: nn.Parameter) -> bool:
    without_gaps = torch.empty_like(parameter, device="meta").stride()
    floating = parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")
    return floating and parameter.stride() == without_gaps


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up a saved state, with the way of moving that it was saved with.

    That may be another than the optimizer was made for: checkpoints from before AdamW ran in one pass.
    """
    optimizer.load_state_dict(state)
    inner: Any = getattr(optimizer, "optimizer", optimizer)  # Accelerate's holds PyTorch's
    # That pass alone understands a scaler; PyTorch notes whether it is taken when an optimizer is made, only.
    if not isinstance(inner, muon.Muon):
        inner._step_supports_amp_scaling = all(group.get("fused") for group in inner.param_groups)


def lr_factor(run: Run, step: int, steps_per_epoch: int) -> float:
    """Give the learning rate of the ``step``-th step, counted from 0, as a share of the configured one."""
    schedule = run.training.schedule
    warmup = min((step + 1) / schedule.warmup_steps, 1.0) if schedule.warmup_steps else 1.0
    if isinstance(schedule, Cosine):
        progress = step / max(1, run.training.epochs * steps_per_epoch - 1)
        cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        return warmup * (schedule.final_factor + (1 - schedule.final_factor) * cosine)
    passed = sum(step >= epoch * steps_per_epoch for epoch in schedule.milestones)
    factor: float = warmup * schedule.factor**passed
    return factor


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to its configured rate times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
