"""Where variants disagree most: images of which one finds objects that another does not."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dethead.ablation.report.measured import MeasuredRun, MeasuredVariant
from dethead.evaluation.arrays import Bools, Floats, Ints


class Sight(NamedTuple):
    """What a run sees at its score of best F1, all classes together, at IoU 0.5."""

    score: float
    """nan: no score finds anything."""
    right: Ints
    """Rows of the match table: detections that find an object that counts."""
    wrong: Ints
    """Rows of the match table: detections that find nothing, and that COCO does not ignore."""
    found: Bools
    """(M,) objects that count and are found."""
    counted: Bools
    """(M,) objects that count."""


def sight(run: MeasuredRun) -> Sight:
    """Cut a run's detections at its best F1."""
    table, score = run.table, run.best_f1.score
    place = table.rules.range_place("all"), table.rules.threshold_place(0.5)
    counted = table.counted[place[0]]
    matched, ignored = table.matched(*place), table.ignored(*place)
    # A detection of a lower score takes no object from one of a higher: cutting changes no match above.
    kept = (table.score >= score) & ~ignored  # of nan: none
    right = np.flatnonzero(kept & (matched >= 0))
    found = np.zeros(len(counted), dtype=np.bool_)
    found[matched[right]] = True
    return Sight(score, right, np.flatnonzero(kept & (matched < 0)), found, counted)


class Disagreement(NamedTuple):
    """An image that two variants see differently."""

    image: int
    """Row in ``image_ids``."""
    amount: float
    """Sum over its objects of |share of seeds that find it - that of the other variant|."""
    found: tuple[float, float]
    """Objects found by the baseline and by the variant, the mean over seeds."""
    objects: int
    """How many there are to find."""
    disputed: Ints
    """Rows of the objects that the two do not find equally often."""


def disagreements(baseline: MeasuredVariant, variant: MeasuredVariant) -> list[Disagreement]:
    """Rank the images on which two variants disagree, the largest amount first, then by image.

    Shares over seeds, and not one pair of runs: what differs between variants is looked for, not what differs
    between seeds. An image on which all agree is not in the list.
    """
    sights = [[sight(run) for run in one.runs] for one in (baseline, variant)]
    if not all(sights):
        return []
    shares = [np.mean([one.found for one in of], axis=0) for of in sights]
    table = baseline.runs[0].table
    images, counted = len(table.image_ids), sights[0][0].counted

    def by_image(values: Floats) -> Floats:
        return np.bincount(table.object_image, weights=values, minlength=images).astype(np.float64)

    disputed = np.abs(shares[1] - shares[0])
    amounts = by_image(disputed)
    found = [by_image(share) for share in shares]
    objects = by_image(counted.astype(np.float64))
    order = np.argsort(-amounts, kind="stable")
    return [
        Disagreement(
            image=image,
            amount=float(amounts[image]),
            found=(float(found[0][image]), float(found[1][image])),
            objects=int(objects[image]),
            disputed=np.flatnonzero((disputed > 0) & (table.object_image == image)),
        )
        for image in order[amounts[order] > 0].tolist()
    ]


def most_different(variants: Sequence[MeasuredVariant], count: int) -> list[MeasuredVariant]:
    """Give the variants whose mean AP is furthest from the baseline's, the largest difference first."""
    baseline = next(one for one in variants if one.is_baseline)
    others = [one for one in variants if not one.is_baseline and not math.isnan(one.mean_ap)]
    return sorted(others, key=lambda one: -abs(one.mean_ap - baseline.mean_ap))[:count]
