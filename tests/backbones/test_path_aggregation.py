"""Necks beside the plain pyramid: the path back to coarse maps, separable convolutions, normalisation."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from dethead.backbones import Backbone, FeaturePyramid, PathAggregation, efficientnet_lite0

WIDTH = 8


class Pools(Backbone):
    """Maps of the image's own colours; no weights."""

    channels = (3, 3, 3)
    pixel_mean, pixel_std = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)

    def __init__(self, strides: tuple[int, ...] = (8, 16, 32)) -> None:
        super().__init__()
        self.strides = strides

    def forward(self, images: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(images, stride) for stride in self.strides]

    def stages(self) -> list[nn.Module]:
        return [nn.Identity()]


def drawn(neck):
    """The neck with every number moved, in float64: no bias hides behind its 0, no factor behind its 1."""
    with torch.no_grad():
        for parameter in neck.double().parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return neck


def by_hand(weights, features, *, path, extra, separable, norm):
    """The maps by plain functions of the named parameters."""

    def conv(name, x, *, stride=1, pad=1, thin=separable):
        if thin:
            x = F.conv2d(x, weights[f"{name}.0.weight"], None, stride, 1, groups=x.shape[1])
            x = F.conv2d(x, weights[f"{name}.1.weight"], weights.get(f"{name}.1.bias"))
        else:
            x = F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), stride, pad)
        if norm == "none":
            return x
        at = name.rpartition(".")[0] + ".1"
        return F.batch_norm(x, None, None, weights[f"{at}.weight"], weights[f"{at}.bias"], True)

    levels = len(features)
    lateral = [conv(f"merge.inner_blocks.{i}.0", x, pad=0, thin=False) for i, x in enumerate(features)]
    for i in reversed(range(levels - 1)):
        lateral[i] = lateral[i] + F.interpolate(lateral[i + 1], size=lateral[i].shape[2:])
    maps = [conv(f"merge.layer_blocks.{i}.0", x) for i, x in enumerate(lateral)]
    if path:
        for i in range(levels - 1):
            stepped = conv(f"steps.{i}.0", maps[i], stride=2).relu()
            stepped = F.interpolate(stepped, size=maps[i + 1].shape[2:])
            maps[i + 1] = conv(f"fuse.{i}.0", maps[i + 1] + stepped).relu()
    for i in range(extra):
        name = f"extra.{i}" + (".0" if norm == "batch" else "")
        maps.append(conv(name, maps[-1].relu() if i else maps[-1], stride=2, thin=False))
    return maps


@pytest.mark.parametrize(("separable", "norm"), [*product([False, True], ["none", "batch"])])
@pytest.mark.parametrize("neck", [FeaturePyramid, PathAggregation])
# 160 px: whole cells; 168 x 184 px: cells are rounded, and maps resized
@pytest.mark.parametrize("size", [(160, 224), (168, 184)])
def test_maps_and_gradients_are_those_of_the_formula(neck, separable, norm, size):
    made = drawn(neck(Pools(), WIDTH, 2, separable=separable, norm=norm))
    images, weights = torch.randn(2, 3, *size, dtype=torch.float64), dict(made.named_parameters())
    path = neck is PathAggregation
    wanted = by_hand(weights, Pools()(images), path=path, extra=2, separable=separable, norm=norm)
    found = made(images)
    torch.testing.assert_close(found, wanted)
    factors = [torch.randn_like(one) for one in found]
    gradients = [
        torch.autograd.grad(sum((f * m).sum() for f, m in zip(factors, maps, strict=True)), weights.values())
        for maps in (found, wanted)
    ]
    torch.testing.assert_close(*gradients)
    assert all(one.abs().sum() > 0 for one in gradients[0])


@pytest.mark.parametrize(
    ("strides", "extra", "wanted"),
    [((8, 16, 32), 0, (8, 16, 32)), ((8, 16, 32), 2, (8, 16, 32, 64, 128)), ((8, 32), 1, (8, 32, 64))],
)
def test_declared_strides_and_channels_of_a_path_are_the_real_ones(strides, extra, wanted):
    neck = PathAggregation(Pools(strides), WIDTH, extra)
    assert (neck.strides, neck.channels) == (wanted, (WIDTH,) * len(wanted))
    assert (neck.pixel_mean, neck.pixel_std) == (Pools.pixel_mean, Pools.pixel_std)
    assert [type(stage) for stage in neck.stages()] == [nn.Identity]
    maps = neck(torch.zeros(2, 3, 256, 384))
    assert [tuple(x.shape) for x in maps] == [(2, WIDTH, 256 // s, 384 // s) for s in wanted]


def test_a_path_brings_fine_cells_to_the_coarse_maps():
    # What the fine map alone knows: with the laterals of the coarse maps off, they still see the image.
    for neck, sees in ((FeaturePyramid, False), (PathAggregation, True)):
        made = neck(Pools(), WIDTH)
        with torch.no_grad():
            for block in made.merge.inner_blocks[1:]:
                block[0].weight.zero_()
        assert bool(made(torch.randn(1, 3, 64, 64))[-1].any()) == sees


def test_the_plain_pyramid_starts_as_torchvisions_does():
    torch.manual_seed(7)
    wanted = FeaturePyramidNetwork([3, 3, 3], WIDTH)
    for _ in range(2):
        step = nn.Conv2d(WIDTH, WIDTH, 3, 2, 1)
        nn.init.kaiming_uniform_(step.weight, a=1)
    after = torch.rand(3)
    torch.manual_seed(7)
    found = FeaturePyramid(Pools(), WIDTH, 2)
    assert torch.equal(torch.rand(3), after)
    assert torch.equal(found.extra[1].weight, step.weight)
    assert all(torch.equal(one, found.merge.state_dict()[name]) for name, one in wanted.state_dict().items())


@pytest.mark.parametrize("neck", [FeaturePyramid, PathAggregation])
@pytest.mark.parametrize(
    "options", [{}, {"separable": True}, {"norm": "batch"}, {"extra_levels": 2}], ids=str
)
def test_what_two_necks_have_in_common_starts_alike(neck, options):
    states = []
    for make, chosen in ((FeaturePyramid, {}), (neck, options)):
        torch.manual_seed(7)
        states.append(make(Pools(), WIDTH, **({"extra_levels": 1} | chosen)).state_dict())
    plain, other = states
    shared = [name for name in plain if name in other and plain[name].shape == other[name].shape]
    assert "merge.inner_blocks.2.0.weight" in shared
    assert all(torch.equal(plain[name], other[name]) for name in shared)


def test_a_path_starts_alike_however_many_levels_follow_and_each_of_its_parts_differently():
    starts = []
    for extra in (0, 2):
        torch.manual_seed(7)
        starts.append(PathAggregation(Pools(), WIDTH, extra, separable=True).state_dict())
    names = [name for name in starts[0] if name.startswith(("steps", "fuse")) and starts[0][name].any()]
    assert len(names) == 8
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in names)
    own = [starts[0][name] for name in starts[0] if starts[0][name].shape == (WIDTH, 1, 3, 3)]
    assert len({tuple(one.flatten().tolist()) for one in own}) == len(own) == 7


@pytest.mark.parametrize("neck", [FeaturePyramid, PathAggregation])
def test_a_normalised_neck_has_no_bias_in_front_of_a_norm(neck):
    made = neck(Pools(), WIDTH, 2, separable=True, norm="batch")
    assert all(one.bias is None for one in made.modules() if isinstance(one, nn.Conv2d))
    norms = sum(isinstance(one, nn.BatchNorm2d) for one in made.modules())
    assert norms == 3 + 3 + 2 + 4 * (neck is PathAggregation)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_all_levels_of_a_path_start_at_a_similar_scale_and_train_the_whole_backbone(norm):
    neck = PathAggregation(efficientnet_lite0(), 64, extra_levels=2, norm=norm)
    maps = neck(torch.randn(2, 3, 256, 256))
    assert all(0.1 < x.std() < 10 for x in maps)
    maps[2].square().sum().backward()
    assert all(p.grad is not None for p in neck.backbone.parameters())


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_path_keeps_the_layout_that_convolutions_are_fast_in(norm):
    neck = PathAggregation(Pools(), WIDTH, 1, norm=norm, separable=True).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 160, 160).contiguous(memory_format=torch.channels_last)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in neck(images))


@pytest.mark.parametrize(
    ("strides", "options", "message"),
    [
        ((8, 16), {"norm": "group"}, "norm must be 'none' or 'batch', got 'group'"),
        ((8,), {}, r"at least 2 maps, got strides \(8,\)"),
        ((8, 16), {"extra_levels": -1}, "extra_levels >= 0, got 8 and -1"),
    ],
)
def test_an_impossible_neck_is_refused(strides, options, message):
    with pytest.raises(ValueError, match=message):
        PathAggregation(Pools(strides), WIDTH, **options)
