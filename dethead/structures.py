"""Every value that crosses a module boundary in dethead, and the words used for it.

Shape legend, valid in every docstring of the package:

    B  images in a batch           M  ground-truth boxes of one image
    A  anchors of one image        G  ignore regions of one image
    C  foreground classes          D  detections of one image
    P  positive anchors of a batch, in the order of ``(matched >= 0).nonzero()``
    E  numbers in one embedding    I  images of a data set

Boxes are float32 ``(x1, y1, x2, y2)`` in pixels of the network input, unless a docstring says
"original pixels". Labels are int64 in ``[0, C)``. Sizes are ``(height, width)``.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

BACKGROUND: Final = -1
"""An anchor that answers "no object"."""

IGNORE: Final = -2
"""An anchor that is asked nothing: no loss, no gradient, no count."""

UNKNOWN_CLASS: Final = -100
"""Label of an object whose class is not known (PyTorch's default ``ignore_index``)."""


class GroundTruth(NamedTuple):
    """What is in one image. M and G may be 0."""

    boxes: Tensor
    """(M, 4)"""
    targets: Tensor
    """(M, C) float in [0, 1]; a box may carry several labels."""
    ignore_boxes: Tensor
    """(G, 4) crowd and don't-care regions."""
    class_known: Tensor
    """(M,) bool; False: the object trains confidence and box, but not the class."""
    weights: Tensor | None = None
    """(M,) float >= 0: sample weights, factors on all that a box is taught; None: 1 each."""

    @classmethod
    def from_labels(
        cls,
        boxes: Tensor,
        labels: Tensor,
        num_classes: int,
        ignore_boxes: Tensor | None = None,
        ignore_index: int = UNKNOWN_CLASS,
        weights: Tensor | None = None,
    ) -> "GroundTruth":
        """Make the ground truth of boxes with one label each.

        Args:
            boxes: (M, 4), whole numbers become float32.
            labels: (M,) integers in [0, C), or ``ignore_index`` for an object of unknown class.
            num_classes: C.
            ignore_boxes: (G, 4), none by default.
            ignore_index: the label that means "an object, class unknown".
            weights: (M,) sample weights, 1 each by default.

        Raises:
            ValueError: shapes that do not fit, a label that is neither in [0, C) nor ``ignore_index``, a box
                that is not finite or whose right or lower edge comes first, or a weight that is negative or
                not finite; the message names the row.

        Example:
            >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
            >>> GroundTruth.from_labels(box, torch.tensor([1]), num_classes=3).targets
            tensor([[0., 1., 0.]])
        """
        if boxes.shape != (len(labels), 4) or labels.ndim != 1:
            raise ValueError(
                f"boxes must be (M, 4) and labels (M,), got {tuple(boxes.shape)} and {tuple(labels.shape)}"
            )
        if labels.is_floating_point() and len(labels):  # torch.tensor([]) is one, and holds no label
            raise ValueError(f"labels must be integers, got {labels.dtype}")
        labels, boxes = labels.long(), boxes if boxes.is_floating_point() else boxes.float()
        ignore_boxes = boxes.new_zeros(0, 4) if ignore_boxes is None else ignore_boxes
        if ignore_boxes.shape != (len(ignore_boxes), 4):
            raise ValueError(f"ignore_boxes must be (G, 4), got {tuple(ignore_boxes.shape)}")
        _check_boxes("box", boxes)
        _check_boxes("ignore box", ignore_boxes)
        if weights is not None:
            _check_weights(weights, len(labels))
        known = labels != ignore_index
        wrong = known & ((labels < 0) | (labels >= num_classes))
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"label {int(labels[row])} of box {row} is not in [0, {num_classes}) nor {ignore_index}"
            )
        targets = boxes.new_zeros(len(labels), num_classes)
        targets[known, labels[known]] = 1.0
        return cls(boxes, targets, ignore_boxes, known, weights)

    def to(self, device: torch.device | str) -> "GroundTruth":
        """Give the same on another device."""
        return GroundTruth(
            *(None if value is None else value.to(device, non_blocking=True) for value in self)  # type: ignore[arg-type]
        )


def _check_boxes(what: str, boxes: Tensor) -> None:
    wrong = ~boxes.isfinite().all(dim=1) | (boxes[:, 2:] < boxes[:, :2]).any(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"{what} {row} must be finite with x1 <= x2 and y1 <= y2, got {boxes[row].tolist()}")


def _check_weights(weights: Tensor, boxes: int) -> None:
    if weights.shape != (boxes,):
        raise ValueError(f"weights must be ({boxes},), one for each box, got {tuple(weights.shape)}")
    wrong = ~(weights.isfinite() & (weights >= 0))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(f"weight {float(weights[row])} of box {row} must be finite and not negative")


class Resize(NamedTuple):
    """How an image was brought to the network's input: scaled, then padded right and below."""

    original_size: tuple[int, int]
    """(height, width) of the image as it is stored."""
    scale: tuple[float, float]
    """(y, x) factor from original to input pixels; the two differ by rounding to whole pixels."""

    def to_original(self, boxes: Tensor) -> Tensor:
        """Take (..., 4) boxes back to original pixels, in float32 at least, not clipped.

        Example:
            >>> Resize((100, 200), (0.5, 0.5)).to_original(torch.tensor([[10.0, 10.0, 50.0, 40.0]]))
            tensor([[ 20.,  20., 100.,  80.]])
        """
        y, x = self.scale
        boxes = boxes if boxes.dtype == torch.float64 else boxes.float()
        return boxes / boxes.new_tensor([x, y, x, y])

    def to_input(self, boxes: Tensor) -> Tensor:
        """Take (..., 4) boxes in original pixels to pixels of the network input."""
        y, x = self.scale
        boxes = boxes if boxes.dtype == torch.float64 else boxes.float()
        return boxes * boxes.new_tensor([x, y, x, y])


class Batch(NamedTuple):
    """B images as the network wants them, and what is in them."""

    images: Tensor
    """(B, 3, H, W) uint8 RGB, all of one size; the detector normalises them."""
    truth: list[GroundTruth]
    """One for each image."""
    image_ids: list[int]
    """As in the annotation file."""
    resizes: list[Resize]
    """The way back to original pixels, one for each image."""


class HeadOutput(NamedTuple):
    """What a head predicts for a batch: C + 1 + 4 numbers per anchor, all raw."""

    raw: Tensor
    """(B, A, C + 5): C class logits, the confidence logit, dx dy dw dh."""
    embeddings: Tensor | None = None
    """(B, A, E) of an optional embedding branch."""

    @property
    def class_logits(self) -> Tensor:
        """(B, A, C) view; a class scheme says what they mean."""
        return self.raw[..., :-5]

    @property
    def confidence_logits(self) -> Tensor:
        """(B, A) view; sigmoid: is there an object."""
        return self.raw[..., -5]

    @property
    def box_deltas(self) -> Tensor:
        """(B, A, 4) view; see ``BoxCodec``."""
        return self.raw[..., -4:]

    @classmethod
    def from_parts(
        cls,
        class_logits: Tensor,
        confidence_logits: Tensor,
        box_deltas: Tensor,
        embeddings: Tensor | None = None,
    ) -> "HeadOutput":
        """Join the branches of somebody else's head: (B, A, C), (B, A) and (B, A, 4).

        Raises:
            ValueError: shapes that do not fit.
        """
        shape = class_logits.shape[:-1]
        if class_logits.ndim != 3 or confidence_logits.shape != shape or box_deltas.shape != (*shape, 4):
            raise ValueError(
                "class_logits must be (B, A, C), confidence_logits (B, A), box_deltas (B, A, 4); got "
                f"{tuple(class_logits.shape)}, {tuple(confidence_logits.shape)}, {tuple(box_deltas.shape)}"
            )
        return cls(torch.cat([class_logits, confidence_logits.unsqueeze(-1), box_deltas], dim=-1), embeddings)


class Anchors(NamedTuple):
    """The anchors of one image size; A runs level, row, column, anchor shape."""

    boxes: Tensor
    """(A, 4)"""
    levels: tuple[slice, ...]
    """The rows of each pyramid level, finest first."""
    strides: tuple[float, ...]
    """Input pixels per cell of each level."""
    cells: tuple[tuple[int, int], ...]
    """(rows, columns) of each level."""


class Predictions(NamedTuple):
    """Detached predictions, for assigners whose matching cost depends on them."""

    boxes: Tensor
    """(B, A, 4) decoded."""
    class_probabilities: Tensor
    """(B, A, C) in [0, 1]."""
    confidence: Tensor
    """(B, A) in [0, 1]."""


class Assignment(NamedTuple):
    """What each anchor answers for. Boxes and targets are looked up for positives only."""

    matched: Tensor
    """(B, A) int64: row in the image's boxes, BACKGROUND or IGNORE."""
    overlaps: Tensor
    """(B, A) float32 IoU with the matched box, 0 where there is none."""
    quality: Tensor | None = None
    """(B, A) soft target in [0, 1], from assigners that give one."""


class ClassesSeen(NamedTuple):
    """What each class got, in one step or in a run so far; some class losses depend on it."""

    positives: Tensor
    """(C,) positive anchors of the class; soft and several labels count with their targets."""
    yes_gradient: Tensor
    """(C,) sum of |d class term / d logit| where the target is above 0: what pulls the class up."""
    no_gradient: Tensor
    """(C,) the same where the target is 0: what pushes the class down."""


class LossTerms(NamedTuple):
    """Scalars of one step; the term weights are already in."""

    total: Tensor
    """The sum of the others: call ``backward()`` on this one."""
    classification: Tensor
    confidence: Tensor
    box: Tensor
    extra: Mapping[str, Tensor] = {}  # never written to
    """Further terms by name: embedding, distillation, class_l2."""
    seen: ClassesSeen | None = None
    """What each class got in this step, if the criterion observes it; no part of the loss."""

    def scalars(self) -> dict[str, Tensor]:
        """Give total, the three terms and the extra ones by name."""
        return {
            "total": self.total,
            "classification": self.classification,
            "confidence": self.confidence,
            "box": self.box,
            **self.extra,
        }


class Detections(NamedTuple):
    """Final detections of one image, best score first."""

    boxes: Tensor
    """(D, 4) original pixels."""
    scores: Tensor
    """(D,) in [0, 1], fused."""
    labels: Tensor
    """(D,) int64 in [0, C)."""
    class_probabilities: Tensor
    """(D,) in [0, 1], of the label."""
    confidence: Tensor
    """(D,) in [0, 1]: is there an object."""

    @classmethod
    def empty(cls) -> "Detections":
        """Give the detections of an image in which nothing was found."""
        zero = torch.zeros(0)
        return cls(torch.zeros(0, 4), zero, torch.zeros(0, dtype=torch.int64), zero, zero)

    def select(self, rows: Tensor) -> "Detections":
        """Keep the (D,) bool or int64 ``rows``."""
        return Detections(*(value[rows] for value in self))

    def cpu(self) -> "Detections":
        """Give the same on the CPU."""
        return Detections(*(value.cpu() for value in self))
