"""The constants of the COCO box protocol, and the settings a caller may replace."""

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# linspace, as pycocotools does it: arange gives thresholds an ulp above the decimal number, and an IoU
# of exactly 0.6 then counts differently.
IOU_THRESHOLDS: Final = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))
RECALL_POINTS: Final[NDArray[np.float64]] = np.linspace(0.0, 1.0, 101)
SMALL: Final = 32.0**2
"""Square pixels up to which an object is small (the limit itself is small and medium)."""
MEDIUM: Final = 96.0**2
"""Square pixels up to which an object is medium (the limit itself is medium and large)."""
LARGEST: Final = 1e5**2


@dataclass(frozen=True, slots=True)
class CocoRules:
    """What is a hit, which detections are looked at, and how objects are sorted by area.

    Attributes:
        iou_thresholds: (T,) ascending, each in (0, 1].
        max_detections: (L,) ascending; the best so many detections of an image *and class* are looked at.
        area_ranges: (R,) name, smallest and largest area in square pixels of the original image, both ends
            included. An object's area is the annotation's ``area``, a detection's is width times height.

    Raises:
        ValueError: a list that is empty or not ascending, or a threshold outside (0, 1].

    Source: https://cocodataset.org/#detection-eval
    """

    iou_thresholds: tuple[float, ...] = IOU_THRESHOLDS
    max_detections: tuple[int, ...] = (1, 10, 100)
    area_ranges: tuple[tuple[str, float, float], ...] = (
        ("all", 0.0, LARGEST),
        ("small", 0.0, SMALL),
        ("medium", SMALL, MEDIUM),
        ("large", MEDIUM, LARGEST),
    )

    def __post_init__(self) -> None:
        for name in ("iou_thresholds", "max_detections"):
            values = getattr(self, name)
            if not values or any(a >= b for a, b in itertools.pairwise(values)):
                raise ValueError(f"{name} must be ascending and not empty, got {values}")
        if not 0 < self.iou_thresholds[0] <= self.iou_thresholds[-1] <= 1:
            raise ValueError(f"iou_thresholds must be in (0, 1], got {self.iou_thresholds}")
        if self.max_detections[0] < 1:
            raise ValueError(f"max_detections must be at least 1, got {self.max_detections}")
        names = [name for name, _, _ in self.area_ranges]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"area_ranges must have distinct names, at least one, got {names}")

    def threshold_place(self, iou: float) -> int:
        """Give the place of an IoU threshold.

        Raises:
            ValueError: these rules do not have it.
        """
        if iou not in self.iou_thresholds:
            raise ValueError(f"IoU threshold {iou} is not among {self.iou_thresholds}")
        return self.iou_thresholds.index(iou)

    def range_place(self, name: str) -> int:
        """Give the place of an area range.

        Raises:
            ValueError: these rules do not have it.
        """
        names = [known for known, _, _ in self.area_ranges]
        if name not in names:
            raise ValueError(f"area range {name!r} is not among {names}")
        return names.index(name)


COCO_RULES: Final = CocoRules()
