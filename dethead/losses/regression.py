"""Pure box losses: one unreduced value per positive anchor out.

A box loss gets (P, 4) deltas, boxes and anchors and the codec, takes what it needs, and gives (P,): some work
on encoded deltas, others on decoded boxes. All are 0 at the target, and finite with finite gradients for
boxes of no size and for predictions far away.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from dethead.boxes import Codec, at_least_float32, ciou, diou, giou, iou


def smooth_l1(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec, *, beta: float) -> Tensor:
    """Smooth L1 on encoded deltas, summed over the four.

    ``beta`` is where the square ends and the line begins, 0 is plain L1. It has no default: 1, 1/9, 0.1 and 0
    are all "the" value somewhere. Huber's loss is beta times this.

    Args:
        deltas: (P, 4) predicted.
        boxes: (P, 4) true.
        anchors: (P, 4).
        codec: the one that decodes the predictions, too.
        beta: at least 0, in units of the deltas.

    Source: Girshick 2015, https://arxiv.org/abs/1504.08083, equation 3.

    Example:
        >>> import torch
        >>> from dethead.boxes import BoxCodec
        >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> smooth_l1(torch.tensor([[2.0, 0.1, 0, 0]]), box, box, BoxCodec(), beta=1.0)
        tensor([1.5050])
    """
    if not beta >= 0:
        raise ValueError(f"beta must be at least 0, got {beta}")
    deltas, wanted = _encoded(deltas, boxes, anchors, codec)
    return F.smooth_l1_loss(deltas, wanted, beta=beta, reduction="none").sum(dim=1)


def l1(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec) -> Tensor:
    """Absolute differences of the encoded deltas, summed over the four; the gradient at 0 is 0.

    Arguments as in ``smooth_l1``, which is this for beta = 0.
    """
    return smooth_l1(deltas, boxes, anchors, codec, beta=0.0)


def mse(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec) -> Tensor:
    """Squared differences of the encoded deltas, summed over the four, without a factor of 1/2.

    Arguments as in ``smooth_l1``.

    Example:
        >>> import torch
        >>> from dethead.boxes import BoxCodec
        >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> mse(torch.tensor([[2.0, 0.5, 0, 0]]), box, box, BoxCodec())
        tensor([4.2500])
    """
    deltas, wanted = _encoded(deltas, boxes, anchors, codec)
    return F.mse_loss(deltas, wanted, reduction="none").sum(dim=1)


def iou_squared_loss(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec) -> Tensor:
    """1 - IoU^2 of the decoded box with the true one, in [0, 1].

    Arguments as in ``smooth_l1``. The slope grows with the overlap: good boxes are polished, and a box that
    does not touch its truth is not pulled at all. That suits assigners that take overlapping predictions.

    Source: the published code of Ge et al. 2021 (YOLOX), https://arxiv.org/abs/2107.08430.

    Example:
        >>> import torch
        >>> from dethead.boxes import BoxCodec
        >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> iou_squared_loss(torch.tensor([[0.5, 0, 0, 0]]), box, box, BoxCodec())  # 1 - (5 / 15)^2
        tensor([0.8889])
    """
    return _overlap_loss(lambda first, second: iou(first, second).square(), deltas, boxes, anchors, codec)


def giou_loss(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec) -> Tensor:
    """1 - generalised IoU of the decoded box with the true one, in [0, 2).

    Arguments as in ``smooth_l1``. A true box of no size costs at least 1: it cannot be overlapped.

    Source: Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630, algorithm 2.

    Example:
        >>> import torch
        >>> from dethead.boxes import BoxCodec
        >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> giou_loss(torch.tensor([[0.5, 0, 0, 0]]), box, box, BoxCodec())  # 1 - (5 / 15 - 0)
        tensor([0.6667])
    """
    return _overlap_loss(giou, deltas, boxes, anchors, codec)


def diou_loss(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec) -> Tensor:
    """1 - distance IoU of the decoded box with the true one, in [0, 2).

    Arguments as in ``smooth_l1``. A true box of no size costs at least 1.

    Source: Zheng et al. 2020, https://arxiv.org/abs/1911.08287, equation 7.
    """
    return _overlap_loss(diou, deltas, boxes, anchors, codec)


def ciou_loss(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec) -> Tensor:
    """1 - complete IoU of the decoded box with the true one, in [0, 2.5).

    Arguments as in ``smooth_l1``. The weight alpha of its shape term is a constant for the gradient, as in
    the paper. A true box of no size costs at least 1.

    Source: Zheng et al. 2020, https://arxiv.org/abs/1911.08287, equation 10.
    """
    return _overlap_loss(ciou, deltas, boxes, anchors, codec)


def _encoded(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec) -> tuple[Tensor, Tensor]:
    """(P, 4) predicted and wanted deltas of one dtype."""
    _check(deltas, boxes, anchors)
    deltas = at_least_float32(deltas)
    return deltas, codec.encode(boxes, anchors).to(deltas.dtype)


def _overlap_loss(
    overlap: Callable[[Tensor, Tensor], Tensor], deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: Codec
) -> Tensor:
    """(P,) 1 - overlap of decoded and true boxes."""
    _check(deltas, boxes, anchors)
    decoded = codec.decode(deltas, anchors)
    return 1 - overlap(decoded, boxes.to(decoded.dtype))


def _check(deltas: Tensor, boxes: Tensor, anchors: Tensor) -> None:
    if not deltas.shape == boxes.shape == anchors.shape:
        raise ValueError(
            "deltas, boxes and anchors must be of one shape (P, 4), got "
            f"{tuple(deltas.shape)}, {tuple(boxes.shape)} and {tuple(anchors.shape)}"
        )
