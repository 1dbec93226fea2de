"""The head's output in one pass: taken apart, its background taught, its gradient written into one tensor.

Autograd gives every view of the output a gradient of the whole output's size, and every step of a loss over
all anchors some more. Here the output is taken apart by one function, whose backward writes the gradient of
all parts into one tensor. A class loss over all anchors costs no further one: while a chunk of logits is in
the processor's cache, the forward pass computes loss and slope of the background and writes the slope down.
The few positive rows are given out, for any loss that autograd can differentiate.

On a GPU the chunks are a kernel of ``one_pass_triton``, where Triton is installed and has the formula.
"""

import warnings
from functools import cache
from types import ModuleType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from dethead.losses.background import Background
from dethead.losses.huge_pages import in_huge_pages

CHUNK: Final = 2**18
"""Logits in a chunk on a CPU: the four tensors of a formula, 1 MiB each in float32, share the cache."""

CHUNK_ELSEWHERE: Final = 2**22
"""Logits in a chunk on a GPU without a kernel: to start an operation costs more than to read memory again."""

DTYPES: Final = (torch.float32, torch.float64, torch.bfloat16)
"""Of outputs whose background can be taught so: float16 has no room for slopes that no scaler raised yet."""


class Parts(NamedTuple):
    """What ``take_apart`` gives."""

    rows: Tensor
    """(P, C + 5) output of the positive anchors."""
    confidence: Tensor
    """(B, A) confidence logits of all anchors."""
    background: Tensor | None
    """Scalar: the class loss of background, weighted, summed; None: not asked for."""
    slopes: Tensor | None
    """(C,) sums of what ``background`` sends into the logits of each class; nothing in it is negative."""


class Lesson(NamedTuple):
    """A class loss for background."""

    loss: Background
    factors: Tensor
    """(B, A) factor on each anchor's loss, 0 for anchors that are not background. No gradient flows there."""
    observed: bool
    """Whether ``Parts.slopes`` are wanted."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def take_apart(raw: Tensor, image: Tensor, anchor: Tensor, lesson: Lesson | None = None) -> Parts:
    """Take a head's output apart, and teach background.

    The first backward pass needs no memory but one tensor of the size of ``raw``, its gradient. A further one
    (``retain_graph``) goes over the logits again.

    Args:
        raw: (B, A, C + 5); with a lesson of one of ``DTYPES``.
        image: (P,) and
        anchor: (P,) places of the positive anchors, each once.
        lesson: what background costs; None: nothing.

    Returns:
        The parts. Gradients of all of them reach ``raw``, but for ``slopes``. With a lesson, to differentiate
        that gradient again raises a RuntimeError.

    Example:
        >>> from dethead.losses.background import bce
        >>> raw = torch.zeros(1, 2, 1 + 5, requires_grad=True)  # C = 1; a positive and a background anchor
        >>> lesson = Lesson(Background(bce), torch.tensor([[0.0, 1.0]]), observed=False)
        >>> parts = take_apart(raw, torch.tensor([0]), torch.tensor([0]), lesson)
        >>> parts.background  # ln 2
        tensor(0.6931, grad_fn=<_TakeApartBackward>)
        >>> parts.background.backward()
        >>> raw.grad[..., 0]  # sigmoid(0) where it is background
        tensor([[0.0000, 0.5000]])
    """
    rows, confidence, background, slopes = _TakeApart.apply(raw, image, anchor, lesson)
    return Parts(rows, confidence, background, slopes)


class _TakeApart(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, raw: Tensor, image: Tensor, anchor: Tensor, lesson: Lesson | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.lesson, ctx.written = lesson, None
        background = slopes = None
        if lesson is None:
            ctx.shape = raw.shape
            ctx.save_for_backward(image, anchor)
        else:
            ctx.save_for_backward(image, anchor, raw)
            background, slopes, ctx.written = _teach(raw, lesson)
            if slopes is not None:
                ctx.mark_non_differentiable(slopes)
        return raw[image, anchor], raw[..., -5].clone(), background, slopes

    @staticmethod
    def backward(
        ctx: Any, rows: Tensor | None, confidence: Tensor | None, background: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, None, None, None]:
        image, anchor, *taught = ctx.saved_tensors
        if not taught:
            some = rows if rows is not None else confidence
            gradient = None if some is None else in_huge_pages(some.new_empty(ctx.shape)).zero_()
            return _put(gradient, image, anchor, rows, confidence), None, None, None
        # The tensor is given away. Were it kept for another pass, autograd would have to copy it.
        gradient, ctx.written = ctx.written, None
        if gradient is None:
            gradient = _teach(taught[0], ctx.lesson)[2]
        with torch.no_grad():
            _scale(gradient, background)
            _put(gradient, image, anchor, rows, confidence)
        if torch.is_grad_enabled():  # somebody asked for a graph of this
            gradient = _RefuseTwice.apply(gradient, *taught)
        return gradient, None, None, None


class _RefuseTwice(torch.autograd.Function):
    """The gradient as it is; who differentiates it, reads why that cannot be."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, raw: Tensor) -> Tensor:
        return gradient

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[None, None]:
        raise RuntimeError(
            "one_pass writes the gradient of the class loss without a graph: it cannot be differentiated "
            "again. DetectionLoss(..., one_pass=False) can"
        )


def _put(
    gradient: Tensor | None, image: Tensor, anchor: Tensor, rows: Tensor | None, confidence: Tensor | None
) -> Tensor | None:
    """Add the gradients of the parts to the (B, A, C + 5) ``gradient``, whose other columns are 0."""
    if gradient is None:
        return None
    if confidence is not None:
        gradient[..., -5] = confidence
    if rows is not None:
        gradient[image, anchor] += rows
    return gradient


def _scale(gradient: Tensor, factor: Tensor | None) -> None:
    """Multiply the class columns of a (B, A, C + 5) gradient by that of their loss: 1, mostly."""
    slopes, kernels = gradient[..., :-5], _kernels(gradient)
    if factor is None:
        slopes.zero_()
    elif kernels is not None:
        kernels.scale(gradient, factor)
    # A GPU would have to be waited for to be asked.
    elif slopes.device.type != "cpu" or factor.item() != 1:
        slopes.mul_(factor)


def _kernels(tensor: Tensor) -> ModuleType | None:
    """Give ``one_pass_triton`` where it can work on a tensor."""
    # What stands for a tensor while a program is traced has no memory.
    if tensor.device.type != "cuda" or type(tensor) is not Tensor:
        return None
    return _kernels_on(tensor.device)


@cache
def _kernels_on(device: torch.device) -> ModuleType | None:
    """Give ``one_pass_triton`` where a GPU can run it. Triton comes with PyTorch for CUDA, on Linux."""
    try:
        import triton

        from dethead.losses import one_pass_triton
    except ImportError:
        return None
    if torch.cuda.get_device_capability(device) < (7, 0):  # older than Triton's oldest
        return None
    try:
        triton.runtime.driver.active.get_current_target()
    # Errors of many kinds: it is built by the C compiler found here, with Python's headers.
    except Exception as error:
        warnings.warn(
            f"class losses are slower than they could be: Triton cannot start: {error}", stacklevel=2
        )
        return None
    return one_pass_triton


def _teach(raw: Tensor, lesson: Lesson) -> tuple[Tensor, Tensor | None, Tensor]:
    """Scalar loss of the background, (C,) sums of its slopes, and its gradient of the shape of ``raw``."""
    outputs, weight = raw.detach().flatten(0, 1), lesson.loss.weight
    dtype = torch.promote_types(raw.dtype, torch.float32)
    factors = lesson.factors.detach().flatten().to(dtype)
    if not isinstance(weight, Tensor):
        factors = factors * weight
    kernels = _kernels(outputs)
    formula = None if kernels is None else kernels.known(lesson.loss.formula)
    if kernels is None or formula is None:
        background, slopes, gradient = _teach_in_chunks(outputs, factors, lesson)
    else:
        by_class = weight if isinstance(weight, Tensor) else None
        background, gradient = kernels.teach(outputs, formula, factors, by_class)
        slopes = gradient[:, :-5].sum(dim=0, dtype=dtype) if lesson.observed else None
    return background, slopes, gradient.view(raw.shape)


def _teach_in_chunks(
    outputs: Tensor, factors: Tensor, lesson: Lesson
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Give what ``_teach`` gives, of (N, C + 5) outputs and (N,) factors, by PyTorch's operations."""
    gradient = in_huge_pages(torch.empty_like(outputs, memory_format=torch.contiguous_format))
    classes, weight, device = outputs.shape[1] - 5, lesson.loss.weight, outputs.device
    costs = torch.empty_like(factors)
    slopes = factors.new_zeros(classes) if lesson.observed else None
    chunk = max(1, (CHUNK if device.type == "cpu" else CHUNK_ELSEWHERE) // classes)
    space = factors.new_empty(4, min(chunk, len(outputs)), classes)
    for start in range(0, len(outputs), chunk):
        here = slice(start, start + chunk)
        logits, *room = space[:, : len(outputs[here])]
        logits.copy_(outputs[here, :classes])
        cost, slope = lesson.loss.formula(logits, (room[0], room[1], room[2]))
        if isinstance(weight, Tensor):
            cost, slope = cost.mul_(weight), slope.mul_(weight)
        torch.sum(cost, dim=1, out=costs[here])
        slope = torch.mul(slope, factors[here, None], out=gradient[here, :classes])
        gradient[here, classes:].zero_()
        if slopes is not None:
            slopes += slope.sum(dim=0, dtype=factors.dtype)
    # An ignored row costs nothing even where its loss is infinite.
    return (costs * factors).where(factors != 0, 0.0).sum(), slopes, gradient
