"""The feature pyramid: strides, sums by hand, gradients."""

import pytest
import torch
from torch import Tensor, nn

from dethead.backbones import Backbone, FeaturePyramid, efficientnet_lite0


class Pools(Backbone):
    """Three maps of the image's own colours; no weights."""

    strides = (8, 16, 32)
    channels = (3, 3, 3)
    pixel_mean = (1.0, 2.0, 3.0)
    pixel_std = (4.0, 5.0, 6.0)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(images, stride, ceil_mode=True) for stride in self.strides]

    def stages(self) -> list[nn.Module]:
        return [nn.Identity()]


@pytest.mark.parametrize(
    ("extra", "strides"), [(0, (8, 16, 32)), (1, (8, 16, 32, 64)), (2, (8, 16, 32, 64, 128))]
)
def test_declared_strides_and_channels_are_the_real_ones(extra, strides):
    pyramid = FeaturePyramid(Pools(), 16, extra)
    assert pyramid.strides == strides
    assert pyramid.channels == (16,) * len(strides)
    maps = pyramid(torch.zeros(2, 3, 256, 384))
    assert [tuple(x.shape) for x in maps] == [(2, 16, 256 // s, 384 // s) for s in strides]


def test_a_fine_cell_is_the_sum_of_all_maps_above_it():
    # Identity weights: each output is its own map plus every coarser one, repeated to its size.
    pyramid = FeaturePyramid(Pools(), 3)
    for convolution in (m for m in pyramid.modules() if isinstance(m, nn.Conv2d)):
        nn.init.dirac_(convolution.weight)
    images = torch.randn(1, 3, 64, 64)
    fine, middle, coarse = Pools()(images)
    repeat = nn.Upsample(scale_factor=2)
    wanted = [fine + repeat(middle + repeat(coarse)), middle + repeat(coarse), coarse]
    with torch.no_grad():
        torch.testing.assert_close(pyramid(images), wanted)


def test_extra_levels_are_strided_convolutions_of_the_level_before():
    pyramid = FeaturePyramid(Pools(), 3, extra_levels=2)
    for convolution in (m for m in pyramid.modules() if isinstance(m, nn.Conv2d)):
        nn.init.dirac_(convolution.weight)
    with torch.no_grad():
        *_, p5, p6, p7 = pyramid(torch.randn(1, 3, 256, 256))
    torch.testing.assert_close(p6, p5[:, :, ::2, ::2])
    torch.testing.assert_close(p7, p6.relu()[:, :, ::2, ::2])


def test_levels_of_a_size_that_no_stride_divides_still_merge():
    maps = FeaturePyramid(Pools(), 8, 1)(torch.zeros(1, 3, 75, 100))
    assert [tuple(x.shape[2:]) for x in maps] == [(10, 13), (5, 7), (3, 4), (2, 2)]


def test_every_level_reaches_every_parameter_it_depends_on():
    pyramid = FeaturePyramid(efficientnet_lite0(), 16, extra_levels=2)
    sum(x.square().sum() for x in pyramid(torch.randn(2, 3, 128, 128))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pyramid.parameters())


def test_the_coarsest_level_alone_trains_the_whole_backbone():
    pyramid = FeaturePyramid(efficientnet_lite0(), 16, extra_levels=2)
    pyramid(torch.randn(2, 3, 128, 128))[-1].square().sum().backward()
    assert all(p.grad is not None for p in pyramid.backbone.parameters())


def test_all_levels_start_at_a_similar_scale():
    maps = FeaturePyramid(efficientnet_lite0(), 64, extra_levels=2)(torch.randn(2, 3, 128, 128))
    assert all(0.1 < x.std() < 10 for x in maps)


def test_pixels_and_stages_are_those_of_the_inner_backbone():
    pyramid = FeaturePyramid(Pools(), 8)
    assert (pyramid.pixel_mean, pyramid.pixel_std) == (Pools.pixel_mean, Pools.pixel_std)
    assert [type(stage) for stage in pyramid.stages()] == [nn.Identity]


@pytest.mark.parametrize(("channels", "extra"), [(0, 0), (8, -1)])
def test_impossible_numbers_are_refused(channels, extra):
    with pytest.raises(ValueError, match="out_channels must be >= 1 and extra_levels >= 0"):
        FeaturePyramid(Pools(), channels, extra)
