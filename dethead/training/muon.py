"""Muon: steps of matrices whose singular values are all near 1."""

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Of the polynomial a x + b x^3 + c x^5, which carries singular values towards 1 (Jordan et al. 2024). Five
# times over, it brings those of 0.003 and more, as shares of the norm, to between 0.6 and 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon for matrices, AdamW for everything else, as one optimizer.

    The step of a matrix is its averaged gradient with all singular values brought to about 1: directions that
    few images ask for are learnt as fast as those that all do. A convolution's (out, in, h, w) weight is the
    matrix (out, in * h * w).

    Args:
        groups: of parameters, as PyTorch's optimizers take them; those of a group with ``matrices=True`` have
            two or more dimensions and are moved by Muon. Leave output layers, depthwise convolutions, biases
            and normalisation to AdamW. ``lr`` and ``weight_decay`` mean in both what they mean in AdamW.
        lr: learning rate of groups that do not name theirs.
        weight_decay: likewise.
        momentum: share of the average that stays in a step, in [0, 1); Nesterov's way of looking ahead.
        update_rms: root mean square of a matrix's step, in learning rates. That of AdamW is 0.2 to 0.4, so
            that the two can share one.
        fused: of AdamW.

    Raises:
        ValueError: a parameter of one dimension, or none, among the matrices.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; ``update_rms`` and decay from Liu
    et al. 2025, https://arxiv.org/abs/2502.16982, section 2.2. torch.optim.Muon (PyTorch 2.9 and newer) does
    the same, in bfloat16, to parameters of two dimensions alone.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float = 1.0e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        update_rms: float = 0.2,
        fused: bool | None = None,
    ) -> None:
        self._adamw = torch.optim.AdamW([{"params": []}], fused=fused)
        own = {"matrices": False, "momentum": momentum, "update_rms": update_rms}
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, **own})
        # Fused AdamW takes up a scaler's scale by itself; here the scaler has to undo it, for the matrices.
        self._step_supports_amp_scaling = False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; see the class."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if not group["matrices"]:
            self._adamw.add_param_group(group)  # writes what else AdamW asks for into the group itself
            return
        for parameter in group["params"]:
            if parameter.ndim < 2:
                shape = tuple(parameter.shape)
                raise ValueError(f"matrices have 2 dimensions or more, got a parameter of shape {shape}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all parameters that have a gradient, and give what ``closure`` gives."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        # Anew each time: loading a state puts other groups and another state in their place.
        self._adamw.param_groups = [group for group in self.param_groups if not group["matrices"]]
        self._adamw.state = self.state
        self._adamw.step()
        self._step_of_matrices()
        return loss

    def _step_of_matrices(self) -> None:
        asked = [
            self._averaged(parameter, group)
            for group in self.param_groups
            if group["matrices"]
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        asked.sort(key=_Asked.shape)  # all of a shape at once, in one order on every machine
        for (_, columns, _), alike in groupby(asked, key=_Asked.shape):
            items = list(alike)
            steps = orthogonalised(torch.stack([item.wide for item in items]))
            for (parameter, _, is_tall, group), step in zip(items, steps, strict=True):
                # An orthogonal step has a mean square of 1 / columns.
                length = group["lr"] * group["update_rms"] * columns**0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                back = (step.T if is_tall else step).reshape(parameter.shape)
                parameter.add_(back.to(parameter.dtype), alpha=-length)

    def _averaged(self, parameter: Tensor, group: dict[str, Any]) -> "_Asked":
        gradient: Tensor = parameter.grad  # type: ignore[assignment]  # asked for by the caller
        state, momentum = self.state[parameter], group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        matrix = gradient.lerp(average, momentum).flatten(1).float()
        is_tall = matrix.shape[0] > matrix.shape[1]
        return _Asked(parameter, matrix.T if is_tall else matrix, is_tall, group)


class _Asked(NamedTuple):
    """What the gradients ask of one matrix; ``wide`` has no more rows than columns."""

    parameter: Tensor
    wide: Tensor
    is_tall: bool
    group: dict[str, Any]

    def shape(self) -> tuple[int, int, str]:
        return (self.wide.shape[0], self.wide.shape[1], str(self.wide.device))


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring the singular values of (K, M, N) matrices, M <= N, to 0.6 to 1.2; singular vectors stay.

    Zeros stay zeros, and singular values below 0.003 of the norm stay smaller. In float32.

    Newton and Schulz's iteration, of the (M, M) products of rows: as polynomials of one matrix they commute,
    so the (M, N) matrix itself is needed at the beginning and at the end only.
    """
    a, b, c = COEFFICIENTS
    unit = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    products = unit @ unit.mT
    change = identity
    for iteration in range(ITERATIONS):
        factor = a * identity + b * products + c * (products @ products)
        change = factor if iteration == 0 else factor @ change
        if iteration < ITERATIONS - 1:
            products = factor @ products @ factor
            products = (products + products.mT) / 2  # rounding would grow where it is not symmetric
    orthogonal: Tensor = change @ unit
    return orthogonal
