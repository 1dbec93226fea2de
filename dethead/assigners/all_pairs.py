"""All boxes compared with all anchors, in pieces that the host can plan: nothing waits for the device.

What is found decides no shape and no branch, so that a GPU never runs out of work, and a CUDA graph can hold
the whole of it. On a CPU ``overlapping`` is faster: it never looks at most pairs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from dethead.assigners.overlapping import NO_OVERLAP
from dethead.boxes import by_coordinate, iou

CHUNK_PAIRS: Final = 2**21
"""Pairs looked at together, or all of an anchor: bounds memory at some 120 MB, and work for a whole GPU."""


class Matches(NamedTuple):
    """What B images have to say of A anchors."""

    rows: Tensor
    """(B, A) int64: the box that overlaps an anchor most, of equal ones the first; 0 where none does."""
    values: Tensor
    """(B, A) IoU with it, to the bit what ``dethead.boxes.iou`` gives."""
    chosen: Tensor
    """(B, A) bool: anchors that some box overlaps most, of equal ones all; none by an overlap of 0."""


@torch.compiler.disable  # type: ignore[untyped-decorator]
def match(truth: Sequence[Tensor], anchors: Tensor, *, and_best: bool) -> Matches:
    """Find the best box of every anchor, and the best anchors of every box.

    It is not compiled, for overlaps are worked out twice, and must be the same to the bit.

    Args:
        truth: (M, 4) boxes of each of B images. One that is no number overlaps nothing, so that images may be
            given as many boxes as a CUDA graph was captured with.
        anchors: (A, 4).
        and_best: whether ``chosen`` is wanted; else it is False everywhere.
    """
    boxes, counts = torch.cat([*truth]), [len(some) for some in truth]
    shape, dtype = (len(truth), len(anchors)), torch.result_type(boxes, anchors)
    found = Matches(
        anchors.new_zeros(shape, dtype=torch.int64),
        anchors.new_zeros(shape, dtype=dtype),
        anchors.new_zeros(shape, dtype=torch.bool),
    )
    pairs: Iterable[tuple[slice, Tensor]] = _Pairs(boxes, by_coordinate(anchors))
    if len(boxes) * len(anchors) <= CHUNK_PAIRS:  # a single piece, which is kept for the second time
        pairs = [*pairs]
    highest = found.values.new_zeros(len(boxes), 1)
    for piece, overlaps in pairs:
        highest = highest.maximum(overlaps.amax(dim=1, keepdim=True))
        for image, some in _by_image(overlaps, counts):
            torch.max(some, dim=0, out=(found.values[image, piece], found.rows[image, piece]))
    if and_best:
        _choose(found.chosen, pairs, highest, counts)
    return found


def _choose(
    chosen: Tensor, pairs: Iterable[tuple[slice, Tensor]], highest: Tensor, counts: Sequence[int]
) -> None:
    """Note in (B, A) ``chosen`` the anchors with the ``highest`` (S, 1) overlap of a box."""
    highest = highest.where(highest > 0, NO_OVERLAP)
    for piece, overlaps in pairs:
        for image, some in _by_image(overlaps == highest, counts):
            torch.any(some, dim=0, out=chosen[image, piece])


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Overlaps of the boxes of all images with all anchors; anew each time they are gone through."""

    boxes: Tensor
    """(S, 4)"""
    anchors: Tensor
    """(A, 4)"""

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Give rows of anchors and their (S, N) overlaps, 0 with boxes that are no numbers."""
        step = max(1, CHUNK_PAIRS // max(len(self.boxes), 1))
        for start in range(0, len(self.anchors) if len(self.boxes) else 0, step):
            piece = slice(start, start + step)
            overlaps = iou(self.boxes[:, None], self.anchors[piece])
            yield piece, overlaps.where(overlaps > 0, 0)


def _by_image(pairs: Tensor, counts: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Give (S, N) pairs by image, (M, N) each, but for the images without boxes."""
    for image, some in enumerate(torch.split(pairs, [*counts])):
        if len(some):
            yield image, some
