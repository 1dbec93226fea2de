"""Ablations whose truth is known: seeds, images and differences drawn from known distributions."""

from typing import NamedTuple

import numpy as np

from dethead.ablation.variance import Group, Noise, measure
from dethead.evaluation.arrays import DetectionArrays, EvaluationInput, TruthArrays
from dethead.evaluation.bootstrap import draw_counts
from dethead.evaluation.intervals import percentile_interval
from dethead.evaluation.matches import MatchTable, match
from dethead.evaluation.rules import LARGEST, CocoRules

RULES = CocoRules(iou_thresholds=(0.5, 0.75), max_detections=(100,), area_ranges=(("all", 0.0, LARGEST),))
SIDE = 0.01
"""Standard deviation of every drawn difference of means: a point of AP."""


class Shares(NamedTuple):
    """Where the variance of the mean over seeds comes from; they sum to 1."""

    images: float
    seeds: float
    both: float
    """Interaction: what a seed does on some images only."""


def draw_differences(draw, shares: Shares, seeds: int, images: int) -> np.ndarray:
    """Draw (I, S) differences per image, true difference 0; the mean over all has the variance SIDE^2.

    Image effects are skewed, as those of AP are: a few images matter much.
    """
    of_images = (draw.gamma(2.0, 1.0, (images, 1)) - 2) / np.sqrt(2) * np.sqrt(images * shares.images)
    of_seeds = draw.normal(0, 1, (1, seeds)) * np.sqrt(seeds * shares.seeds)
    of_both = draw.normal(0, 1, (images, seeds)) * np.sqrt(images * seeds * shares.both)
    return SIDE * (of_images + of_seeds + of_both)


class Resamples:
    """Resamples of images, drawn once and used for many simulated ablations."""

    def __init__(self, images: int, count: int = 1000) -> None:
        self.images = images
        self.shares = np.stack([*draw_counts(images, count, 0)]) / images

    def group(self, differences: np.ndarray) -> Group:
        return Group(differences.mean(axis=0), self.shares @ differences)

    def noise(self, differences: np.ndarray) -> Noise:
        return measure([self.group(differences)], self.images, self.images)

    def crossed_interval(self, draw, differences: np.ndarray, level: float = 0.95):
        """The plain crossed bootstrap: seeds and images resampled, percentiles."""
        seeds = differences.shape[1]
        chosen = draw.integers(0, seeds, (len(self.shares), seeds))
        resampled = np.take_along_axis(self.shares @ differences, chosen, axis=1).mean(axis=1)
        return percentile_interval(resampled, level)


class Detector(NamedTuple):
    """How the runs of one variant turn out."""

    skill: float
    """Mean over seeds."""
    seed_spread: float
    """Standard deviation of the skill between seeds."""


class Scenes:
    """Test images of few objects, some hard; detectors differ in skill, runs also by chance."""

    def __init__(self, draw, images: int) -> None:
        self.draw, self.images = draw, images
        counts = draw.poisson(draw.gamma(2.0, 1.5, images))
        self.image = np.repeat(np.arange(images), counts)
        objects = len(self.image)
        place = np.arange(objects) * 1000.0  # far apart: no object is near another
        sides = draw.uniform(20, 200, (2, objects))
        self.boxes = np.stack([place, np.zeros(objects), *sides], axis=1)
        self.hard = draw.normal(0, 1, images)[self.image] + draw.normal(0, 1, objects)
        # What one variant is better at, another is worse at: the image effect of a difference.
        self.kind = draw.normal(0, 1, images)[self.image]

    def run(self, detector: Detector, taste: float = 0.0) -> MatchTable:
        """Train a seed: draw its skill, then what it detects."""
        draw = self.draw
        skill = detector.skill + detector.seed_spread * draw.normal() + taste * self.kind
        sure = skill - 0.5 * self.hard + draw.normal(0, 0.5, len(self.hard))
        found = np.flatnonzero(sure > -1.2)
        spread = 0.05 * np.exp(-0.3 * sure[found])[:, None]
        boxes = self.boxes[found].copy()
        boxes += draw.normal(0, 1, boxes.shape) * spread * boxes[:, [2, 3, 2, 3]]
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
        wrong = draw.integers(0, self.images, self.images)
        wrong_boxes = np.tile([0.0, 9000.0, 50.0, 50.0], (len(wrong), 1))
        image = np.append(self.image[found], wrong)
        order = np.argsort(image, kind="stable")
        detections = DetectionArrays(
            image[order],
            np.zeros(len(image), np.int64),
            np.concatenate([boxes, wrong_boxes])[order],
            np.append(sure[found], draw.normal(-0.8, 0.7, len(wrong)))[order],
        )
        return match(EvaluationInput(np.arange(self.images), ("thing",), self._truth(), detections), RULES)

    def _truth(self) -> TruthArrays:
        objects = len(self.image)
        area = self.boxes[:, 2] * self.boxes[:, 3]
        return TruthArrays(self.image, np.zeros(objects, np.int64), self.boxes, area, np.zeros(objects, bool))


def draw_tables(draw, images: int, seeds: int, detectors, taste: float = 0.3):
    """Tables of a baseline "a" and a variant "b", seeds 0, 1, ..., on newly drawn images."""
    scenes = Scenes(draw, images)
    tastes = {"a": taste, "b": -taste}
    return {
        name: {seed: scenes.run(detectors[name], tastes[name]) for seed in range(seeds)}
        for name in ("a", "b")
    }
