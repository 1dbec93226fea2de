"""What of a backbone is trained: freezing its first stages, and what batch normalisation does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dethead.backbones.interface import Backbone


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics, scale and shift; nothing of it is trained, in any mode.

    The state dict has the keys of ``nn.BatchNorm2d``, so checkpoints load both ways. It is one pass over the
    features, where torchvision's class of the same name multiplies and adds in two.

    Args:
        norm: whose numbers are copied.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        for name, value in norm.state_dict().items():
            self.register_buffer(name, value.clone())

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, H, W) features."""
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(features, mean, variance, self.weight, self.bias, training=False, eps=self.eps)


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Let forward passes leave the running statistics of batch normalisation as they are, in training, too.

    For a look ahead at what a model in training will say, before the pass that counts.
    """
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def freeze_stages(backbone: Backbone, count: int) -> None:
    """Stop the training of the first ``count`` entries of ``backbone.stages()``, in place.

    Their parameters get no gradient, and their batch normalisation keeps its statistics, also after
    ``backbone.train()``. Call it before the optimizer is made. Stochastic depth stays random in training.

    Args:
        backbone: with its pretrained weights already loaded.
        count: 0 freezes nothing; ``len(backbone.stages())`` the whole backbone.

    Raises:
        ValueError: a count below 0 or above the number of stages.
    """
    stages = backbone.stages()
    if not 0 <= count <= len(stages):
        raise ValueError(f"count of frozen stages must be in [0, {len(stages)}], got {count}")
    for stage in stages[:count]:
        stage.requires_grad_(False)
        frozen = {id(norm) for norm in stage.modules() if isinstance(norm, nn.BatchNorm2d)}
        _freeze_norms(backbone, frozen)


def set_norm(backbone: Backbone, how: Literal["train", "frozen", "sync"]) -> Backbone:
    """Choose what the batch normalisation of a backbone does in training.

    Args:
        backbone: changed in place. What is frozen already stays frozen.
        how: "train": statistics of the batch, as built; "frozen": statistics and affine numbers as they are
            now (use it for pretrained weights and few images per step); "sync": statistics of the batches of
            all processes (``nn.SyncBatchNorm``; on one process or in evaluation the same as "train").

    Returns:
        The same backbone.

    Raises:
        ValueError: another word.
    """
    if how not in ("train", "frozen", "sync"):
        raise ValueError(f"norm must be train, frozen or sync, got {how!r}")
    if how == "frozen":
        _freeze_norms(backbone, {id(m) for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)})
    if how == "sync":
        nn.SyncBatchNorm.convert_sync_batchnorm(backbone)  # type: ignore[no-untyped-call]
    return backbone


def _freeze_norms(root: nn.Module, chosen: set[int]) -> None:
    # Parents are searched from the root, because a block of a stage may be the norm itself.
    for parent in root.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and id(child) in chosen:
                setattr(parent, name, FrozenBatchNorm2d(child))
