"""A feature pyramid with a second path, from the fine maps back to the coarse ones."""

import torch.nn.functional as F
from torch import Tensor, nn

from dethead.backbones.feature_pyramid import FeaturePyramid, NeckNorm, convolution3x3, normalise, own_stream
from dethead.backbones.interface import Backbone


class PathAggregation(FeaturePyramid):
    """Maps of one width, in which each one knows what all others saw; itself a backbone.

    To the maps P of a feature pyramid a path upwards is added: N_0 = P_0, the finest, and
    N_i+1 = relu(conv(P_i+1 + relu(step(N_i)))), with a ``step`` of stride 2 and all convolutions 3 x 3. Edges
    and small parts, which fine maps hold, so reach the coarse ones over few layers. Extra levels follow the
    last map of the path, as in ``FeaturePyramid``. Where the backbone rounds sizes, or leaves out a stride,
    the stepped map is resized to the next.

    The activations are those of the paper: behind both convolutions of the path, with and without
    normalisation. (MMDetection's PAFPN has none, and steps from the maps in front of ``conv``.)

    Source: Liu et al., "Path Aggregation Network for Instance Segmentation", 2018, section 3.1
    (https://arxiv.org/abs/1803.01534).

    Args:
        backbone: whose maps are merged, two at least.
        out_channels: of every map.
        extra_levels: number of maps behind the backbone's last; each doubles the stride.
        separable: as in ``FeaturePyramid``, and of the path as well.
        norm: "batch" puts batch normalisation behind every convolution, in front of its activation.

    Raises:
        ValueError: a backbone of one map, or what ``FeaturePyramid`` refuses.
    """

    def __init__(
        self,
        backbone: Backbone,
        out_channels: int,
        extra_levels: int = 0,
        *,
        separable: bool = False,
        norm: NeckNorm = "none",
    ) -> None:
        if len(backbone.strides) < 2:
            raise ValueError(f"a path needs a backbone of at least 2 maps, got strides {backbone.strides}")
        stream = own_stream("path")
        super().__init__(backbone, out_channels, extra_levels, separable=separable, norm=norm)

        def block(stride: int) -> nn.Sequential:
            made = nn.Sequential(
                convolution3x3(out_channels, stride=stride, separable=separable, stream=stream)
            )
            return (normalise(made) if norm == "batch" else made).append(nn.ReLU(inplace=True))

        paths = [(block(2), block(1)) for _ in backbone.strides[1:]]
        self.steps, self.fuse = (nn.ModuleList(blocks) for blocks in zip(*paths, strict=True))

    def merged(self, features: list[Tensor]) -> list[Tensor]:
        """Merge the backbone's maps: a (B, out_channels, H_l, W_l) map for each of its levels."""
        finest, *coarser = super().merged(features)
        maps = [finest]
        for step, fuse, lateral in zip(self.steps, self.fuse, coarser, strict=True):
            stepped = step(maps[-1])
            if stepped.shape != lateral.shape:
                stepped = F.interpolate(stepped, size=lateral.shape[2:], mode="nearest")
            maps.append(fuse(lateral + stepped))
        return maps
