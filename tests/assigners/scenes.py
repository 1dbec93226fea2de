"""Random images for assigners: several levels and shapes, crowds, unknown and several classes, ties."""

import torch

from dethead.anchors import AnchorGrid
from dethead.structures import Anchors, GroundTruth, Predictions

SHAPES = ((24.0, 12.0), (16.0, 16.0), (12.0, 24.0))  # whole pixels: all shapes of a cell have one centre
GRIDS = (
    AnchorGrid.from_sizes([8, 16, 32], [8, 16, 32]).place((64, 96)),
    AnchorGrid((8, 16), (SHAPES, tuple((2 * w, 2 * h) for w, h in SHAPES))).place((48, 64)),
    AnchorGrid.from_sizes([16], [24], scales=[1, 1.5]).place((64, 64)),
)
CLASSES = 4
NO_BOXES = torch.zeros(0, 4)


def random_boxes(generator: torch.Generator, count: int, step: float) -> torch.Tensor:
    """Boxes around the image, on multiples of ``step``: their centres and areas are exact in float32."""
    corner = torch.rand(count, 2, generator=generator) * 80 - 8
    size = step + torch.rand(count, 2, generator=generator) * 50
    return (torch.cat([corner, corner + size], dim=1) / step).round() * step


def random_truth(generator: torch.Generator, count: int, step: float, regions: int) -> GroundTruth:
    """Boxes with one or two labels, a fifth of them of unknown class."""
    targets = torch.zeros(count, CLASSES)
    labels = torch.randint(CLASSES, (2, count), generator=generator)
    targets[torch.arange(count), labels[0]] = 1.0
    several = torch.rand(count, generator=generator) < 0.3
    targets[several, labels[1, several]] = 1.0
    known = torch.rand(count, generator=generator) < 0.8
    targets[~known] = 0.0
    boxes = random_boxes(generator, count, step)
    return GroundTruth(boxes, targets, random_boxes(generator, regions, step), known)


def random_predictions(generator: torch.Generator, anchors: Anchors, images: int) -> Predictions:
    """Predictions some pixels off their anchors, or off the whole image."""
    count = len(anchors.boxes)
    noise = 8 * torch.randn(images, count, 4, generator=generator)
    corners = (anchors.boxes + noise).view(images, count, 2, 2)
    boxes = torch.cat([corners.amin(dim=2), corners.amax(dim=2)], dim=-1)
    probabilities = torch.rand(images, count, CLASSES, generator=generator)
    return Predictions(boxes, probabilities, torch.rand(images, count, generator=generator))


def random_scene(seed: int) -> tuple[Anchors, GroundTruth, Predictions]:
    """One image; every third has boxes on whole cells, where distances and overlaps tie."""
    generator = torch.Generator().manual_seed(seed)
    anchors = GRIDS[seed % len(GRIDS)]
    step = 8.0 if seed // len(GRIDS) % 3 == 0 else 0.125
    truth = random_truth(generator, seed % 7, step, seed % 4)
    return anchors, truth, random_predictions(generator, anchors, 1)


def in_float64(
    anchors: Anchors, truth: GroundTruth, predictions: Predictions
) -> tuple[Anchors, GroundTruth, Predictions]:
    """Give the same numbers in float64."""
    boxes, targets, regions = (part.double() for part in truth[:3])
    return (
        anchors._replace(boxes=anchors.boxes.double()),
        GroundTruth(boxes, targets, regions, truth.class_known),
        Predictions(*(part.double() for part in predictions)),
    )
