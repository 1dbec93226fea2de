"""The confusion matrix as a heat map."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from dethead.evaluation.arrays import Floats, Ints
from dethead.evaluation.confusion import Confusion
from dethead.evaluation.pictures.figures import chosen_of, largest, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN: Final = 24  # classes whose counts can still be read


def save_confusion(confusion: Confusion, path: Path) -> None:
    """Draw a confusion matrix: counts in the cells, their share of the row as colour.

    Of many classes those with the most mistakes are shown.

    Args:
        confusion: of C classes.
        path: picture to write; the suffix says how (``.png``, ``.svg``, ``.pdf``).
    """
    classes = len(confusion.class_names)
    wrong = confusion.counts * ~np.eye(classes + 1, dtype=np.bool_)
    shown = largest((wrong.sum(axis=0) + wrong.sum(axis=1))[:classes], _SHOWN)
    rows = [*shown, classes]
    counts, shares = confusion.counts[np.ix_(rows, rows)], confusion.shares()[np.ix_(rows, rows)]
    size = 3.5 + 0.46 * len(rows)
    figure = new_figure(max(6.5, size + 1.0), max(5.5, size))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _write_counts(axes, counts, shares)
    names = [confusion.names[row] for row in rows]
    axes.set_xticks(
        range(len(rows)), [*names[:-1], "missed"], rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(rows)), [*names[:-1], "background"])
    axes.set(xlabel="detected as", ylabel="truth")
    for place in (axes.axhline, axes.axvline):
        place(len(rows) - 1.5, color="0.3", linewidth=1.2)
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.8)
    kept = chosen_of(len(shown), classes, "with most mistakes").removeprefix("; ")
    title = f"Confusion: counts at score >= {confusion.score:.3g}, IoU >= {confusion.iou_threshold:.2f}"
    axes.set_title("\n".join(filter(None, (title, kept))))
    figure.savefig(path, dpi=120)


def _write_counts(
    axes: "Axes",
    counts: Ints,
    shares: Floats,
) -> None:
    font = 9 if len(counts) <= 12 else 7
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(
            column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=font
        )
