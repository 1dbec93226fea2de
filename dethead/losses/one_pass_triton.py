"""The passes of ``one_pass`` over a head's output on a GPU, one kernel each. Needs Triton.

Every operation of PyTorch reads tensors from the GPU's memory and writes one there. ``teach`` reads each
logit once and writes its gradient once; loss and slope by ``background``'s formulas happen in between, in
registers. The output is taken as one long row of numbers, in blocks of ``BLOCK``: all lanes work, whatever
the number of classes, and load and store 16 bytes at once. Losses are summed by block, and the sums by
PyTorch: every run gives the same bits. Nothing here makes the processor wait for the GPU.
"""

from functools import partial
from typing import Final, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dethead.losses import background

BLOCK: Final = 2048
"""Numbers of the output that one program of a kernel works on, 16 for each of its 128 threads."""

FORMULAS: Final = (background.bce, background.focal, background.poly1, background.asymmetric)
"""What ``_loss_and_slope`` has, too. One more is written there, with its parameters, and named here."""


class Formula(NamedTuple):
    """A formula of ``background`` by its name, and the parameters of all of them."""

    name: str
    gamma: float = 0.0
    epsilon: float = 0.0
    clip: float = 0.0


def known(formula: background.Formula) -> Formula | None:
    """Find a formula of ``FORMULAS``, with or without parameters set by ``partial``; None: any other.

    Example:
        >>> known(partial(background.focal, gamma=2.0))
        Formula(name='focal', gamma=2.0, epsilon=0.0, clip=0.0)
    """
    plain, settings = formula, {}
    if isinstance(formula, partial) and not formula.args:
        plain, settings = formula.func, formula.keywords
    if not any(plain is one for one in FORMULAS):
        return None
    return Formula(plain.__name__, **{name: float(value) for name, value in settings.items()})


def teach(outputs: Tensor, formula: Formula, factors: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Teach background in one pass.

    Args:
        outputs: (N, C + 5) on a GPU; float32, float64 or bfloat16.
        formula: what each class logit costs.
        factors: (N,) on each row's loss; float64 where ``outputs`` are, else float32. A row of factor 0 costs
            nothing and gets a gradient of 0, whatever its logits are.
        weight: (C,) on the loss of each class; None: 1.

    Returns:
        Scalar loss of the type of ``factors``, and its gradient: (N, C + 5) of the type of ``outputs``,
        contiguous, 0 in the last five columns.
    """
    outputs, classes = outputs.contiguous(), outputs.shape[1] - 5
    gradient, costs = torch.empty_like(outputs), factors.new_empty(_blocks(outputs))
    if weight is not None:
        weight = weight.to(factors.dtype).expand(classes).contiguous()
    # Triton starts kernels on the current device.
    with torch.cuda.device_of(outputs):  # type: ignore[no-untyped-call]
        _teach[(len(costs),)](
            outputs,
            factors.contiguous(),
            weight,
            gradient,
            costs,
            outputs.numel(),
            classes=classes,
            **formula._asdict(),
            block=BLOCK,
            enable_fp_fusion=True,
        )
    return costs.sum(), gradient


def scale(gradient: Tensor, factor: Tensor) -> None:
    """Multiply the class columns of a contiguous (..., C + 5) gradient by a scalar of the same GPU, in place.

    The GPU looks at the factor: where it is 1, as it mostly is, the gradient is neither read nor written.
    """
    with torch.cuda.device_of(gradient):  # type: ignore[no-untyped-call]
        _scale[(_blocks(gradient),)](
            gradient, factor, gradient.numel(), classes=gradient.shape[-1] - 5, block=BLOCK
        )


def _blocks(tensor: Tensor) -> int:
    return -(-tensor.numel() // BLOCK)


@triton.jit
def _teach(
    outputs: tl.tensor,
    factors: tl.tensor,
    weight: tl.tensor,
    gradient: tl.tensor,
    costs: tl.tensor,
    total: tl.tensor,
    classes: tl.constexpr,
    name: tl.constexpr,
    gamma: tl.constexpr,
    epsilon: tl.constexpr,
    clip: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write one block's gradient and its sum of losses; ``outputs`` are a ``total`` of numbers."""
    start = tl.program_id(0).to(tl.int64) * block
    left = total - start
    # A mask keeps Triton from moving 16 bytes at once: the last block alone has one.
    if left >= block:
        cost = _teach_block(
            outputs, factors, weight, gradient, start, left, classes, name, gamma, epsilon, clip, block, False
        )
    else:
        cost = _teach_block(
            outputs, factors, weight, gradient, start, left, classes, name, gamma, epsilon, clip, block, True
        )
    tl.store(costs + tl.program_id(0), cost)


@triton.jit
def _teach_block(
    outputs: tl.tensor,
    factors: tl.tensor,
    weight: tl.tensor,
    gradient: tl.tensor,
    start: tl.tensor,
    left: tl.tensor,
    classes: tl.constexpr,
    name: tl.constexpr,
    gamma: tl.constexpr,
    epsilon: tl.constexpr,
    clip: tl.constexpr,
    block: tl.constexpr,
    last: tl.constexpr,
) -> tl.tensor:
    lanes = tl.arange(0, block)
    row, below, column = _places(start, lanes, classes)
    taught = column < classes
    if last:
        taught = taught & (lanes < left)
    factor = tl.load(factors + row + below, mask=taught, other=0)
    if weight is not None:
        factor *= tl.load(weight + column, mask=taught, other=0)
    logits = _load(outputs + start, lanes, left, last).to(factor.dtype)
    # An ignored row costs nothing even where its loss is infinite: its logits do not count.
    loss, slope = _loss_and_slope(tl.where(factor != 0, logits, 0), name, gamma, epsilon, clip)
    _store(gradient + start, slope * factor, lanes, left, last)
    return tl.sum(loss * factor)


@triton.jit
def _scale(
    gradient: tl.tensor, factor: tl.tensor, total: tl.tensor, classes: tl.constexpr, block: tl.constexpr
) -> None:
    """Multiply one block's class columns by a factor, unless that is 1."""
    by = tl.load(factor)
    if by != 1:
        start = tl.program_id(0).to(tl.int64) * block
        left = total - start
        if left >= block:
            _scale_block(gradient, by, start, left, classes, block, False)
        else:
            _scale_block(gradient, by, start, left, classes, block, True)


@triton.jit
def _scale_block(
    gradient: tl.tensor,
    by: tl.tensor,
    start: tl.tensor,
    left: tl.tensor,
    classes: tl.constexpr,
    block: tl.constexpr,
    last: tl.constexpr,
) -> None:
    lanes = tl.arange(0, block)
    _, _, column = _places(start, lanes, classes)
    slope = _load(gradient + start, lanes, left, last).to(by.dtype)
    _store(gradient + start, tl.where(column < classes, slope * by, slope), lanes, left, last)


@triton.jit
def _places(start: tl.tensor, lanes: tl.tensor, classes: tl.constexpr) -> tuple[tl.tensor, ...]:
    """The first row of a block, and for each of its numbers the rows below that and its column."""
    row = start // (classes + 5)
    # In 32 bits and without a sign: divisions of 64 would take longer than the loss.
    place = (start - row * (classes + 5)).to(tl.uint32) + lanes.to(tl.uint32)
    below = place // (classes + 5)
    return row, below, place - below * (classes + 5)


@triton.jit
def _load(where: tl.tensor, lanes: tl.tensor, left: tl.tensor, last: tl.constexpr) -> tl.tensor:
    return tl.load(where + lanes, mask=lanes < left, other=0) if last else tl.load(where + lanes)


@triton.jit
def _store(
    where: tl.tensor, numbers: tl.tensor, lanes: tl.tensor, left: tl.tensor, last: tl.constexpr
) -> None:
    rounded = numbers.to(where.dtype.element_ty)
    if last:
        tl.store(where + lanes, rounded, mask=lanes < left)
    else:
        tl.store(where + lanes, rounded)


@triton.jit
def _loss_and_slope(
    logits: tl.tensor, name: tl.constexpr, gamma: tl.constexpr, epsilon: tl.constexpr, clip: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """The formula of ``background`` that has this name."""
    p, n, s = _answers(logits)
    if name == "bce":
        loss = s
        slope = p
    elif name == "focal":
        power = _power(p, gamma)
        loss = power * s
        slope = power * (p + gamma * n * s)
    elif name == "poly1":
        loss = s + epsilon * p
        slope = p * (1 + epsilon * n)
    else:
        tl.static_assert(name == "asymmetric")
        m = tl.maximum(p - clip, 0)
        rest = tl.minimum(n + clip, 1)  # 1 - m
        cost = -tl.log(rest)
        power = _power(m, gamma)
        loss = power * cost
        slope = power / rest
        if gamma > 0:
            slope += gamma * _power(m, gamma - 1) * cost
        slope = tl.where(m > 0, p * n * slope, 0)
    return loss, slope


@triton.jit
def _answers(z: tl.tensor) -> tuple[tl.tensor, ...]:
    """Give p = sigmoid(z), n = 1 - p and s = softplus(z), none as a difference of nearly equal numbers."""
    e = tl.exp(-tl.abs(z))
    larger = 1 / (1 + e)
    smaller = e * larger
    p = tl.where(z > 0, larger, smaller)
    n = tl.where(z > 0, smaller, larger)
    return p, n, tl.maximum(z, 0) + _log1p(e)


@triton.jit
def _log1p(e: tl.tensor) -> tl.tensor:
    """log(1 + e), for e in [0, 1]."""
    if e.dtype == tl.float64:
        u = 1 + e
        log = tl.log(u) + (e - (u - 1))  # with what the rounding of u took away
    else:
        # Less than half of a logarithm's work: log(1 + e) / e by the polynomial of degree 8 whose largest
        # relative error is least, 3e-8; 2e-7 with rounding.
        q = 0.00523269363 * e - 0.0295052398
        q = q * e + 0.0782259628
        q = q * e - 0.136632472
        q = q * e + 0.191060081
        q = q * e - 0.24842982
        q = q * e + 0.333190978
        q = q * e - 0.499994934
        log = (q * e + 0.99999994) * e
    return log


@triton.jit
def _power(of: tl.tensor, exponent: tl.constexpr) -> tl.tensor:
    """Numbers in [0, 1] raised to an exponent that is not negative."""
    if exponent == 0:
        power = tl.full(of.shape, 1, of.dtype)
    elif exponent == 1:
        power = of
    elif exponent == 2:
        power = of * of
    else:
        power = tl.exp2(exponent * tl.log2(of))
    return power
