"""Assignment by overlap: the rule of RetinaNet, RPN and SSD."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dethead.assigners.all_pairs import match
from dethead.assigners.claims import Claims
from dethead.assigners.ignoring import check_ignore_overlap, inside_ignored
from dethead.assigners.overlapping import Overlaps, OverlapSearch, overlaps_at, search_among
from dethead.devices import is_behind
from dethead.structures import BACKGROUND, IGNORE, Anchors, Assignment, GroundTruth, Predictions


@dataclass(frozen=True, slots=True)
class MaxIoUAssigner:
    """Positive from ``positive_iou`` on, BACKGROUND below ``negative_iou``, IGNORE in between.

    Args:
        positive_iou: an anchor answers for its best box from this IoU on.
        negative_iou: below this IoU with every box it is background.
        low_quality: a box whose best anchor stays below ``positive_iou`` gets its best anchors all the same
            (all that tie), so that no object goes untrained. Such an anchor answers for *its own* best box,
            as in torchvision and Detectron2. A box that no anchor touches gets none, nor does one whose best
            anchors all overlap another box more: denser anchors help.
        ignore_overlap: an anchor that is not positive and has this share of its area in one ignore region is
            IGNORE. Positives stay: an object inside a crowd region is still an object.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 4.
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.4
    low_quality: bool = True
    ignore_overlap: float = 0.5
    needs_predictions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                "0 <= negative_iou <= positive_iou <= 1 must hold, got "
                f"negative_iou {self.negative_iou}, positive_iou {self.positive_iou}"
            )
        check_ignore_overlap(self.ignore_overlap)

    @torch.no_grad()
    def __call__(
        self, anchors: Anchors, truth: Sequence[GroundTruth], predictions: Predictions | None = None
    ) -> Assignment:
        """Assign a batch.

        On a CPU: where anchors stand in a grid (``AnchorGrid``), time and memory go with the pairs that
        overlap enough. Other anchors are sorted into groups once, and most groups ruled out by their bounds.

        On CUDA all are compared, some anchors at a time: nothing waits for the device, whose answers decide
        no shape. The assignment is the same.
        """
        if is_behind(anchors.boxes):
            return self._assign_all(anchors.boxes, truth)
        search = search_among(anchors)
        best, touched, chosen = self._match(search, [one.boxes for one in truth], anchors.boxes)
        self._settle(best, touched, chosen)
        matched = best.box.view(len(truth), -1)
        for row, one in zip(matched, truth, strict=True):
            if len(one.ignore_boxes):
                row.masked_fill_(search.inside(one.ignore_boxes, self.ignore_overlap) & (row < 0), IGNORE)
        return Assignment(matched, best.value.view(len(truth), -1))

    def _assign_all(self, anchors: Tensor, truth: Sequence[GroundTruth]) -> Assignment:
        """Assign a batch from all pairs."""
        rows, values, chosen = match([one.boxes for one in truth], anchors, and_best=self.low_quality)
        positive = (values >= self.positive_iou) | chosen
        matched = rows.where(positive, torch.where(values >= self.negative_iou, IGNORE, BACKGROUND))
        for row, one in zip(matched, truth, strict=True):
            if not len(one.boxes):
                row.fill_(self._untouched(0))
            if len(one.ignore_boxes):
                inside = inside_ignored(anchors, one.ignore_boxes, self.ignore_overlap)
                row.masked_fill_(inside & (row < 0), IGNORE)
        return Assignment(matched, values.where(positive, 0.0))

    def _settle(self, best: Claims, touched: Tensor, chosen: Tensor) -> None:
        """Leave box and IoU to positives alone: those from ``positive_iou`` on, and (N,) ``chosen`` ones.

        Anchors that are not among (P,) ``touched`` ones, most of all, say already what they are.
        """
        kept = best.box[chosen], best.value[chosen]
        box, value = best.box[touched], best.value[touched]
        positive = value >= self.positive_iou
        rest = torch.where(value >= self.negative_iou, IGNORE, BACKGROUND)
        best.box[touched] = box.where(positive, rest)
        best.value[touched] = value.where(positive, 0.0)
        best.box[chosen], best.value[chosen] = kept

    def _untouched(self, boxes: int) -> int:
        """What an anchor answers for that overlaps none of an image's boxes, all equally little."""
        if boxes and self.positive_iou == 0:
            return 0
        return IGNORE if self.negative_iou == 0 else BACKGROUND

    def _nothing_yet(self, truth: Sequence[Tensor], anchors: Tensor) -> Claims:
        """Claims on B * A anchors, all of overlap 0."""
        like = anchors.new_zeros(0, dtype=torch.result_type(truth[0], anchors))
        claims = Claims(len(truth) * len(anchors), like, lowest=0.0)
        for row, boxes in zip(claims.box.view(len(truth), -1), truth, strict=True):
            if (untouched := self._untouched(len(boxes))) != BACKGROUND:
                row.fill_(untouched)
        return claims

    def _match(
        self, search: OverlapSearch, truth: Sequence[Tensor], anchors: Tensor
    ) -> tuple[Claims, Tensor, Tensor]:
        """The best boxes, (P,) places that boxes claim, and (N,) those that are the best of one, if wanted.

        The first are exact from ``negative_iou`` on, and for the last. The images are taken together: the
        anchors of all are numbered through, and so are the boxes.
        """
        boxes = torch.cat([*truth])
        image, row = _image_and_row([len(some) for some in truth], boxes.device)
        best = self._nothing_yet(truth, anchors)
        touched, chosen = [row.new_zeros(0)], [row.new_zeros(0)]
        for found in search.above(boxes, image, self.negative_iou, and_best=self.low_quality):
            best.add_pairs(row[found.boxes], found.places, found.values)
            touched.append(found.places)
            if sum(map(len, touched)) > len(best.value):  # so that memory goes with the anchors
                touched = [best.value.nonzero()[:, 0]]
            if self.low_quality:
                chosen.append(found.places[_highest_of_box(found, len(boxes))])
        places: Tensor = torch.unique(torch.cat(chosen))
        # The best anchor of a box may overlap another box more, and both by less than was looked for.
        low = places[best.value[places] < self.negative_iou]
        if len(low):
            lowest = best.value[low]
            best.value[low] = 0
            for found in overlaps_at(search, boxes, image, low, lowest):
                best.add_pairs(row[found.boxes], found.places, found.values)
        return best, torch.cat(touched), places


def _image_and_row(counts: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """(sum,) each: the image of every box, and its row among the boxes of the image."""
    image = torch.tensor([number for number, count in enumerate(counts) for _ in range(count)])
    return image.long().to(device), torch.cat([torch.arange(count) for count in counts]).to(device)


def _highest_of_box(found: Overlaps, boxes: int) -> Tensor:
    """(P,) bool: pairs with the highest IoU of their box."""
    highest = found.values.new_zeros(boxes).scatter_reduce_(0, found.boxes, found.values, "amax")
    return found.values == highest[found.boxes]
