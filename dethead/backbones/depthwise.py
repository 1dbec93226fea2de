"""Depthwise convolutions of 5 x 5 and more whose weights get their gradient faster on CPUs."""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SMALLEST: Final = 5
"""Side of kernels for which PyTorch's library has no fast way to the gradient; 3 x 3 it has."""


class DepthwiseConv2d(nn.Conv2d):
    """``nn.Conv2d`` with one kernel for each channel; only the way to the gradient of the kernels is another.

    That gradient is itself a depthwise convolution, of the image by the gradient of the output, whose steps
    are the dilation and whose dilation are the steps. Convolutions forward are fast at every size, which the
    library's own way back to the weights is for 3 x 3 kernels only. The numbers are the same to rounding.

    Under autocast on a CPU it is in float32 both ways, since in bfloat16 the library's ways back are ten
    times slower still. There is no second derivative.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Convolve (B, C, H, W) features."""
        if features.device.type != "cpu" or features.ndim != 4:
            return super().forward(features)
        if not torch.is_autocast_enabled("cpu"):
            return self._convolved(features)
        with torch.autocast("cpu", enabled=False):
            maps = self._convolved(features.to(self.weight.dtype))
        return maps.to(torch.get_autocast_dtype("cpu"))

    def _convolved(self, features: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(features)
        maps: Tensor = _Convolution.apply(features, self.weight, self.stride, self.padding, self.dilation)
        return maps if self.bias is None else maps + self.bias.view(-1, 1, 1)


def quicken_depthwise(model: nn.Module) -> None:
    """Let a model's depthwise convolutions of 5 x 5 and more be ``DepthwiseConv2d``, in place.

    Parameters and state dict stay as they are, and outputs, but under autocast, too.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_depthwise(module):
            module.__class__ = DepthwiseConv2d


def _is_depthwise(layer: nn.Conv2d) -> bool:
    alone = layer.groups == layer.in_channels == layer.out_channels > 1
    plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return alone and plain and min(layer.kernel_size) >= SMALLEST


class _Convolution(torch.autograd.Function):
    """Of (B, C, H, W) features by (C, 1, h, w) weights, each channel by itself."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, *steps: tuple[int, ...]) -> Tensor:
        stride, padding, dilation = steps
        ctx.save_for_backward(features, weight)
        ctx.steps = steps
        return F.conv2d(features, weight, None, stride, padding, dilation, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        features, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.steps
        of_features = of_weight = None
        if ctx.needs_input_grad[0]:
            of_features = torch.ops.aten.convolution_backward(
                gradient, features, weight, None, stride, padding, dilation, False, (0, 0), len(weight),
                (True, False, False),
            )[0]  # fmt: skip
        if ctx.needs_input_grad[1]:
            with torch.autocast("cpu", enabled=False):  # where a step goes back under it, too
                of_weight = _of_weight(features, gradient, weight.shape[2:], stride, padding, dilation)
        return of_features, of_weight, None, None, None


def _of_weight(
    features: Tensor,
    gradient: Tensor,
    size: torch.Size,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """(C, 1, h, w), summed over the images: each has kernels of its own here, so each is convolved alone."""
    height, width = size
    total = gradient.new_zeros(gradient.shape[1], height, width)
    for image, by in zip(features, gradient, strict=True):
        each = F.conv2d(image[None], by.unsqueeze(1), None, dilation, padding, stride, groups=len(by))
        # With a stride some steps may be left behind the kernel's last one.
        total += each[0, :, :height, :width]
    return total.unsqueeze(1)
