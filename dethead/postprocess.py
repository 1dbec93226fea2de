"""From head output to scores, and from scores to detections."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from dethead.boxes import Codec
from dethead.schemes import ClassScheme
from dethead.structures import Anchors, Detections, HeadOutput, Predictions, Resize

ScoreFusion = Callable[[Tensor, Tensor], Tensor]
"""Makes (..., C) scores in [0, 1] of (..., 1) confidence and (..., C) class probabilities in [0, 1]."""

Rows = Tensor | slice
"""Some anchors of an image by number, or all of them."""


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


_FUSIONS_THAT_RISE = (product, geometric_mean, class_only, confidence_only, PowersFusion)
"""Those whose score never falls as a class probability rises: none exceeds its value at probability 1."""

_SLACK = 1e-5
"""Relative: what rounding could add to such a score, with much to spare."""

_FIRST, _GROWTH = 2, 4
"""The first suppression sees twice the detections wanted, each one after that four times as many."""

_MANY_BOXES = 2000
"""From here on, one suppression per class is faster than one of all classes moved apart."""


@dataclass(frozen=True, slots=True)
class Postprocessor:
    """Scores (anchor, class) pairs, keeps the best, decodes those, clips, suppresses within a class.

    Suppression goes from the best score down, so that the first ``max_detections`` survivors of the best few
    pairs are those of all: the best few are looked at, and more only where too few survive. Of equal scores
    the lower anchor comes first, then the lower class.

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
        confidence = output.confidence_logits.float().sigmoid()

        def probabilities(image: int, rows: Rows) -> Tensor:
            # Whole rows of raw: a few of them are then activated to the same bit as all.
            return self.scheme.probabilities(HeadOutput(output.raw[image][rows]).class_logits).float()

        def boxes(image: int, rows: Tensor) -> Tensor:
            # The few that passed, not all A: there may be a million.
            return self.codec.decode(output.box_deltas[image, rows].float(), anchors.boxes[rows])

        return [
            self._one(confidence[i], partial(probabilities, i), partial(boxes, i), resize)
            for i, resize in enumerate(resizes)
        ]

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
        confidence = predictions.confidence.float()

        def probabilities(image: int, rows: Rows) -> Tensor:
            return predictions.class_probabilities[image][rows].float()

        return [
            self._one(
                confidence[i], partial(probabilities, i), partial(_rows_of, predictions.boxes[i]), resize
            )
            for i, resize in enumerate(resizes)
        ]

    def _one(
        self,
        confidence: Tensor,
        probabilities_of: Callable[[Rows], Tensor],
        boxes_of: Callable[[Tensor], Tensor],
        resize: Resize,
    ) -> Detections:
        """One image: (A,) confidence, and what gives (R, C) probabilities and (R, 4) boxes of anchors."""
        rows = self._reachable(confidence)
        probabilities = probabilities_of(rows)
        scores = self.fusion(confidence[rows].unsqueeze(-1), probabilities)
        count = min(self.pre_nms_top_k, _FIRST * self.max_detections)
        while True:
            row, label = _best_pairs(scores, self.score_threshold, count)
            anchor = row if isinstance(rows, slice) else rows[row]
            boxes = _clip(resize.to_original(boxes_of(anchor)), resize.original_size)
            kept = self._survivors(boxes, label, resize)
            if len(kept) >= self.max_detections or len(row) < count or count == self.pre_nms_top_k:
                break
            count = min(self.pre_nms_top_k, _GROWTH * count)
        kept = kept[: self.max_detections]
        row, label = row[kept], label[kept]
        return Detections(
            boxes[kept], scores[row, label], label, probabilities[row, label], confidence[anchor[kept]]
        )

    def _reachable(self, confidence: Tensor) -> Rows:
        """Give the anchors that pass the threshold if some class is certain; all, where nobody can tell."""
        if not any(self.fusion is one or type(self.fusion) is one for one in _FUSIONS_THAT_RISE):
            return slice(None)
        ceiling = self.fusion(confidence.unsqueeze(-1), torch.ones_like(confidence).unsqueeze(-1)).squeeze(-1)
        reachable = ceiling * (1 + _SLACK) >= self.score_threshold
        # A slice makes no copy.
        return slice(None) if bool(reachable.all()) else reachable.nonzero().squeeze(1)

    def _survivors(self, boxes: Tensor, labels: Tensor, resize: Resize) -> Tensor:
        """Give the rows of (K, 4) boxes, best first, that suppression within their (K,) label leaves."""
        # Outside the image a box has no area left; it can overlap nothing and match nothing.
        visible = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1).nonzero().squeeze(1)
        boxes, labels = _precise(boxes[visible]), labels[visible]
        # In place of scores, so that equal ones cannot be put in another order by a sort that is not stable.
        best_first = torch.arange(len(boxes), 0, -1, device=boxes.device).to(boxes.dtype)
        if len(boxes) > _MANY_BOXES:
            kept = batched_nms(boxes, best_first, labels, self.nms_iou)
        else:
            # Boxes of different classes are moved so far apart that they cannot meet.
            apart = labels.to(boxes.dtype).unsqueeze(1) * (max(resize.original_size) + 1)
            kept = nms(boxes + apart, best_first, self.nms_iou)
        return visible[kept.sort().values]


def _best_pairs(scores: Tensor, threshold: float, count: int) -> tuple[Tensor, Tensor]:
    """Give (K,) row and column of the ``count`` best (R, C) scores that reach the threshold, best first.

    Equal scores keep the order of rows and columns, on every device and thread count. To sort all of them
    would take longer than everything else; but where ``count`` rows hold a score of at least ``bar``, no
    lower one is among the best.
    """
    rows, bar = torch.arange(len(scores), device=scores.device), scores.new_tensor(threshold)
    if len(scores) > count:
        best = scores.amax(dim=1)
        unknown = best.isnan()  # the row's other scores may be good ones
        bar = torch.maximum(bar, _least_of_best(best.masked_fill(unknown, -math.inf), count))
        rows = ((best >= bar) | unknown).nonzero().squeeze(1)
        scores = scores[rows]
    flat = scores.flatten()
    pair = (flat >= bar).nonzero().squeeze(1)
    if len(pair) > _GROWTH * count:
        pair = pair[flat[pair] >= _least_of_best(flat[pair], count)]
    pair = pair[flat[pair].argsort(descending=True, stable=True)[:count]]
    return rows[pair // scores.shape[1]], pair % scores.shape[1]


def _least_of_best(values: Tensor, count: int) -> Tensor:
    """Give the ``count``-th largest value; which of several equal ones it is makes no difference."""
    return values.topk(count, sorted=False).values.amin()


def _rows_of(boxes: Tensor, rows: Tensor) -> Tensor:
    return boxes[rows]


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
