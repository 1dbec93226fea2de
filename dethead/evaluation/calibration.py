"""Whether a probability means what it says: reliability diagrams, calibration errors, temperatures.

Of the detections to which a calibrated branch gives 0.8, four in five are right. What "right" means for each
branch is told in ``judgements``.

Sources: Guo et al. 2017, https://arxiv.org/abs/1706.04599 (reliability diagram, ECE, temperature);
Kueppers et al. 2020, https://arxiv.org/abs/2004.13546 (of detections: precision in the place of accuracy).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dethead.evaluation.arrays import EvaluationInput
from dethead.evaluation.halves import fitting_images
from dethead.evaluation.judgements import Judged, judge
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.reliability import Reliability, equal_mass, equal_width, plain
from dethead.evaluation.temperature import FittedTemperature, fit_temperature

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BRANCHES: Final = ("class_probability", "confidence", "score")
_CLASSES_DRAWN: Final = 7  # as many as there are colours that all eyes tell apart
_LEAST_DRAWN: Final = 10  # claims of a bin


@dataclass(frozen=True, slots=True)
class Calibrated:
    """How well one branch is calibrated, over all classes or in one."""

    name: str
    """Of the class; "all"."""
    claims: int
    """K"""
    equal_width: Reliability
    equal_mass: Reliability

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        kinds = {"equal_width": self.equal_width, "equal_mass": self.equal_mass}
        errors = {f"ece_{kind}": plain(diagram.ece) for kind, diagram in kinds.items()}
        diagrams = {kind: diagram.as_dict() for kind, diagram in kinds.items()}
        return {"name": self.name, "claims": self.claims, **errors, **diagrams}


@dataclass(frozen=True, slots=True)
class BranchCalibration:
    """One branch."""

    together: Calibrated
    """All claims in one diagram; a box that passed with several labels has one confidence and counts once."""
    per_class: tuple[Calibrated, ...]
    """(C,)"""
    temperature: FittedTemperature | None
    """None for the fused score: a product of two probabilities has no logit of its own."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        temperature = None if self.temperature is None else self.temperature.as_dict()
        per_class = [one.as_dict() for one in self.per_class]
        return {"all": self.together.as_dict(), "per_class": per_class, "temperature": temperature}


@dataclass(frozen=True, slots=True)
class Calibration:
    """All branches of a detector; None for a branch that its detections do not report."""

    class_probability: BranchCalibration | None
    confidence: BranchCalibration | None
    score: BranchCalibration

    def branches(self) -> dict[str, BranchCalibration]:
        """Give those that there are, by name."""
        named = {name: getattr(self, name) for name in BRANCHES}
        return {name: branch for name, branch in named.items() if branch is not None}

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        nothing: dict[str, Any] = dict.fromkeys(BRANCHES)
        return nothing | {name: branch.as_dict() for name, branch in self.branches().items()}


def calibration(given: EvaluationInput, table: MatchTable, *, bins: int = 15, seed: int = 0) -> Calibration:
    """Judge every branch.

    Args:
        given: what the table was made from.
        table: one with IoU threshold 0.5 and area range "all".
        bins: of each diagram.
        seed: which half of the images the temperatures are fitted on.

    Raises:
        ValueError: fewer than 1 bin, or what ``judge`` refuses.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    fitting = fitting_images(len(given.image_ids), seed)

    def calibrated(claims: Judged, has_logit: bool) -> BranchCalibration:
        once = claims.select(claims.first)
        temperature = fit_temperature(once, fitting, bins) if has_logit else None
        classes = [
            _diagrams(name, claims.select(claims.label == label), bins)
            for label, name in enumerate(given.class_names)
        ]
        return BranchCalibration(_diagrams("all", once, bins), tuple(classes), temperature)

    class_probability, confidence, score = judge(given, table)
    return Calibration(
        None if class_probability is None else calibrated(class_probability, True),
        None if confidence is None else calibrated(confidence, True),
        calibrated(score, False),
    )


def _diagrams(name: str, claims: Judged, bins: int) -> Calibrated:
    diagrams = (make(claims.predicted, claims.right, bins) for make in (equal_width, equal_mass))
    return Calibrated(name, len(claims.label), *diagrams)


def save_reliability(measured: Calibration, path: Path) -> None:
    """Draw a reliability diagram for each branch: over all classes, and a thin line for each class.

    Above the diagonal claims are right more often than they say. Of more than seven classes those with most
    claims are drawn. Below, how many claims have such a value.

    Args:
        measured: by ``calibration``.
        path: picture to write; the suffix says how (``.png``, ``.svg``, ``.pdf``).
    """
    from dethead.evaluation.pictures.figures import new_figure

    branches = measured.branches()
    figure = new_figure(1 + 4.2 * len(branches), 7)
    rows = figure.subplots(2, len(branches), sharex=True, squeeze=False, height_ratios=(3, 1))
    for (name, branch), diagram, masses in zip(branches.items(), *rows, strict=True):
        _draw_diagram(diagram, name.replace("_", " "), branch)
        _draw_claims(masses, branch.together.equal_width)
    rows[0][0].set_ylabel(f"share that is right (bins of {_LEAST_DRAWN} claims or more)")
    rows[1][0].set_ylabel("claims")
    figure.savefig(path, dpi=120)


def _draw_diagram(axes: "Axes", name: str, branch: BranchCalibration) -> None:
    from dethead.evaluation.pictures.figures import chosen_of, largest, unit_colour

    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    classes = len(branch.per_class)
    shown = largest(np.array([one.claims for one in branch.per_class]), _CLASSES_DRAWN) if classes > 1 else []
    for place, label in enumerate(shown):
        style = {"color": unit_colour(place), "linewidth": 1.2, "markersize": 3}
        _draw_line(axes, branch.per_class[label], style)
    _draw_line(axes, branch.together, {"color": "black", "linewidth": 2, "markersize": 5})
    left_out = chosen_of(len(shown), classes, "with most claims").removeprefix("; ") if shown else ""
    axes.set_title("\n".join(filter(None, (f"{name}: {branch.together.claims} claims", left_out))))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="best", fontsize="small", title="calibration error", title_fontsize="small")
    axes.grid(alpha=0.3)


def _draw_line(axes: "Axes", one: Calibrated, style: dict[str, Any]) -> None:
    diagram = one.equal_width
    known = diagram.claims >= _LEAST_DRAWN  # fewer say nothing; the line goes on over them
    error = f"{one.name} {diagram.ece:.3f}" if one.claims else f"{one.name} -"
    axes.plot(diagram.predicted[known], diagram.right[known], "o-", label=error, **style)


def _draw_claims(axes: "Axes", diagram: Reliability) -> None:
    widths = diagram.edges[1:] - diagram.edges[:-1]
    axes.bar(diagram.edges[:-1], diagram.claims, width=widths, align="edge", color="grey", edgecolor="white")
    axes.set(xlabel="predicted probability", yscale="symlog", ylim=(0, None))
    axes.grid(axis="y", alpha=0.3)
