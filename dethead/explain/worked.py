"""Works an example through a class scheme, and holds every sum against the library's own loss."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dethead import schemes
from dethead.explain.steps import TERMS, Lines, Step
from dethead.structures import ClassesSeen

AGREEMENT = 1e-9
"""Largest difference between the steps' sum and the library's loss, relative to their size."""

SOFT_SUM = 1e-6
"""By how much the numbers of one soft label may sum to more than 1, by rounding."""

Row = Sequence[float]


class Explanation(NamedTuple):
    """One box, worked through."""

    scheme: schemes.ClassScheme
    steps: list[Step]
    loss: float
    gradient: list[float]
    """(C,) d loss / d logit."""
    probabilities: list[float]
    """(C,) what the scheme says of the logits in use."""
    targets: int | Row
    """As they were given."""
    again: "Callable[[Row], Explanation]"
    """The same box with other logits."""

    def __str__(self) -> str:
        """Give a line per step, the classes in columns."""
        rows = [*self.steps, Step("loss", "sum of the terms, weighted", [self.loss])]
        rows += [Step("gradient", "d loss / d z", self.gradient)]
        rows += [Step("in use", "class probabilities", self.probabilities)]
        names, formulas = (max(len(row[i]) for row in rows) for i in (0, 1))
        width = len(self.gradient)
        head = f"{'':{names}}  {'':{formulas}}  " + " ".join(f"{f'class {c}':>10}" for c in range(width))
        return "\n".join([head, *(_line(row, names, formulas) for row in rows)])


class Descent(NamedTuple):
    """One step down the gradient."""

    before: Explanation
    after: Explanation
    rate: float

    def __str__(self) -> str:
        """Say what the step did to logits and loss."""
        logits = [
            before - self.rate * g
            for before, g in zip(self.before.steps[0].values, self.before.gradient, strict=True)
        ]
        moved = " ".join(f"{z:.4f}" for z in logits)
        return (
            f"one step of gradient descent, z - {self.rate:g} * gradient: {moved}\n"
            f"loss {self.before.loss:.4f} -> {self.after.loss:.4f}"
        )


def explain(
    scheme: schemes.ClassScheme,
    logits: Row,
    targets: int | Row,
    *,
    seen: ClassesSeen | None = None,
    sample_weight: float = 1.0,
    ignore: bool = False,
) -> Explanation:
    """Work the loss of one box through, step by step, in float64.

    Args:
        scheme: of the library.
        logits: C numbers.
        targets: a label in [0, C), BACKGROUND (-1), or C numbers in [0, 1].
        seen: what a run has seen so far, for schemes that use it.
        sample_weight: factor on the loss of the box.
        ignore: whether the box is ignored: it costs nothing, whatever its logits.

    Raises:
        ValueError: a scheme that is not the library's, numbers that do not fit, a target out of range, or
            several labels for a scheme that takes one.

    Example:
        >>> worked = explain(schemes.SoftmaxCE(), [5.0, 4.0, 2.0], 0)
        >>> round(worked.loss, 4), [round(g, 4) for g in worked.gradient]
        (0.349, [-0.2946, 0.2595, 0.0351])
    """
    if type(scheme) not in TERMS:
        raise ValueError(
            f"{type(scheme).__name__} has no worked example; known: {', '.join(t.__name__ for t in TERMS)}"
        )
    z = torch.tensor(list(logits), dtype=torch.float64)
    t = _targets(targets, len(z))
    if float(t.sum()) > 1 + SOFT_SUM:
        scheme.targets(t[None])  # refuses several labels where it takes one; a soft label is one, spread out
    mask = torch.tensor([ignore])
    leaf = z[None].clone().requires_grad_()
    weighted = scheme.loss(leaf, t[None], seen, mask)[0] * sample_weight
    weighted.backward()  # type: ignore[no-untyped-call]
    loss = float(weighted.detach())
    lines = Lines(z, t, seen)
    terms = TERMS[type(scheme)](lines, scheme)
    total = float(terms.sum()) * _weigh(lines, scheme, t, sample_weight, ignore)
    if not abs(total - loss) <= AGREEMENT * max(1.0, abs(total)):  # nan agrees with nothing
        raise AssertionError(f"the steps give {total}, the library's loss is {loss}: one of them is wrong")
    assert leaf.grad is not None
    again = partial(explain, scheme, targets=targets, seen=seen, sample_weight=sample_weight, ignore=ignore)
    gradient, probabilities = leaf.grad[0].tolist(), scheme.probabilities(z).tolist()
    return Explanation(scheme, lines.steps, loss, gradient, probabilities, targets, again)


def descend(worked: Explanation, rate: float) -> Descent:
    """Take one step down the gradient of a worked example.

    Args:
        worked: the example.
        rate: learning rate, above 0.

    Raises:
        ValueError: a rate that is not above 0.
    """
    if not rate > 0:
        raise ValueError(f"the step must be above 0, got {rate}")
    logits = [z - rate * g for z, g in zip(worked.steps[0].values, worked.gradient, strict=True)]
    return Descent(worked, worked.again(logits), rate)


def check_apart(
    scheme: schemes.ClassScheme, boxes: Sequence[tuple[Row, int | Row]], seen: ClassesSeen | None
) -> None:
    """Refuse boxes that cost something else together than one by one, as under a loss over the whole batch.

    Args:
        scheme: of the library.
        boxes: logits and targets of each, as for ``explain``.
        seen: as for ``explain``.

    Raises:
        ValueError: such boxes, or boxes of different numbers of classes.
    """
    if len({len(logits) for logits, _ in boxes}) > 1:
        raise ValueError(f"boxes have different numbers of logits: {[len(logits) for logits, _ in boxes]}")
    z = torch.tensor([list(logits) for logits, _ in boxes], dtype=torch.float64)
    t = torch.stack([_targets(targets, z.shape[1]) for _, targets in boxes])
    apart = [scheme.loss(z[row, None], t[row, None], seen, torch.tensor([False])) for row in range(len(z))]
    together = scheme.loss(z, t, seen, torch.zeros(len(z), dtype=torch.bool))
    if not torch.allclose(together, torch.cat(apart), rtol=AGREEMENT, atol=AGREEMENT):
        raise ValueError(
            f"{type(scheme).__name__}: what a box costs depends on the other boxes of the batch "
            f"({together.tolist()} together, {torch.cat(apart).tolist()} apart); give one box at a time"
        )


def save_plot(worked: Explanation, path: Path) -> None:
    """Draw loss and gradient over the logit of the true class (the first, of several), the others held fixed.

    Args:
        worked: the example; its place on the curves is marked.
        path: PNG or another format that matplotlib writes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    logits = worked.steps[0].values
    chosen = int(torch.tensor(worked.steps[1].values).argmax())
    centre = logits[chosen]
    grid = torch.linspace(centre - 8, centre + 8, 321, dtype=torch.float64).tolist()
    rows = [worked.again([*logits[:chosen], z, *logits[chosen + 1 :]]) for z in grid]
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for label, values, here, colour, below in (
        ("loss", [row.loss for row in rows], worked.loss, "#0072b2", (6, 6)),
        (
            f"gradient, d loss / d z{chosen}",
            [row.gradient[chosen] for row in rows],
            worked.gradient[chosen],
            "#d55e00",
            (6, -14),
        ),
    ):
        axes.plot(grid, values, color=colour, label=label)
        axes.plot([centre], [here], "o", color=colour)
        axes.annotate(f"{here:.3f}", (centre, here), textcoords="offset points", xytext=below, color=colour)
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axes.set(
        title=f"{type(worked.scheme).__name__}, target {_words(worked.targets)}, other logits held",
        xlabel=f"logit of class {chosen}, z{chosen}",
        ylabel="loss and its slope",
    )
    axes.legend()
    figure.savefig(path, dpi=150)


def _targets(targets: int | Row, classes: int) -> Tensor:
    """(C,) numbers of a label or of themselves."""
    if isinstance(targets, int):
        if not -1 <= targets < classes:
            raise ValueError(f"label {targets} is not in [0, {classes}), nor -1 for background")
        return torch.nn.functional.one_hot(torch.tensor(targets + 1), classes + 1)[1:].double()
    values = torch.tensor(list(targets), dtype=torch.float64)
    if len(values) != classes:
        raise ValueError(f"{len(values)} targets for {classes} logits")
    return values


def _weigh(lines: Lines, scheme: schemes.ClassScheme, t: Tensor, sample_weight: float, ignore: bool) -> float:
    """Note what the sum of the terms is multiplied by; gives the product."""
    factor = 1.0
    weights = getattr(scheme, "class_weights", None)
    if weights is not None:
        each, labels = torch.tensor(weights, dtype=torch.float64), t.sum()
        factor = float((t * each).sum() / labels) if labels > 0 else 1.0
        lines.add("class weight", "mean weight of the labels", torch.tensor(factor))
    if sample_weight != 1:
        lines.add("sample weight", "of the box", torch.tensor(sample_weight))
    if ignore:
        lines.add("ignored", "costs nothing", torch.tensor(0.0))
    return factor * sample_weight * (not ignore)


def _line(row: Step, names: int, formulas: int) -> str:
    numbers = " ".join(f"{value:10.4f}" for value in row.values)
    return f"{row.name:{names}}  {row.formula:{formulas}}  {numbers}"


def _words(targets: int | Row) -> str:
    return "background" if targets == -1 else str(targets if isinstance(targets, int) else list(targets))
