"""What every backbone looks like to the rest of the package."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Images in, feature maps out, finest first.

    Subclass it for a network of your own: set the four attributes in ``__init__`` and write the two methods.
    """

    strides: tuple[int, ...]
    """Input pixels per cell of each map, finest first, such as (8, 16, 32)."""
    channels: tuple[int, ...]
    """Channels of each map."""
    pixel_mean: tuple[float, float, float]
    """RGB, in 0..255: the network wants ``(image - pixel_mean) / pixel_std``."""
    pixel_std: tuple[float, float, float]
    """RGB, in 0..255."""

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Give the maps of (B, 3, H, W) normalised images.

        Returns:
            One (B, channels[i], H / strides[i], W / strides[i]) map for each stride. Where H or W is not a
            multiple of the last stride, the number of cells is rounded, up or down as the network does it.
        """

    @abstractmethod
    def stages(self) -> list[nn.Module]:
        """Give the parts in order of depth, stem first; ``freeze_stages`` counts them."""
