"""An analysis in words: the answer first, then the tables."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from dethead.evaluation.analysis import Analysis
from dethead.evaluation.confusion import BACKGROUND_NAME
from dethead.evaluation.errors import ERROR_TYPES

_MEANING: Final = {
    "classification": "the box is right, the class is not",
    "localisation": "the class is right, the box is not: IoU between 0.1 and 0.5",
    "both": "near an object of another class: neither class nor box is right",
    "duplicate": "the object was found already, by a detection of a higher score",
    "background": "there is nothing: no IoU above 0.1",
    "missed": "nothing was detected there, nor nearly",
}
_BLAME: Final = {
    "classification": "objects taken for another class",
    "localisation": "boxes that fit badly",
    "both": "detections with neither class nor box right",
    "duplicate": "objects detected twice",
    "background": "detections where nothing is",
    "missed": "missed objects",
}
_SHOWN: Final = 10


def as_markdown(analysis: Analysis, files: Sequence[tuple[str, str]] = ()) -> str:
    """Tell what was found, as a page of Markdown.

    Args:
        analysis: of a detector.
        files: name and description of each file that lies beside the page; pictures are shown.
    """
    parts = [
        "# What the number hides",
        headline(analysis),
        "\n".join(f"- {line}" for line in _details(analysis)),
        "## Errors at IoU 0.5\n\nAP50 gained is what putting this one type right would bring, in percentage "
        "points; the gains do not add up. Definitions: TIDE, arXiv:2008.08115.",
        _errors(analysis),
        "## Numbers, %",
        analysis.metrics.as_markdown(),
        "## Score thresholds of best F1 at IoU 0.5",
        _points(analysis),
        _confusions(analysis),
        *_files(files),
    ]
    return "\n\n".join(parts) + "\n"


def headline(analysis: Analysis) -> str:
    """Say in a sentence or two what the AP is and what takes most of it."""
    metrics, costs = analysis.metrics, analysis.errors.costs
    if math.isnan(metrics.AP):
        return "There is no object to find: AP is undefined."
    if not len(analysis.given.detections.label):
        return "**AP 0 %: there is no detection.**"
    total = f"AP {_percent(metrics.AP)} %, AP50 {_percent(metrics.AP50)} %."
    order = sorted(costs, key=lambda name: -costs[name])
    lost = [(_BLAME[name], _percent(costs[name])) for name in order if costs[name] >= 0.0005]
    if not lost:
        return f"**{total} No single type of error costs AP50.**"
    first, points = lost[0]
    then = f" Next: {', '.join(' '.join(one) for one in lost[1:])}." if lost[1:] else ""
    return f"**{total} Most AP50 is lost by {first}: {points} points.**{then}"


def _details(analysis: Analysis) -> list[str]:
    given = analysis.given
    points, metrics = analysis.points.together, analysis.metrics
    lines = [
        f"{len(given.image_ids)} images, {_objects(points.objects)} of {len(given.class_names)} classes, "
        f"{len(given.detections.label)} detections.",
        f"By size, AP: small {_percent(metrics.APs)}, medium {_percent(metrics.APm)}, "
        f"large {_percent(metrics.APl)}.",
    ]
    known = sorted((one for one in metrics.per_class if not math.isnan(one.AP)), key=lambda one: one.AP)
    if len(known) > 1:
        weakest = ", ".join(f"{one.name} {_percent(one.AP)} ({_objects(one.objects)})" for one in known[:3])
        lines.append(f"Weakest classes, AP: {weakest}; best: {known[-1].name} {_percent(known[-1].AP)}.")
    if not math.isnan(points.score):
        lines.append(
            f"Kept from score {points.score:.3g} on (best F1, {_percent(points.f1)} %), "
            f"{_percent(points.precision)} % of the detections are right and {_percent(points.recall)} % "
            "of the objects are found."
        )
    wrong = [one for one in analysis.confusion.mistakes() if BACKGROUND_NAME not in (one.truth, one.detected)]
    if wrong:
        lines.append(
            f"Most often confused: {wrong[0].truth} taken for {wrong[0].detected}, {wrong[0].times} times "
            f"({_percent(wrong[0].share)} % of {wrong[0].truth})."
        )
    return [*lines, *_calibration(analysis), *_fusion(analysis)]


def _calibration(analysis: Analysis) -> list[str]:
    if analysis.calibration is None:
        return ["Calibration: none, there are scores outside [0, 1]."]
    errors = {
        name: branch.together.equal_width.ece for name, branch in analysis.calibration.branches().items()
    }
    said = [f"{name.replace('_', ' ')} {_percent(error)}" for name, error in errors.items()]
    return [f"Calibration, mean gap between value and share right (ECE, points): {', '.join(said)}."]


def _fusion(analysis: Analysis) -> list[str]:
    fitted = analysis.fusion
    if fitted is None:
        return []
    return [
        f"Score as confidence^{fitted.confidence_power:g} * class probability^{fitted.class_power:g}, fitted "
        f"on {fitted.fitted_on} images: on the other {fitted.judged_on} AP {_percent(fitted.ap_before)} -> "
        f"{_percent(fitted.ap_after)}."
    ]


def _errors(analysis: Analysis) -> str:
    errors = analysis.errors
    rows: list[tuple[object, ...]] = [
        (name, _percent(errors.costs[name]), int(count.sum()), _MEANING[name])
        for name, count in zip(ERROR_TYPES, errors.counts, strict=True)
    ]
    rows.append(("all false positives", _percent(errors.false_positive_cost), "", "every wrong detection"))
    rows.append(("all false negatives", _percent(errors.false_negative_cost), "", "every object not found"))
    return _table(("type", "AP50 gained", "count", "what it is"), rows)


def _points(analysis: Analysis) -> str:
    points = [analysis.points.together, *analysis.points.per_class]
    rows = [
        (one.name, one.objects, _number(one.score, lambda value: f"{value:.3g}"), *map(_percent, one[3:]))
        for one in points
    ]
    return _table(("class", "objects", "score", "precision, %", "recall, %", "F1, %"), rows)


def _confusions(analysis: Analysis) -> str:
    title = f"## Confusion at score >= {analysis.confusion.score:.3g}, most frequent first"
    mistakes = analysis.confusion.mistakes()
    if not mistakes:
        return f"{title}\n\nNone."
    rows = [
        (
            one.truth,
            "missed" if one.detected == BACKGROUND_NAME else one.detected,
            one.times,
            _percent(one.share),
        )
        for one in mistakes[:_SHOWN]
    ]
    left_out = len(mistakes) - len(rows)
    more = f"\n\n{left_out} more kinds are in analysis.json." if left_out else ""
    return f"{title}\n\n{_table(('truth', 'detected as', 'count', 'share of that truth, %'), rows)}{more}"


def _files(files: Sequence[tuple[str, str]]) -> list[str]:
    shown = [
        f"[{name}]({name}): {text}" if name.endswith(".json") else f"![{text}]({name})"
        for name, text in files
    ]
    return ["## Files", *shown] if shown else []


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _objects(count: int) -> str:
    return f"{count} object" if count == 1 else f"{count} objects"


def _percent(value: float) -> str:
    return _number(value, lambda number: f"{100 * number:.1f}")


def _number(value: float, show: Callable[[float], str]) -> str:
    return "-" if math.isnan(value) else show(value)
