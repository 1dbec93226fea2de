"""Random rows for a case, the loss and its oracle on them, and the tolerance between the two."""

from typing import Any, NamedTuple

import numpy as np
import torch
from losses.cases import Case
from losses.oracles.rows import Answer, Array, answer
from losses.oracles.sigmoid import sigmoid
from losses.oracles.softmax import log_softmax
from numpy.typing import NDArray
from torch import Tensor

from dethead.structures import BACKGROUND

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-10}
"""Times max(1, |reference|, largest |logit|)."""


class Rows(NamedTuple):
    """Arguments of a loss: numbers that float32 holds exactly, so that both precisions see the same."""

    logits: Array
    targets: NDArray[Any]


def draw(
    case: Case, form: str, *, rows: int = 64, classes: int = 5, scale: float = 3.0, seed: int = 0
) -> Rows:
    """Random logits (or probabilities, if the case takes those) of a scale, and targets of a form."""
    rng = np.random.default_rng(seed)
    logits = inputs_of(case, scale * rng.standard_normal((rows, classes)))
    return Rows(logits, targets_of(form, logits.shape, rng))


def inputs_of(case: Case, logits: Array) -> Array:
    """What the case takes in place of logits."""
    if case.inputs == "log_probabilities":
        return rounded(log_softmax(logits, np.zeros(logits.shape, dtype=bool)))
    if case.inputs == "probabilities":
        return rounded(np.clip(sigmoid(logits), 1e-6, 1 - 1e-6))
    return rounded(logits)


def targets_of(form: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    """Targets, some rows of which are background."""
    rows, classes = shape
    labels = np.where(rng.random(rows) < 0.15, BACKGROUND, rng.integers(0, classes, rows))
    soft = rng.random(shape) * (rng.random(shape) < 0.7)
    sums = soft.sum(axis=1, keepdims=True)
    targets = {
        "labels": labels,
        "one_hot": (labels[:, None] == np.arange(classes)).astype(np.float64),
        "distribution": soft / np.where(sums > 0, sums, 1.0),
        "soft": np.where(rng.random(shape) < 0.2, np.ceil(soft), soft),
        "multi_hot": np.ceil(soft),
        "teacher": 3.0 * rng.standard_normal(shape),
    }[form]
    return targets if form == "labels" else rounded(targets)


def rounded(numbers: Array) -> Array:
    """To float32, still as float64."""
    return numbers.astype(np.float32).astype(np.float64)


def settings_of(case: Case, classes: int) -> dict[str, Any]:
    """Settings whose arrays float32 holds exactly."""
    return {k: rounded(v) if isinstance(v, np.ndarray) else v for k, v in case.settings(classes).items()}


def tensor(values: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """A copy; labels and masks keep their type."""
    made = torch.tensor(values)
    return made.to(dtype) if made.is_floating_point() else made


def tensors(arguments: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Every array as a tensor."""
    return {k: tensor(v, dtype) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}


def run(case: Case, rows: Rows, dtype: torch.dtype = torch.float64, **arguments: Any) -> Answer:
    """(N,) loss and (N, C) gradient of its sum, by the code under test."""
    logits = tensor(rows.logits, dtype).requires_grad_()
    loss = call(case, logits, tensor(rows.targets, dtype), **tensors(arguments, dtype))
    assert loss.shape == (len(rows.logits),)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return Answer(loss.detach().double().numpy(), gradient.double().numpy())


def call(case: Case, logits: Tensor, targets: Tensor, **arguments: Any) -> Tensor:
    """The loss under test with the settings of the case, tensors of the logits' precision."""
    dtype = logits.dtype if logits.dtype in TOLERANCE else torch.float32
    settings = tensors(settings_of(case, logits.shape[1]), dtype)
    loss: Tensor = case.function(logits, targets, **settings, **arguments)
    return loss


def expected(case: Case, rows: Rows, **arguments: Any) -> Answer:
    """The same by the oracle."""
    return answer(case.oracle, *rows, settings_of(case, rows.logits.shape[1]), **arguments)


def assert_equal(actual: Answer, wanted: Answer, case: Case, rows: Rows, tolerance: float, note: str) -> None:
    """Loss and gradient differ by at most tolerance * max(1, |reference|, largest |logit|)."""
    largest = np.abs(rows.logits).max(initial=1.0)
    for what, got, want in zip(("loss", "gradient"), actual, wanted, strict=True):
        error = np.abs(got - want) / np.maximum(largest, np.abs(want))
        # Not "error > tolerance", which a nan passes.
        wrong = ~(error <= tolerance)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise AssertionError(
                f"{what} of {case.name}, {note}: {wrong.sum()} of {wrong.size} differ, the first at {at}: "
                f"{got[at]!r} for {want[at]!r} (off by {error[at] / tolerance:.3g} times what is allowed), "
                f"row {rows.logits[at[0]]}, target {rows.targets[at[0]]}"
            )
