"""Each class loss taken apart: the numbers between the logits of a box and its loss, one formula at a time.

Everything here is written a second time, slowly and in float64, so that a person can follow it; ``explain``
holds the sum against the loss that trains.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dethead import schemes
from dethead.structures import ClassesSeen


class Step(NamedTuple):
    """One line of a worked example."""

    name: str
    formula: str
    values: list[float]
    """(C,) one for each class, or one number for the whole box."""


class Lines:
    """Collects the steps of one box.

    Args:
        logits: (C,) float64.
        targets: (C,) float64.
        seen: what the run has seen, for schemes that use it.
    """

    def __init__(self, logits: Tensor, targets: Tensor, seen: ClassesSeen | None = None) -> None:
        self.z, self.t, self.seen = logits, targets, seen
        self.steps: list[Step] = []
        self.add("logits", "z", logits)
        self.add("target", "t", targets)

    def add(self, name: str, formula: str, values: Tensor) -> Tensor:
        """Note a step; gives its values back."""
        self.steps.append(Step(name, formula, values.reshape(-1).tolist()))
        return values


def _log_softmax(lines: Lines, z: Tensor, letter: str = "z") -> Tensor:
    lines.add("softmax", f"p = exp({letter}) / sum exp({letter})", z.softmax(dim=0))
    return lines.add("log-softmax", f"log p = {letter} - log sum exp({letter})", z.log_softmax(dim=0))


def _sigmoid(lines: Lines) -> tuple[Tensor, Tensor, Tensor]:
    """Probability, and the costs of a yes and of a no."""
    s = lines.add("sigmoid", "s = 1 / (1 + exp(-z))", lines.z.sigmoid())
    yes = lines.add("cost of yes", "-log s = log(1 + exp(-z))", torch.nn.functional.softplus(-lines.z))
    no = lines.add("cost of no", "-log(1 - s) = log(1 + exp(z))", torch.nn.functional.softplus(lines.z))
    return s, yes, no


def _softmax_ce(lines: Lines, scheme: schemes.SoftmaxCE) -> Tensor:
    log_p, t = _log_softmax(lines, lines.z), lines.t
    if scheme.label_smoothing:
        e = scheme.label_smoothing
        t = lines.add("smoothed target", f"t' = {1 - e:g} t + {e:g} / C", (1 - e) * t + e * t.sum() / len(t))
    return lines.add("negative log likelihood", "-t log p", -t * log_p)


def _multilabel_softmax(lines: Lines, scheme: schemes.MultilabelSoftmax) -> Tensor:
    log_p, labels = _log_softmax(lines, lines.z), lines.t.sum()
    share = lines.add("shared target", "t / M, M labels", lines.t / labels.where(labels > 0, 1.0))
    return lines.add("negative log likelihood", "-(t / M) log p", -share * log_p)


def _softmax_focal(lines: Lines, scheme: schemes.SoftmaxFocal) -> Tensor:
    log_p = _log_softmax(lines, lines.z)
    factor = lines.add("focus", f"(1 - p)^{scheme.gamma:g}", (1 - log_p.exp()) ** scheme.gamma)
    return lines.add("terms", f"-t (1 - p)^{scheme.gamma:g} log p", -lines.t * factor * log_p)


def _softmax_poly1(lines: Lines, scheme: schemes.SoftmaxPoly1) -> Tensor:
    log_p = _log_softmax(lines, lines.z)
    terms = lines.t * (scheme.epsilon * (1 - log_p.exp()) - log_p)
    return lines.add("terms", f"-t log p + {scheme.epsilon:g} t (1 - p)", terms)


def _kl(lines: Lines, scheme: schemes.KLDivergence) -> Tensor:
    square = scheme.temperature**2
    log_p = _log_softmax(lines, lines.z / scheme.temperature, f"z/{scheme.temperature:g}")
    log_t = lines.t.where(lines.t > 0, 1.0).log()
    return lines.add("terms", f"{square:g} t (log t - log p)", square * lines.t * (log_t - log_p))


def _logit_adjustment(lines: Lines, scheme: schemes.LogitAdjustment) -> Tensor:
    counts = torch.tensor(scheme.class_counts, dtype=torch.float64).clamp(min=1)
    prior = lines.add("share of the class", "pi = n / sum n", counts / counts.sum())
    adjusted = lines.add(
        "adjusted logits", f"z' = z + {scheme.tau:g} log pi", lines.z + scheme.tau * prior.log()
    )
    return lines.add("negative log likelihood", "-t log p", -lines.t * _log_softmax(lines, adjusted, "z'"))


def _ldam(lines: Lines, scheme: schemes.LDAM) -> Tensor:
    counts = torch.tensor(scheme.class_counts, dtype=torch.float64).clamp(min=1)
    margins = scheme.max_margin * (counts / counts.min()) ** -0.25
    lines.add("margins", f"m = {scheme.max_margin:g} (n / min n)^(-1/4)", margins)
    terms = torch.zeros_like(lines.z)
    for label in (lines.t > 0).nonzero()[:, 0].tolist():
        lowered = lines.z.clone()
        lowered[label] -= margins[label]
        name = f"margin taken from class {label}"
        lowered = lines.add(name, f"z' = {scheme.scale:g} (z - m)", scheme.scale * lowered)
        terms[label] = -lines.t[label] * lowered.log_softmax(dim=0)[label]
    return lines.add("negative log likelihood", "-t log softmax(z')", terms)


def _seesaw(lines: Lines, scheme: schemes.Seesaw) -> Tensor:
    seen = torch.ones_like(lines.z) if lines.seen is None else lines.seen.positives.double()
    counts = lines.add("boxes seen so far", "N, at least 1", seen.clamp(min=1))
    lines.add("softmax", "p = exp(z) / sum exp(z)", lines.z.softmax(dim=0))
    terms = torch.zeros_like(lines.z)
    for label in (lines.t > 0).nonzero()[:, 0].tolist():
        # By logarithms: p may be too small for a float, and the ratio of two of them as large as it likes.
        mitigation = scheme.p * (counts / counts[label]).clamp(max=1).log()
        name = f"M = min(1, N_j / N_{label})^{scheme.p:g}"
        lines.add(f"mitigation for class {label}", name, mitigation.exp())
        compensation = scheme.q * (lines.z - lines.z[label]).clamp(min=0)
        name = f"C = max(1, p_j / p_{label})^{scheme.q:g}"
        lines.add(f"compensation for class {label}", name, compensation.exp())
        log_p = (lines.z + mitigation + compensation).log_softmax(dim=0)
        lines.add("balanced softmax", "exp(z_i) / (exp(z_i) + sum M C exp(z_j))", log_p.exp())
        terms[label] = -lines.t[label] * log_p[label]
    return lines.add("negative log likelihood", "-t log p'", terms)


def _margins(lines: Lines, margin: float, variant: str, squared: bool) -> Tensor:
    terms = torch.zeros_like(lines.z)
    for label in (lines.t > 0).nonzero()[:, 0].tolist():
        missing = (margin + lines.z - lines.z[label]).clamp(min=0)
        missing[label] = 0.0
        lines.add(
            f"missing margin of class {label}", f"max(0, {margin:g} + z_j - z_{label}), 0 at {label}", missing
        )
        if squared:
            missing = lines.add("squared", "h^2", missing**2)
        terms[label] = lines.t[label] * (missing.sum() if variant == "weston_watkins" else missing.max())
    how = "sum" if variant == "weston_watkins" else "largest"
    return lines.add("terms", f"t * {how} over the wrong classes", terms)


def _hinge(lines: Lines, scheme: schemes.Hinge) -> Tensor:
    return _margins(lines, scheme.margin, scheme.variant, scheme.squared)


def _margin_ranking(lines: Lines, scheme: schemes.MarginRanking) -> Tensor:
    return _margins(lines, scheme.margin, "crammer_singer", False)


def _distance(lines: Lines, p: Tensor, scheme: schemes.SoftmaxBrier | schemes.SigmoidBrier) -> Tensor:
    off = lines.add("difference", "d = probability - t", p - lines.t)
    if scheme.penalty == "mse":
        return lines.add("terms", "d^2", off**2)
    if scheme.penalty == "l1":
        return lines.add("terms", "|d|", off.abs())
    assert scheme.beta is not None
    beta, size = scheme.beta, off.abs()
    terms = torch.where(size < beta, size**2 / (2 * beta), size - beta / 2)
    return lines.add("terms", f"d^2 / {2 * beta:g} below {beta:g}, else |d| - {beta / 2:g}", terms)


def _softmax_brier(lines: Lines, scheme: schemes.SoftmaxBrier) -> Tensor:
    terms = _distance(lines, lines.add("softmax", "exp(z) / sum exp(z)", lines.z.softmax(dim=0)), scheme)
    return terms if lines.t.sum() > 0 else torch.zeros_like(terms)


def _sigmoid_brier(lines: Lines, scheme: schemes.SigmoidBrier) -> Tensor:
    return _distance(lines, lines.add("sigmoid", "1 / (1 + exp(-z))", lines.z.sigmoid()), scheme)


def _sigmoid_bce(lines: Lines, scheme: schemes.SigmoidBCE) -> Tensor:
    _, yes, no = _sigmoid(lines)
    a, b = (
        torch.ones_like(lines.z) if weight is None else torch.tensor(weight, dtype=torch.float64)
        for weight in (scheme.pos_weight, scheme.neg_weight)
    )
    if scheme.pos_weight is not None or scheme.neg_weight is not None:
        lines.add("weight of yes", "pos_weight", a)
        lines.add("weight of no", "neg_weight", b)
    return lines.add(
        "terms", "yes weight * t * yes + no weight * (1 - t) * no", a * lines.t * yes + b * (1 - lines.t) * no
    )


def _focal(lines: Lines, scheme: schemes.Focal) -> Tensor:
    s, yes, no = _sigmoid(lines)
    a, b = (1.0, 1.0) if scheme.alpha is None else (scheme.alpha, 1 - scheme.alpha)
    yes = lines.add(
        "focused yes", f"{a:g} (1 - s)^{scheme.gamma:g} (-log s)", a * (1 - s) ** scheme.gamma * yes
    )
    no = lines.add("focused no", f"{b:g} s^{scheme.gamma:g} (-log(1 - s))", b * s**scheme.gamma * no)
    return lines.add("terms", "t yes + (1 - t) no", lines.t * yes + (1 - lines.t) * no)


def _sigmoid_poly1(lines: Lines, scheme: schemes.SigmoidPoly1) -> Tensor:
    s, yes, no = _sigmoid(lines)
    right = lines.add(
        "probability of the truth", "q = t s + (1 - t)(1 - s)", lines.t * s + (1 - lines.t) * (1 - s)
    )
    terms = lines.t * yes + (1 - lines.t) * no + scheme.epsilon * (1 - right)
    return lines.add("terms", f"t yes + (1 - t) no + {scheme.epsilon:g} (1 - q)", terms)


def _quality_focal(lines: Lines, scheme: schemes.QualityFocal) -> Tensor:
    s, yes, no = _sigmoid(lines)
    distance = lines.add("distance", f"|t - s|^{scheme.beta:g}", (lines.t - s).abs() ** scheme.beta)
    return lines.add(
        "terms", "distance * (t yes + (1 - t) no)", distance * (lines.t * yes + (1 - lines.t) * no)
    )


def _varifocal(lines: Lines, scheme: schemes.Varifocal) -> Tensor:
    s, yes, no = _sigmoid(lines)
    factor = torch.where(lines.t > 0, lines.t, scheme.alpha * s**scheme.gamma)
    lines.add("weight", f"t where t > 0, else {scheme.alpha:g} s^{scheme.gamma:g}", factor)
    return lines.add("terms", "weight * (t yes + (1 - t) no)", factor * (lines.t * yes + (1 - lines.t) * no))


def _asymmetric(lines: Lines, scheme: schemes.Asymmetric) -> Tensor:
    s, yes, cost_of_no = _sigmoid(lines)
    low = lines.add(
        "shifted probability", f"s' = max(s - {scheme.clip:g}, 0)", (s - scheme.clip).clamp(min=0)
    )
    yes = (1 - s) ** scheme.gamma_pos * yes
    # Without a shift s' is s, which may round to 1; the cost of no does not.
    no = low**scheme.gamma_neg * (-torch.log1p(-low) if scheme.clip else cost_of_no)
    lines.add("yes", f"(1 - s)^{scheme.gamma_pos:g} (-log s)", yes)
    lines.add("no", f"s'^{scheme.gamma_neg:g} (-log(1 - s'))", no)
    return lines.add("terms", "t yes + (1 - t) no", lines.t * yes + (1 - lines.t) * no)


def _ghm(lines: Lines, scheme: schemes.GHM) -> Tensor:
    s, yes, no = _sigmoid(lines)
    size = lines.add("size of the gradient", "g = |s - t|", (s - lines.t).abs())
    bins = lines.add(
        "bin", f"floor({scheme.bins} g)", (size * scheme.bins).floor().clamp(max=scheme.bins - 1)
    )
    alike = (bins[:, None] == bins).sum(dim=1)
    weight = len(bins) / (alike * len(set(bins.tolist())))
    lines.add("weight", "V / (numbers in the bin * bins in use)", weight)
    return lines.add("terms", "weight * (t yes + (1 - t) no)", weight * (lines.t * yes + (1 - lines.t) * no))


def _equalization(lines: Lines, scheme: schemes.Equalization) -> Tensor:
    _, yes, no = _sigmoid(lines)
    a = b = torch.ones_like(lines.z)
    if lines.seen is not None:
        up, down = lines.seen.yes_gradient.double(), lines.seen.no_gradient.double()
        ratio = lines.add("ratio of gradients", "r = up / down", up / down.clamp(min=1e-10))
        started = (up > 0) | (down > 0)
        b = torch.sigmoid(scheme.gamma * (ratio - scheme.mu)).where(started, 1.0)
        lines.add("weight of no", f"1 / (1 + exp(-{scheme.gamma:g} (r - {scheme.mu:g})))", b)
        a = lines.add("weight of yes", f"1 + {scheme.alpha:g} (1 - weight of no)", 1 + scheme.alpha * (1 - b))
    return lines.add(
        "terms", "yes weight * t * yes + no weight * (1 - t) * no", a * lines.t * yes + b * (1 - lines.t) * no
    )


TERMS: dict[type, Callable[..., Tensor]] = {
    schemes.SoftmaxCE: _softmax_ce,
    schemes.MultilabelSoftmax: _multilabel_softmax,
    schemes.SoftmaxFocal: _softmax_focal,
    schemes.SoftmaxPoly1: _softmax_poly1,
    schemes.KLDivergence: _kl,
    schemes.LogitAdjustment: _logit_adjustment,
    schemes.LDAM: _ldam,
    schemes.Seesaw: _seesaw,
    schemes.Hinge: _hinge,
    schemes.MarginRanking: _margin_ranking,
    schemes.SoftmaxBrier: _softmax_brier,
    schemes.SigmoidBrier: _sigmoid_brier,
    schemes.SigmoidBCE: _sigmoid_bce,
    schemes.Focal: _focal,
    schemes.SigmoidPoly1: _sigmoid_poly1,
    schemes.QualityFocal: _quality_focal,
    schemes.Varifocal: _varifocal,
    schemes.Asymmetric: _asymmetric,
    schemes.GHM: _ghm,
    schemes.Equalization: _equalization,
}
"""(lines, scheme) -> (C,) terms whose sum is the loss of the box, before its weights."""
