"""From head output to detections."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dethead.boxes import Codec
from dethead.postprocess.flipping import averaged_with_mirror
from dethead.postprocess.fusion import ScoreFusion, product, rises
from dethead.postprocess.suppression import NMS, Candidates, Suppression
from dethead.schemes import ClassScheme
from dethead.structures import Anchors, Detections, HeadOutput, Predictions, Resize

Rows = Tensor | slice
"""Some anchors of an image by number, or all of them."""

_NMS = NMS()

_SLACK = 1e-5
"""Relative: what rounding could add to the score of a certain class, with much to spare."""

_FIRST, _GROWTH = 2, 4
"""The first suppression sees twice the detections wanted, each one after that four times as many."""


@dataclass(frozen=True, slots=True)
class Postprocessor:
    """Scores (anchor, class) pairs, keeps the best, decodes those, clips, suppresses within a class.

    NMS goes from the best score down, so that the first ``max_detections`` survivors of the best few pairs
    are those of all: the best few are looked at, and more only where too few survive. Of equal scores the
    lower anchor comes first, then the lower class.

    Args:
        scheme: the criterion's.
        codec: the criterion's.
        fusion: how confidence and class probability make a score.
        score_threshold: detections below are dropped, by the score they end with. A threshold on a product of
            two probabilities cuts deeper than on one: for AP use 0.001 to 0.01.
        pre_nms_top_k: best pairs of an image that go on to suppression.
        nms_iou: a box is dropped if a better one of its class overlaps it by more.
        max_detections: of one image, all classes together.
        suppression: what becomes of several boxes on one object.
        class_thresholds: C scores in [0, 1], in order of the labels: what is below its class's own is
            dropped, too. For pictures and alarms; AP can only lose by it. Empty: none.
    """

    scheme: ClassScheme
    codec: Codec
    fusion: ScoreFusion = product
    score_threshold: float = 0.01
    pre_nms_top_k: int = 1000
    nms_iou: float = 0.6
    max_detections: int = 300
    suppression: Suppression = _NMS
    class_thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.score_threshold <= 1 and 0 <= self.nms_iou <= 1):
            raise ValueError(
                "score_threshold and nms_iou must be in [0, 1], got "
                f"{self.score_threshold} and {self.nms_iou}"
            )
        if not all(0 <= value <= 1 for value in self.class_thresholds):
            raise ValueError(f"class_thresholds must be in [0, 1], got {self.class_thresholds}")
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

    @torch.no_grad()
    def with_mirror(
        self,
        output: HeadOutput,
        mirrored: HeadOutput,
        anchors: Anchors,
        image_width: int,
        resizes: Sequence[Resize],
    ) -> list[Detections]:
        """Give the detections of images that were looked at twice, the second time in the mirror.

        Args:
            output: of B images.
            mirrored: of ``images.flip(-1)``.
            anchors: of both.
            image_width: of the network input, in pixels.
            resizes: of the images.

        Raises:
            ValueError: a level whose cells do not fill the width.
        """
        said, said_in_mirror = self.predictions(output, anchors), self.predictions(mirrored, anchors)
        return self.select(averaged_with_mirror(said, said_in_mirror, anchors, image_width), resizes)

    def _one(
        self,
        confidence: Tensor,
        probabilities_of: Callable[[Rows], Tensor],
        boxes_of: Callable[[Tensor], Tensor],
        resize: Resize,
    ) -> Detections:
        """One image: (A,) confidence, and what gives (R, C) probabilities and (R, 4) boxes of anchors."""
        votes_from = self.suppression.votes_from
        bar = min(self.score_threshold, votes_from)
        rows = self._reachable(confidence, bar)
        probabilities = probabilities_of(rows)
        scores = self.fusion(confidence[rows].unsqueeze(-1), probabilities)
        lowest = self._lowest(scores)
        if self.class_thresholds:
            scores = scores.masked_fill(scores < lowest.clamp(max=votes_from), -math.inf)
        for count in self._counts():
            row, label = _best_pairs(scores, bar, count)
            anchor = row if isinstance(rows, slice) else rows[row]
            boxes = _clip(resize.to_original(boxes_of(anchor)), resize.original_size)
            seen = _with_area(boxes)
            label = label[seen]
            found = Candidates(
                boxes[seen], scores[row[seen], label], label, lowest[label], resize.original_size
            )
            kept = self.suppression(found, self.nms_iou, self.max_detections)
            if len(kept.rows) >= self.max_detections or len(row) < count:
                break
        best = kept.rows[: self.max_detections]
        place, label = seen[best], label[best]
        return Detections(
            kept.boxes[: self.max_detections],
            kept.scores[: self.max_detections],
            label,
            probabilities[row[place], label],
            confidence[anchor[place]],
        )

    def _counts(self) -> Iterator[int]:
        """Give how many of the best pairs to look at, and how many if too few of them survive."""
        count = _FIRST * self.max_detections if self.suppression.lazy else self.pre_nms_top_k
        while count < self.pre_nms_top_k:
            yield count
            count *= _GROWTH
        yield self.pre_nms_top_k

    def _lowest(self, scores: Tensor) -> Tensor:
        """(C,) score from which on a pair of each class counts.

        Raises:
            ValueError: another number of ``class_thresholds`` than of classes.
        """
        classes = scores.shape[-1]
        if len(self.class_thresholds) not in (0, classes):
            raise ValueError(f"{len(self.class_thresholds)} class_thresholds for {classes} classes")
        return scores.new_tensor(self.class_thresholds or (0.0,) * classes).clamp(min=self.score_threshold)

    def _reachable(self, confidence: Tensor, bar: float) -> Rows:
        """Give the anchors that reach ``bar`` if some class is certain; all, where nobody can tell."""
        if not rises(self.fusion):
            return slice(None)
        ceiling = self.fusion(confidence.unsqueeze(-1), torch.ones_like(confidence).unsqueeze(-1)).squeeze(-1)
        reachable = ceiling * (1 + _SLACK) >= bar
        # A slice makes no copy.
        return slice(None) if bool(reachable.all()) else reachable.nonzero().squeeze(1)


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


def _with_area(boxes: Tensor) -> Tensor:
    """(N,) rows of (K, 4) clipped boxes; outside the image there is no area left, nothing to find."""
    return ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1).nonzero().squeeze(1)


def _clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut (N, 4) boxes off at the borders of an image of (height, width)."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
