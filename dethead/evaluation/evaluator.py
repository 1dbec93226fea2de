"""Collect detections and truth image by image, then compute the 12 COCO numbers."""

from collections.abc import Iterable, Sequence
from typing import Literal

from dethead.data.coco import CocoTruth
from dethead.evaluation.arrays import EvaluationInput, ImageRecord, image_record, join_records
from dethead.evaluation.coco import coco_metrics
from dethead.evaluation.metrics import CocoMetrics
from dethead.structures import Detections


class CocoEvaluator:
    """COCO mAP of any model: ``update`` with every image once, then ``compute``.

    An image without detections, or without objects, must be given too: leaving it out changes the numbers.

    With several processes, each updates its own evaluator with its share of the images, and one of them
    merges the gathered states::

        evaluator.merge(gather_object([evaluator.state()]))

    Args:
        class_names: (C,) names in the order of the labels.
        repeats: what to do with an image id that is already there. "refuse" raises; "drop" keeps the first,
            for samplers that repeat images so that all processes get equally many.

    Raises:
        ValueError: no class names, or one that occurs twice; another word for ``repeats``.

    Example:
        A 40 x 40 box shifted by 9 pixels has IoU 31 / 49 = 0.633: a hit at 3 of 10 thresholds.

        >>> import torch
        >>> truth = CocoTruth(
        ...     image_id=7,
        ...     boxes=torch.tensor([[10.0, 10.0, 40.0, 40.0]], dtype=torch.float64),
        ...     labels=torch.tensor([0]),
        ...     crowd=torch.tensor([False]),
        ...     areas=torch.tensor([1600.0], dtype=torch.float64),
        ... )
        >>> one = torch.ones(1)
        >>> found = Detections(torch.tensor([[19.0, 10.0, 59.0, 50.0]]), one, torch.tensor([0]), one, one)
        >>> evaluator = CocoEvaluator(["car"])
        >>> evaluator.update([found], [truth])
        >>> metrics = evaluator.compute()
        >>> [round(value, 6) for value in (metrics.AP, metrics.AP50, metrics.AP75, metrics.APs)]
        [0.3, 1.0, 0.0, nan]
    """

    def __init__(self, class_names: Sequence[str], repeats: Literal["refuse", "drop"] = "refuse") -> None:
        self.class_names = tuple(class_names)
        if isinstance(class_names, str) or not self.class_names:
            raise ValueError(f"class_names must be a list of one name or more, got {class_names!r}")
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"class_names has a name twice: {list(self.class_names)}")
        if repeats not in ("refuse", "drop"):
            raise ValueError(f"repeats must be 'refuse' or 'drop', got {repeats!r}")
        self.repeats = repeats
        self._records: dict[int, ImageRecord] = {}

    def update(self, detections: Sequence[Detections], truth: Sequence[CocoTruth]) -> None:
        """Add images, all or none of them.

        Args:
            detections: one for each image, xyxy in original pixels.
            truth: of the same images.

        Raises:
            ValueError: lists of different lengths, an image id given before (when repeats are refused), or
                values that cannot be: see ``image_record``.
        """
        if len(detections) != len(truth):
            raise ValueError(f"{len(detections)} detections for {len(truth)} images: give one for each image")
        pairs = zip(detections, truth, strict=True)
        self._add(image_record(found, objects, len(self.class_names)) for found, objects in pairs)

    def state(self) -> list[ImageRecord]:
        """Give what was collected so far: NumPy arrays in tuples, picklable."""
        return list(self._records.values())

    def merge(self, states: Iterable[Sequence[ImageRecord]]) -> None:
        """Replace what was collected by the union of the states of all processes, this one's among them.

        Raises:
            ValueError: an image id that occurs twice, when repeats are refused.
        """
        before, self._records = self._records, {}
        try:
            self._add(record for state in states for record in state)
        except ValueError:
            self._records = before
            raise

    def reset(self) -> None:
        """Forget all images."""
        self._records = {}

    def arrays(self) -> EvaluationInput:
        """Give what was collected, images in the order of their ids; ``official_metrics`` takes it too."""
        return join_records(self._records.values(), self.class_names)

    def compute(self) -> CocoMetrics:
        """Compute the numbers of all images added so far; the state stays."""
        return coco_metrics(self.arrays())

    def _add(self, records: Iterable[ImageRecord]) -> None:
        added: dict[int, ImageRecord] = {}
        for record in records:
            known = record.image_id in self._records or record.image_id in added
            if known and self.repeats == "refuse":
                raise ValueError(f"image {record.image_id} was given twice; each image counts once")
            if not known:
                added[record.image_id] = record
        self._records |= added
