"""Detector: pixels in, HeadOutput out, in training and in evaluation alike."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dethead.anchors import AnchorGrid
from dethead.backbones import fold_batch_norm
from dethead.enlarging import fraction, seen_strides
from dethead.structures import Anchors, HeadOutput


class Detector(nn.Module):
    """Backbone, head and anchors.

    Args:
        backbone: a pyramid: normalised (B, 3, H, W) images -> one (B, channels, H_l, W_l) map per level.
        head: those maps -> HeadOutput.
        grid: anchors of the same levels.
        enlarge: what the sides of an image are multiplied by before the backbone sees it, 1 or more. Cells
            are so many times finer, at the square of it in time; anchors, boxes and everything else stay in
            pixels of the image as it was given.

    Raises:
        ValueError: strides of the grid that are not the backbone's, over ``enlarge``; a factor below 1.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, backbone: nn.Module, head: nn.Module, grid: AnchorGrid, *, enlarge: float = 1.0
    ) -> None:
        super().__init__()
        if not 1 <= enlarge < math.inf:
            raise ValueError(f"enlarge must be at least 1, got {enlarge}")
        strides = seen_strides(backbone.strides, enlarge)  # type: ignore[arg-type]
        if strides != grid.strides:
            raise ValueError(f"the backbone has strides {strides}, the anchors {grid.strides}")
        self.backbone, self.head, self.grid, self.enlarge = backbone, head, grid, enlarge
        self._ratio = fraction(enlarge).as_integer_ratio()
        # Not in the state dict: they belong to the backbone's weights and come with its name.
        for name in ("pixel_mean", "pixel_std"):
            value = torch.tensor(getattr(backbone, name)).reshape(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def forward(self, images: Tensor) -> HeadOutput:
        """Predict (B, A, C + 5) from (B, 3, H, W) RGB images, uint8 or float in 0..255.

        The order along A is that of ``anchors``.

        Raises:
            ValueError: images of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
        output: HeadOutput = self.head(self.backbone(self._enlarged(self._normalised(images))))
        return output

    def _enlarged(self, images: Tensor) -> Tensor:
        if self.enlarge == 1:
            return images
        # In whole numbers, which compilers follow; a started pixel counts.
        over, under = self._ratio
        size = [-(-side * over // under) for side in images.shape[2:]]
        return F.interpolate(images, size=size, mode="bilinear")

    def _normalised(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in the range that the backbone wants, channels last in memory."""
        width = images.shape[3]
        # Rows of a picture as rows of 3 W numbers, each with a mean of its own: short runs of three would
        # take five times as long.
        rows = images.permute(0, 2, 3, 1).flatten(2).to(self.pixel_mean.dtype)
        mean, std = (value.flatten().repeat(width) for value in (self.pixel_mean, self.pixel_std))
        return (rows - mean).div_(std).view(*rows.shape[:2], width, 3).permute(0, 3, 1, 2)

    def anchors(self, image_size: Sequence[int]) -> Anchors:
        """Give the anchors of images of (height, width), on the device of the detector."""
        height, width = image_size
        return self.grid.place((height, width), self.pixel_mean.device)

    @torch.no_grad()
    def for_detection(self, image_size: Sequence[int]) -> "Detector":
        """Give a copy that finds the same objects in less time; this detector stays as it is.

        Batch normalisation is part of the convolutions (``fold_batch_norm``), but where each level has its
        own, and what a training wraps around a detector is left off. The copy is in evaluation mode, without
        gradients, with a state dict of its own kind.

        Args:
            image_size: (height, width) in px of some images to come; one of zeros is looked at.
        """
        plain = Detector(self.backbone, self.head, self.grid, enlarge=self.enlarge)
        plain.pixel_mean, plain.pixel_std = self.pixel_mean, self.pixel_std
        return fold_batch_norm(plain, self.pixel_mean.new_zeros(1, 3, *image_size))
