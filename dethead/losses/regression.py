"""Pure box losses: one unreduced value per positive anchor out.

A box loss gets (P, 4) deltas, boxes and anchors and the codec, takes what it needs, and gives (P,): one works
on encoded deltas, another on decoded boxes.
"""

import torch.nn.functional as F
from torch import Tensor

from dethead.boxes import BoxCodec, at_least_float32


def smooth_l1(deltas: Tensor, boxes: Tensor, anchors: Tensor, codec: BoxCodec, *, beta: float) -> Tensor:
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
        >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> smooth_l1(torch.tensor([[2.0, 0.1, 0, 0]]), box, box, BoxCodec(), beta=1.0)
        tensor([1.5050])
    """
    if not beta >= 0:
        raise ValueError(f"beta must be at least 0, got {beta}")
    if not deltas.shape == boxes.shape == anchors.shape:
        raise ValueError(
            "deltas, boxes and anchors must be of one shape (P, 4), got "
            f"{tuple(deltas.shape)}, {tuple(boxes.shape)} and {tuple(anchors.shape)}"
        )
    deltas = at_least_float32(deltas)
    wanted = codec.encode(boxes, anchors).to(deltas.dtype)
    return F.smooth_l1_loss(deltas, wanted, beta=beta, reduction="none").sum(dim=1)
