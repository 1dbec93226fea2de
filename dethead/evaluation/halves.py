"""Two halves of the images: what is fitted on one is judged on the other."""

from typing import Any

import numpy as np

from dethead.evaluation.arrays import (
    Bools,
    DetectionArrays,
    EvaluationInput,
    TruthArrays,
)


def fitting_images(images: int, seed: int) -> Bools:
    """Give (images,) True for the half that is fitted on; of an odd number it is the smaller one.

    Drawn, not every other one: neighbours by id are often frames of one film. Images go by the order of their
    ids, so the same images and seed give the same halves, whatever was detected.

    Args:
        images: how many there are.
        seed: which halves.
    """
    chosen = np.zeros(images, dtype=np.bool_)
    chosen[np.random.default_rng(seed).permutation(images)[: images // 2]] = True
    return chosen


def images_of(given: EvaluationInput, chosen: Bools) -> EvaluationInput:
    """Give the evaluation of the (I,) chosen images alone, everything in the order it was in."""
    row = np.cumsum(chosen) - 1

    def of_chosen(part: TruthArrays | DetectionArrays) -> list[Any]:
        kept = chosen[part.image]
        columns = [None if column is None else column[kept] for column in part[1:]]
        return [row[part.image[kept]], *columns]

    return EvaluationInput(
        given.image_ids[chosen],
        given.class_names,
        TruthArrays(*of_chosen(given.truth)),
        DetectionArrays(*of_chosen(given.detections)),
    )
