"""From head output to scores, and from scores to detections."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from dethead.boxes import Codec
from dethead.schemes import ClassScheme
from dethead.structures import Anchors, Detections, HeadOutput, Predictions, Resize

ScoreFusion = Callable[[Tensor, Tensor], Tensor]
"""Makes (..., C) scores in [0, 1] of (..., 1) confidence and (..., C) class probabilities in [0, 1]."""


def product(confidence: Tensor, probabilities: Tensor) -> Tensor:
    """P(object) * P(class | object), the default."""
    return confidence * probabilities


def geometric_mean(confidence: Tensor, probabilities: Tensor) -> Tensor:
    """Square root of the product: the same order within a class, scores on the scale of one probability."""
    return (confidence * probabilities).sqrt()


def class_only(confidence: Tensor, probabilities: Tensor) -> Tensor:
    """The class probability alone."""
    return probabilities.clone()


def confidence_only(confidence: Tensor, probabilities: Tensor) -> Tensor:
    """The confidence alone, the same for every class."""
    return confidence.expand_as(probabilities)


@dataclass(frozen=True, slots=True)
class PowersFusion:
    """confidence^a * probability^b: how much each branch has to say in the ranking.

    Powers in the same ratio rank alike, since s^k rises with s for every k > 0: only a / b matters for AP,
    and their size for what ``score_threshold`` cuts. (1, 1) is ``product``, (0.5, 0.5) ``geometric_mean``,
    (0, 1) ``class_only``, (1, 0) ``confidence_only``. ``evaluation.fit_fusion`` finds powers, with sum 2.

    Args:
        confidence_power: a, not negative.
        class_power: b, not negative; not both 0.
    """

    confidence_power: float
    class_power: float

    def __post_init__(self) -> None:
        powers = (self.confidence_power, self.class_power)
        if not all(0 <= power < math.inf for power in powers) or powers == (0, 0):
            raise ValueError(
                "confidence_power and class_power must be finite, not negative and not both 0, got "
                f"{self.confidence_power} and {self.class_power}"
            )

    def __call__(self, confidence: Tensor, probabilities: Tensor) -> Tensor:
        """Give the (..., C) scores in [0, 1]; 0 to the power 0 is 1, as the branch has nothing to say."""
        return confidence**self.confidence_power * probabilities**self.class_power


@dataclass(frozen=True, slots=True)
class Postprocessor:
    """Scores every (anchor, class) pair, keeps the best, decodes those, clips, suppresses within a class.

    Args:
        scheme: the criterion's.
        codec: the criterion's.
        fusion: how confidence and class probability make a score.
        score_threshold: pairs below are dropped. A threshold on a product of two probabilities cuts deeper
            than on one: for AP use 0.001 to 0.01.
        pre_nms_top_k: best pairs of an image that go on to suppression.
        nms_iou: a box is dropped if a better one of its class overlaps it by more.
        max_detections: of one image, all classes together.
    """

    scheme: ClassScheme
    codec: Codec
    fusion: ScoreFusion = product
    score_threshold: float = 0.01
    pre_nms_top_k: int = 1000
    nms_iou: float = 0.6
    max_detections: int = 300

    def __post_init__(self) -> None:
        if not (0 <= self.score_threshold <= 1 and 0 <= self.nms_iou <= 1):
            raise ValueError(
                "score_threshold and nms_iou must be in [0, 1], got "
                f"{self.score_threshold} and {self.nms_iou}"
            )
        if self.pre_nms_top_k < 1 or self.max_detections < 1:
            raise ValueError(
                "pre_nms_top_k and max_detections must be at least 1, got "
                f"{self.pre_nms_top_k} and {self.max_detections}"
            )

    @torch.no_grad()
    def __call__(self, output: HeadOutput, anchors: Anchors, resizes: Sequence[Resize]) -> list[Detections]:
        """Give B detections in original pixels, best score first; D = 0 where nothing passed.

        Raises:
            ValueError: an output that is not of these anchors and images.
        """
        wanted = (len(resizes), len(anchors.boxes))
        if output.raw.shape[:2] != wanted:
            raise ValueError(
                f"{wanted[0]} images and {wanted[1]} anchors need an output (B, A, C + 5) of these, "
                f"got {tuple(output.raw.shape)}"
            )
        probabilities = self.scheme.probabilities(output.class_logits).float()
        confidence = output.confidence_logits.float().sigmoid()

        def boxes(image: int, rows: Tensor) -> Tensor:
            # The few that passed, not all A: there may be a million.
            return self.codec.decode(output.box_deltas[image, rows].float(), anchors.boxes[rows])

        return self._select(probabilities, confidence, boxes, resizes)

    @torch.no_grad()
    def predictions(self, output: HeadOutput, anchors: Anchors) -> Predictions:
        """Decode and activate all of an output: what ``select`` starts from."""
        return Predictions(
            self.codec.decode(output.box_deltas, anchors.boxes),
            self.scheme.probabilities(output.class_logits),
            output.confidence_logits.float().sigmoid(),
        )

    @torch.no_grad()
    def select(self, predictions: Predictions, resizes: Sequence[Resize]) -> list[Detections]:
        """Give the detections of predictions, whoever made them: threshold, top-k, clipping, suppression.

        ``select(predictions(output, anchors), resizes)`` is ``self(output, anchors, resizes)``; between the
        two, a branch can be replaced.

        Raises:
            ValueError: predictions of another number of images.
        """
        if not len(resizes) == len(predictions.boxes):
            raise ValueError(f"{len(resizes)} resizes for predictions of {len(predictions.boxes)} images")
        probabilities, confidence = predictions.class_probabilities.float(), predictions.confidence.float()
        return self._select(probabilities, confidence, lambda i, rows: predictions.boxes[i, rows], resizes)

    def _select(
        self,
        probabilities: Tensor,
        confidence: Tensor,
        boxes: Callable[[int, Tensor], Tensor],
        resizes: Sequence[Resize],
    ) -> list[Detections]:
        """(B, A, C) probabilities, (B, A) confidence, and what gives (K, 4) boxes of K rows of an image."""
        scores = self.fusion(confidence.unsqueeze(-1), probabilities)
        return [
            self._one(scores[i], probabilities[i], confidence[i], partial(boxes, i), resize)
            for i, resize in enumerate(resizes)
        ]

    def _one(
        self,
        scores: Tensor,
        probabilities: Tensor,
        confidence: Tensor,
        boxes_of: Callable[[Tensor], Tensor],
        resize: Resize,
    ) -> Detections:
        """One image: (A, C) scores and probabilities, (A,) confidence, and the boxes of some anchors."""
        num_classes = scores.shape[1]
        flat = scores.flatten()
        passed = (flat >= self.score_threshold).nonzero().squeeze(1)
        # Stable, so that equal scores keep the order of the anchors on every device and thread count.
        order = flat[passed].argsort(descending=True, stable=True)[: self.pre_nms_top_k]
        pair = passed[order]
        anchor, label = pair // num_classes, pair % num_classes
        boxes = resize.to_original(boxes_of(anchor))
        boxes = _clip(boxes, resize.original_size)
        # Outside the image a box has no area left; it can overlap nothing and match nothing.
        visible = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
        pair, anchor, label, boxes = pair[visible], anchor[visible], label[visible], boxes[visible]
        kept = batched_nms(_precise(boxes), _precise(flat[pair]), label, self.nms_iou)
        # Back to the order from above: batched_nms sorts again, and not stably where there are many boxes.
        kept = kept.sort().values[: self.max_detections]
        pair, anchor, label = pair[kept], anchor[kept], label[kept]
        return Detections(boxes[kept], flat[pair], label, probabilities[anchor, label], confidence[anchor])


def _precise(values: Tensor) -> Tensor:
    """Give float64, where the device has it.

    ``batched_nms`` tells classes apart by moving their boxes far from each other; in float32 a box of the
    last class would be rounded more than one of the first, and survive or not by the number of its class.
    """
    return values if values.device.type == "mps" else values.double()


def _clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut (N, 4) boxes off at the borders of an image of (height, width)."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
