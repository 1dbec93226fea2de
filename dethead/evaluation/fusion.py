"""How much confidence and class probability should each have to say in the score."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dethead.evaluation.arrays import EvaluationInput, Floats
from dethead.evaluation.coco import coco_metrics
from dethead.evaluation.halves import fitting_images, images_of
from dethead.evaluation.reliability import plain
from dethead.evaluation.rules import LARGEST, CocoRules

_AP_ONLY: Final = CocoRules(max_detections=(100,), area_ranges=(("all", 0.0, LARGEST),))
_STEPS: Final = 40
_POWERS: Final = [(2 * step / _STEPS, 2 * (_STEPS - step) / _STEPS) for step in range(_STEPS + 1)]
"""(a, b) that are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedFusion:
    """Powers of the score conf^a * cls^b, and the AP they give on images that did not help to fit them."""

    confidence_power: float
    """a in [0, 2]; a + b = 2, so that (1, 1) is the product and a score threshold keeps its scale."""
    class_power: float
    """b in [0, 2]"""
    fitted_on: int
    """Images of the fitting half."""
    judged_on: int
    """Images of the other half."""
    fitted_ap_before: float
    """AP of the fitting half, scores as they are."""
    fitted_ap_after: float
    """AP of the fitting half with the powers: the best there is, and too good to be true."""
    ap_before: float
    """AP of the other half, scores as they are; nan: no object."""
    ap_after: float
    """AP of the other half with the powers; what they gain is the difference."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        return {name: plain(value) for name, value in dataclasses.asdict(self).items()}


def fit_fusion(given: EvaluationInput, *, seed: int = 0) -> FittedFusion:
    """Find the powers that rank the detections of half of the images best, and judge them on the other half.

    AP sees the order of scores, within a class over all images, and nothing else. For k > 0, s^k keeps every
    order, so (a, b) and (k a, k b) have the same AP: one number is free, a / (a + b). It is looked for at 0,
    1/40, ..., 1; AP is a staircase in it, without a slope to follow. Of equals the one closest to the product
    is taken.

    The detections stay those that were kept when the scores were as they are: what another order would change
    in top-k and suppression is not seen here, and what a suppression that judges scores anew (Soft-NMS, box
    voting with ``agreement``) has made of them is in "before" alone. Run the postprocessor with the powers to
    see it.

    Args:
        given: detections with class probability and confidence, both known for all.
        seed: which half of the images is fitted on.

    Raises:
        ValueError: detections without class probability or confidence, or outside [0, 1].
    """
    chosen = fitting_images(len(given.image_ids), seed)
    fitting, judging = images_of(given, chosen), images_of(given, ~chosen)
    nearest_first = sorted(_POWERS, key=lambda powers: abs(powers[0] - 1))
    tried = [(_ap(rescored(fitting, *powers)), powers) for powers in nearest_first]
    # The first of the best; nan, where there is no object, is never better.
    best, powers = max(tried, key=lambda pair: -1.0 if np.isnan(pair[0]) else pair[0])
    return FittedFusion(
        confidence_power=powers[0],
        class_power=powers[1],
        fitted_on=len(fitting.image_ids),
        judged_on=len(judging.image_ids),
        fitted_ap_before=_ap(fitting),
        fitted_ap_after=best,
        ap_before=_ap(judging),
        ap_after=_ap(rescored(judging, *powers)),
    )


def rescored(given: EvaluationInput, confidence_power: float, class_power: float) -> EvaluationInput:
    """Give the same detections with the scores confidence^a * class probability^b.

    Raises:
        ValueError: as in ``fit_fusion``.
    """
    confidence = _probabilities(given, "confidence")
    scores = confidence**confidence_power * _probabilities(given, "class_probabilities") ** class_power
    return given._replace(detections=given.detections._replace(scores=scores))


def _ap(given: EvaluationInput) -> float:
    return coco_metrics(given, _AP_ONLY).AP


def _probabilities(given: EvaluationInput, name: str) -> Floats:
    values: Floats | None = getattr(given.detections, name)
    if values is None or (len(values) and np.isnan(values).all()):
        raise ValueError(f"a fusion needs class probability and confidence; these detections have no {name}")
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"detection {row}: {name} must be in [0, 1], is {values[row]}")
    return values
