"""Small drawn sets of images, for the tests of resampling."""

import numpy as np

from dethead.evaluation.arrays import DetectionArrays, EvaluationInput, TruthArrays


def draw_set(images: int = 12, classes: int = 3, seed: int = 0, score_digits: int = 12) -> EvaluationInput:
    """Objects of all sizes with crowds and odd areas, detections on and beside them.

    Some images have no object, some no detection, the last class is rare. Few ``score_digits`` make ties.
    """
    draw = np.random.default_rng(seed)
    objects = 3 * images
    image = np.sort(draw.integers(0, max(images - 1, 1), objects))
    label = np.minimum(draw.integers(0, 2 * classes, objects) // 2, classes - 1)
    label[label == classes - 1] = np.where(draw.random((label == classes - 1).sum()) < 0.3, classes - 1, 0)
    boxes = np.concatenate(
        [draw.uniform(0, 200, (objects, 2)), 2.0 ** draw.uniform(3, 8, (objects, 2))], axis=1
    )
    areas = boxes[:, 2] * boxes[:, 3] * draw.uniform(0.5, 1, objects)
    truth = TruthArrays(image, label, boxes, areas, draw.random(objects) < 0.08)
    count = 5 * objects
    of = draw.integers(0, objects, count)
    found = boxes[of] + draw.normal(0, 1, (count, 4)) * draw.choice([0.02, 0.1, 0.4], (count, 1)) * boxes[of]
    found[:, 2:] = np.maximum(found[:, 2:], 1)
    what = np.where(draw.random(count) < 0.8, label[of], draw.integers(0, classes, count))
    detections = DetectionArrays(image[of], what, found, draw.random(count).round(score_digits))
    names = tuple(f"class {number}" for number in range(classes))
    return EvaluationInput(np.arange(images) * 3 + 5, names, truth, detections)


def repeat_images(given: EvaluationInput, counts: np.ndarray) -> EvaluationInput:
    """Build the set in which each image really stands ``counts`` times, copies next to each other."""
    source = np.repeat(np.arange(len(counts)), counts)

    def copies(part):
        rows = [np.flatnonzero(part.image == image) for image in source]
        image = np.repeat(np.arange(len(source)), [len(one) for one in rows])
        chosen = np.concatenate([*rows, np.zeros(0, np.int64)])
        return type(part)(image, *(None if column is None else column[chosen] for column in part[1:]))

    return EvaluationInput(
        np.arange(len(source)), given.class_names, copies(given.truth), copies(given.detections)
    )


def without_ties(given: EvaluationInput) -> EvaluationInput:
    """Replace the scores by ranks: the order in which ties are broken becomes part of the scores."""
    found = given.detections
    order = np.lexsort((np.arange(len(found.image)), found.image, -found.scores))
    scores = np.empty(len(order))
    scores[order] = np.linspace(1, 0, len(order))
    return given._replace(detections=found._replace(scores=scores))
