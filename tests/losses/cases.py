"""Every class loss with settings and its oracle. A new loss is proved by one line here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from losses.oracles import brier, long_tail, margins, sigmoid, softmax
from losses.oracles.rows import Array, Oracle

from dethead.losses import classification as losses

ANY = ("labels", "one_hot", "multi_hot", "distribution", "soft")
DISTRIBUTIONS = ("labels", "one_hot", "distribution")
ONE_LABEL = ("labels", "one_hot")
TEACHER = ("teacher",)


@dataclass(frozen=True)
class Case:
    """A loss as it is called, and what is known about it."""

    name: str
    function: Callable[..., Any]
    oracle: Oracle
    kind: Literal["exclusive", "elementwise", "margin"]
    settings: Callable[[int], dict[str, Any]] = lambda c: {}
    """Of the number of classes; arrays are float64 and handed over as tensors."""
    forms: tuple[str, ...] = ANY
    """The forms of targets it takes; ``teacher`` is a teacher's logits."""
    inputs: Literal["logits", "log_probabilities", "probabilities"] = "logits"
    coupled: bool = False
    """Rows depend on each other."""
    detached: bool = False
    """Factors made of the logits have no gradient."""

    def __str__(self) -> str:
        return self.name


def grid(c: int, low: float, high: float) -> Array:
    """(C,) different numbers."""
    return np.linspace(low, high, c) if c > 1 else np.array([high])


def counts(c: int) -> Array:
    """(C,) a long tail; the last class of several has no box at all."""
    tail: Array = np.floor(1000.0 * 0.6 ** np.arange(c))
    tail[1:][-1:] = 0.0
    return tail


def given(**settings: Any) -> Callable[[int], dict[str, Any]]:
    """The same settings for any number of classes."""
    return lambda c: settings


def counted(**settings: Any) -> Callable[[int], dict[str, Any]]:
    """Settings and class counts."""
    return lambda c: {"class_counts": counts(c), **settings}


def weighted(c: int) -> dict[str, Any]:
    """Weights of the yes and the no terms."""
    return {"pos_weight": grid(c, 0.5, 4.0), "neg_weight": grid(c, 2.0, 0.25)}


def equalized(c: int) -> dict[str, Any]:
    """Gradient sums of classes; the first of several had no gradient yet."""
    positive, negative = grid(c, 0.0, 30.0), grid(c, 90.0, 20.0)
    negative[:-1][:1] = 0.0
    sums = {"positive_gradient": positive, "negative_gradient": negative}
    return {**sums, "gamma": 12.0, "mu": 0.8, "alpha": 4.0}


CASES = [
    Case("softmax_ce", losses.softmax_cross_entropy, softmax.cross_entropy, "exclusive"),
    Case(
        "softmax_ce_smoothed",
        losses.softmax_cross_entropy,
        softmax.cross_entropy,
        "exclusive",
        given(label_smoothing=0.1),
    ),
    Case(
        "nll",
        losses.negative_log_likelihood,
        softmax.negative_log_likelihood,
        "exclusive",
        inputs="log_probabilities",
    ),
    Case("multilabel_softmax", losses.multilabel_softmax, softmax.multilabel_softmax, "exclusive"),
    Case("softmax_focal", losses.softmax_focal, softmax.focal, "exclusive", given(gamma=2.0)),
    Case("poly1_softmax", losses.poly1, softmax.poly1, "exclusive", given(epsilon=1.5, activation="softmax")),
    Case(
        "kl",
        losses.kl_divergence,
        softmax.kl_divergence,
        "exclusive",
        given(temperature=2.0),
        DISTRIBUTIONS,
    ),
    Case(
        "distillation_softmax",
        losses.distillation,
        softmax.distillation,
        "exclusive",
        given(temperature=2.0, activation="softmax"),
        TEACHER,
    ),
    Case("logit_adjusted", losses.logit_adjusted, long_tail.logit_adjusted, "exclusive", counted(tau=1.3)),
    Case("balanced_softmax", losses.balanced_softmax, long_tail.balanced_softmax, "exclusive", counted()),
    Case(
        "ldam",
        losses.ldam,
        long_tail.ldam,
        "exclusive",
        counted(max_margin=0.5, scale=10.0),
    ),
    Case(
        "seesaw",
        losses.seesaw,
        long_tail.seesaw,
        "exclusive",
        counted(p=0.8, q=2.0),
        ONE_LABEL,
        detached=True,
    ),
    Case("brier_softmax", losses.brier, brier.brier, "exclusive", given(activation="softmax", penalty="mse")),
    Case("sigmoid_bce", losses.sigmoid_bce, sigmoid.bce, "elementwise", weighted),
    Case(
        "probability_bce",
        losses.probability_bce,
        sigmoid.probability_bce,
        "elementwise",
        weighted,
        inputs="probabilities",
    ),
    Case("focal", losses.sigmoid_focal, sigmoid.focal, "elementwise", given(alpha=0.25, gamma=2.0)),
    Case("quality_focal", losses.quality_focal, sigmoid.quality_focal, "elementwise", given(beta=2.0)),
    Case("varifocal", losses.varifocal, sigmoid.varifocal, "elementwise", given(alpha=0.75, gamma=2.0)),
    Case(
        "asymmetric",
        losses.asymmetric,
        sigmoid.asymmetric,
        "elementwise",
        given(gamma_pos=1.0, gamma_neg=4.0, clip=0.05),
    ),
    Case(
        "ghm",
        losses.gradient_harmonised,
        sigmoid.gradient_harmonised,
        "elementwise",
        given(bins=10),
        coupled=True,
        detached=True,
    ),
    Case("equalization", losses.equalization, sigmoid.equalization, "elementwise", equalized),
    Case(
        "poly1_sigmoid", losses.poly1, sigmoid.poly1, "elementwise", given(epsilon=1.0, activation="sigmoid")
    ),
    Case(
        "distillation_sigmoid",
        losses.distillation,
        sigmoid.distillation,
        "elementwise",
        given(temperature=2.0, activation="sigmoid"),
        TEACHER,
    ),
    Case(
        "brier_sigmoid", losses.brier, brier.brier, "elementwise", given(activation="sigmoid", penalty="mse")
    ),
    Case("hinge", losses.hinge, margins.hinge, "margin", forms=ONE_LABEL),
    Case(
        "crammer_singer",
        losses.hinge,
        margins.hinge,
        "margin",
        given(variant="crammer_singer", squared=True),
        ONE_LABEL,
    ),
    Case("margin_ranking", losses.margin_ranking, margins.margin_ranking, "margin", forms=ONE_LABEL),
    Case(
        "margin_ranking_batch",
        losses.margin_ranking,
        margins.margin_ranking,
        "margin",
        given(margin=0.5, against="batch"),
        ONE_LABEL,
        coupled=True,
    ),
]
"""One line for every loss."""


def _like(name: str, **settings: Any) -> Case:
    """The case of a name with other settings."""
    case = next(case for case in CASES if case.name == name)
    label = "-".join([name, *(f"{key}={value}" for key, value in settings.items())])
    return replace(case, name=label, settings=lambda c: {**case.settings(c), **settings})


OTHER_SETTINGS = [
    *(_like("softmax_focal", gamma=gamma) for gamma in (0.0, 1.0, 1.5, 5.0)),
    *(_like("poly1_softmax", epsilon=epsilon) for epsilon in (-1.0, 0.0)),
    *(_like("kl", temperature=temperature) for temperature in (0.5, 1.0, 4.0)),
    *(_like("logit_adjusted", tau=tau) for tau in (0.0, 0.5)),
    _like("ldam", scale=1.0),
    # Gradients of several labels, each 30 times as large, cancel each other: too much for float32.
    replace(_like("ldam", scale=30.0), forms=ONE_LABEL),
    *(_like("seesaw", p=p, q=q) for p, q in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)]),
    _like("sigmoid_bce", pos_weight=None, neg_weight=None),
    *(
        _like("focal", alpha=alpha, gamma=g)
        for alpha, g in [(None, 0.0), (0.0, 1.0), (1.0, 1.5), (None, 5.0)]
    ),
    *(_like("quality_focal", beta=beta) for beta in (0.0, 1.0, 1.5, 5.0)),
    *(_like("varifocal", gamma=gamma) for gamma in (0.0, 1.0, 1.5, 5.0)),
    *(
        _like("asymmetric", gamma_pos=pos, gamma_neg=neg, clip=clip)
        for pos, neg, clip in [
            (0.0, 0.0, 0.0),
            (0.0, 0.0, 0.05),
            (0.0, 1.0, 0.25),
            (1.5, 1.5, 0.0),
            (2.0, 2.0, 0.05),
            (5.0, 5.0, 0.0),
        ]
    ),
    *(_like("ghm", bins=bins) for bins in (1, 30)),
    *(_like("poly1_sigmoid", epsilon=epsilon) for epsilon in (-1.0, 0.0)),
    *(_like("distillation_softmax", temperature=temperature) for temperature in (1.0, 4.0)),
    *(_like("distillation_sigmoid", temperature=temperature) for temperature in (1.0, 4.0)),
    *(
        _like(name, penalty=penalty, beta=beta)
        for name in ("brier_softmax", "brier_sigmoid")
        for penalty, beta in [("l1", None), ("smooth_l1", 0.25), ("smooth_l1", 0.0)]
    ),
    *(_like("hinge", margin=margin, squared=squared) for margin, squared in [(0.0, False), (1.5, True)]),
    _like("crammer_singer", margin=1.5, squared=False),
]
"""Branches and limits of the settings: every allowed kind of gamma, both alphas, every penalty."""

EVERY = CASES + OTHER_SETTINGS
