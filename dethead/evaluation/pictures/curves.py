"""Precision over recall."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from dethead.evaluation.arrays import Floats
from dethead.evaluation.coco import coco_curves
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.pictures.figures import chosen_of, largest, new_figure, unit_colour
from dethead.evaluation.rules import RECALL_POINTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Places in the palette; its yellow is too faint for a line on white.
_COLOURS: Final = (4, 5, 2, 0, 6, 1)
_LINES: Final = ("-", "--")
_COLOURED: Final = len(_COLOURS) * len(_LINES)


def save_pr_curves(table: MatchTable, path: Path) -> None:
    """Plot the precision-recall curve of each class: at IoU 0.50, at 0.75, and the mean over all thresholds.

    These are COCO's curves, best precision at this recall or more: the area under one is its AP. Of more
    than twelve classes those with most objects are coloured, the others are grey lines; the black line is the
    mean over all classes.

    Args:
        table: with the area range "all"; a threshold of 0.5 or 0.75 that it lacks has no panel.
        path: picture to write; the suffix says how (``.png``, ``.svg``, ``.pdf``).

    Raises:
        ValueError: a table without the area range "all".
    """
    area, thresholds = table.rules.range_place("all"), table.rules.iou_thresholds
    curves = coco_curves(table).precision[:, :, :, area]
    panels = {f"IoU {iou:.2f}": curves[thresholds.index(iou)] for iou in (0.5, 0.75) if iou in thresholds}
    if len(thresholds) > 1:
        panels[f"mean over IoU {thresholds[0]:.2f} to {thresholds[-1]:.2f}"] = curves.mean(axis=0)
    classes = len(table.class_names)
    objects = np.bincount(table.object_label[table.counted[area]], minlength=classes)
    coloured = largest(objects, _COLOURED)
    figure = new_figure(5.2 * len(panels) + 0.4, 5 + 0.12 * len(coloured))
    kept = chosen_of(len(coloured), classes, "with most objects, the others grey")
    figure.suptitle(f"Precision over recall, objects of all sizes{kept}")
    for axes, (name, precision) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        _plot(axes, precision, table.class_names, coloured)
        axes.set(title=name, xlabel="recall, share of objects found", xlim=(0, 1), ylim=(0, 1.01))
        axes.set_ylabel("precision, share of detections that are right")
    figure.savefig(path, dpi=120)


def _plot(axes: "Axes", precision: Floats, names: tuple[str, ...], coloured: list[int]) -> None:
    """Draw (101, C) curves; each label says the AP."""
    for label in range(len(names)):
        if label not in coloured:
            axes.plot(RECALL_POINTS, precision[:, label], color="0.8", linewidth=0.6)
    for place, label in enumerate(coloured):
        text = f"{names[label]}  {_percent(precision[:, label])}"
        line, colour = divmod(place, len(_COLOURS))
        axes.plot(
            RECALL_POINTS,
            precision[:, label],
            _LINES[line],
            color=unit_colour(_COLOURS[colour]),
            linewidth=1.6,
            label=text,
        )
    defined = precision[:, ~np.isnan(precision).any(axis=0)]
    if len(names) > 1 and defined.size:
        mean = defined.mean(axis=1)
        axes.plot(RECALL_POINTS, mean, color="black", linewidth=2.2, label=f"mean  {_percent(mean)}")
    axes.grid(alpha=0.3)
    # Below the panel: a legend inside hides curves wherever it is put.
    axes.legend(title="AP, %", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)


def _percent(curve: Floats) -> str:
    ap = curve.mean()
    return "-" if np.isnan(ap) else f"{100 * ap:.1f}"
