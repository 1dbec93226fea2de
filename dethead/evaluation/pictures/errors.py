"""Error types as bars: what each costs, and where each occurs."""

import math
from pathlib import Path
from typing import Final

import numpy as np

from dethead.evaluation.errors import ERROR_TYPES, ErrorTypes
from dethead.evaluation.pictures.figures import chosen_of, largest, new_figure, unit_colour

_COLOURS: Final = dict(zip(ERROR_TYPES, (5, 0, 6, 1, 4, 2), strict=True))  # places in the palette
_SHOWN: Final = 20


def save_error_costs(errors: ErrorTypes, path: Path) -> None:
    """Draw the AP50 that each type of error costs, and below them the totals, as horizontal bars.

    Args:
        errors: of a detector.
        path: picture to write; the suffix says how (``.png``, ``.svg``, ``.pdf``).
    """
    figure = new_figure(8, 4.6)
    axes = figure.subplots()
    totals = {
        "all false positives": errors.false_positive_cost,
        "all false negatives": errors.false_negative_cost,
    }
    bars = errors.costs | totals
    places = [*range(len(errors.costs)), *(len(errors.costs) + 0.6 + place for place in range(len(totals)))]
    points = [0.0 if math.isnan(cost) else 100 * cost for cost in bars.values()]
    colours = [*(unit_colour(_COLOURS[name]) for name in errors.costs), (0.35,) * 3, (0.35,) * 3]
    axes.barh(places, points, color=colours)
    for place, cost, length in zip(places, bars.values(), points, strict=True):
        text = "-" if math.isnan(cost) else f"{100 * cost:.1f}"
        axes.annotate(text, (max(length, 0.0), place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [*bars])
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, *points), 1.12 * max(1.0, *points))
    axes.set_xlabel("AP50 gained if this alone were put right, percentage points")
    now = "-" if math.isnan(errors.AP50) else f"{100 * errors.AP50:.1f} %"
    axes.set_title(f"What costs AP: AP50 is {now}; gains do not add up")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.savefig(path, dpi=120)


def save_error_counts(errors: ErrorTypes, path: Path) -> None:
    """Draw how often each type of error occurs in each class, a panel for each type with its own scale.

    Args:
        errors: of C classes; of many, those with most missed objects and mistaken classes or boxes are shown.
        path: picture to write; the suffix says how (``.png``, ``.svg``, ``.pdf``).
    """
    classes = len(errors.class_names)
    # Background and duplicates are left out of the choice: a detector of low scores makes any number of them.
    chosen = [ERROR_TYPES.index(name) for name in ("missed", "classification", "localisation")]
    shown = largest(errors.counts[chosen].sum(axis=0), _SHOWN)
    figure = new_figure(14, 2.2 + 0.3 * len(shown))
    kept = chosen_of(len(shown), classes, "with most missed, classification and localisation errors")
    figure.suptitle(f"Errors by type and class, at any score{kept}")
    places = np.arange(len(shown))
    panels = figure.subplots(1, len(ERROR_TYPES), sharey=True)
    for axes, name, counts in zip(panels, ERROR_TYPES, errors.counts[:, shown], strict=True):
        bars = axes.barh(places, counts, color=unit_colour(_COLOURS[name]))
        axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=2, fontsize=8)
        axes.set_xlim(0, 1.4 * max(1, counts.max(initial=0)))
        axes.set_title(name)
        axes.set_xlabel("objects" if name == "missed" else "detections")
        axes.locator_params(axis="x", nbins=3, integer=True)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    panels[0].set_yticks(places, [errors.class_names[label] for label in shown])
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=120)
