"""Random sets of a detector that makes every kind of mistake, for the tests of this folder."""

import numpy as np

from dethead.evaluation.arrays import DetectionArrays, EvaluationInput, TruthArrays


def noisy_set(seed: int, *, images: int = 8, classes: int = 3, crowds: float = 0.0) -> EvaluationInput:
    """Objects with 0 to 3 detections each, some of another class or poor, and detections of nothing.

    All scores differ, and every class has an object.
    """
    rng = np.random.default_rng(seed)
    truth: list[tuple[int, int, np.ndarray, bool]] = []
    found: list[tuple[int, int, np.ndarray]] = []
    for image in range(images):
        for _ in range(rng.integers(0, 5)):
            box, label = _box(rng), int(rng.integers(classes))
            truth.append((image, label, box, bool(rng.random() < crowds)))
            for _ in range(rng.integers(0, 4)):
                moved = np.concatenate([box[:2] + rng.normal(0, 5, 2), box[2:] * rng.uniform(0.7, 1.3, 2)])
                found.append((image, label if rng.random() < 0.6 else int(rng.integers(classes)), moved))
        found += [(image, int(rng.integers(classes)), _box(rng)) for _ in range(rng.integers(0, 3))]
    last = images - 1
    truth += [(last, label, np.array([100.0 + 20 * label, 100, 15, 15]), False) for label in range(classes)]
    boxes = np.array([box for _, _, box, _ in truth])
    image_of, label_of = (np.array([row[place] for row in truth], dtype=np.int64) for place in (0, 1))
    crowd = np.array([row[3] for row in truth])
    detections = DetectionArrays(
        np.array([row[0] for row in found], dtype=np.int64),
        np.array([row[1] for row in found], dtype=np.int64),
        np.array([row[2] for row in found]).reshape(-1, 4),
        rng.permutation(len(found)) / max(len(found), 1),
    )
    return EvaluationInput(
        np.arange(images),
        tuple(f"class {label}" for label in range(classes)),
        TruthArrays(image_of, label_of, boxes, boxes[:, 2] * boxes[:, 3], crowd),
        detections,
    )


def _box(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([rng.uniform(0, 60, 2), rng.uniform(10, 40, 2)])
