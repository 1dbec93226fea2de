"""Depthwise convolutions: PyTorch's own numbers, by another way to the gradient of the kernels."""

import copy

import pytest
import torch
from torch import nn

from dethead.backbones import DepthwiseConv2d, efficientnet_lite0, quicken_depthwise

SHAPES = [
    {"kernel_size": 5, "padding": 2},
    {"kernel_size": 5, "padding": 2, "bias": False},
    {"kernel_size": 5, "padding": 2, "stride": 2},
    {"kernel_size": 7, "padding": 0, "stride": 3},
    {"kernel_size": (5, 7), "padding": (1, 4), "stride": (2, 1), "dilation": (1, 2)},
    {"kernel_size": 5, "padding": 2, "dilation": 2},
]


def quick(layer):
    made = copy.deepcopy(layer)
    quicken_depthwise(nn.Sequential(made))
    assert type(made) is DepthwiseConv2d
    return made


def steps(layer, features, weights):
    """Output, and the gradients of its weighted sum."""
    features = features.clone().requires_grad_()
    layer.zero_grad()
    output = layer(features)
    (output * weights).sum().backward()
    return [output, features.grad, *(one.grad for one in layer.parameters())]


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradients_are_pytorchs_own(options, layout):
    layer = nn.Conv2d(6, 6, groups=6, **options).double()
    features = torch.randn(3, 6, 17, 20, dtype=torch.float64).contiguous(memory_format=layout)
    weights = torch.randn_like(layer(features))
    wanted = steps(layer, features, weights)
    for found, want in zip(steps(quick(layer), features, weights), wanted, strict=True):
        torch.testing.assert_close(found, want)


@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_gradients_are_those_of_finite_differences(options):
    layer = quick(nn.Conv2d(2, 2, groups=2, **options).double())
    features = torch.randn(2, 2, 9, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one, _: layer(one), (features, layer.weight))


def test_only_the_gradients_that_are_wanted_are_given():
    layer = nn.Conv2d(4, 4, 5, groups=4, bias=False).requires_grad_(False)
    features = torch.rand(1, 4, 8, 8, requires_grad=True)
    wanted = torch.autograd.grad(layer(features).sum(), features)[0]
    layer = quick(layer)
    torch.testing.assert_close(torch.autograd.grad(layer(features).sum(), features)[0], wanted)
    layer.requires_grad_()(features.detach()).sum().backward()
    # by hand: each weight meets a window of 4 x 4 of its channel
    torch.testing.assert_close(layer.weight.grad[2, 0, 1, 3], features.detach()[0, 2, 1:5, 3:7].sum())


def test_no_images_have_no_gradient_of_weights():
    layer = quick(nn.Conv2d(4, 4, 5, padding=2, groups=4))
    layer(torch.rand(0, 4, 8, 8)).sum().backward()
    assert not layer.weight.grad.any()


def test_under_autocast_it_gives_the_narrow_type_and_calculates_in_the_wide_one():
    layer = quick(nn.Conv2d(4, 4, 5, groups=4))
    features = torch.rand(2, 4, 8, 8)
    wanted = steps(layer, features, torch.ones(2, 4, 4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        found = steps(layer, features, torch.ones(2, 4, 4, 4))
    assert found[0].dtype == torch.bfloat16
    assert torch.equal(found[0], wanted[0].bfloat16())
    for one, other in zip(found[1:], wanted[1:], strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)  # ones are ones in the narrow type, too


def test_under_autocast_it_says_the_same_with_and_without_gradient():
    layer = quick(nn.Conv2d(4, 4, 5, groups=4))
    features = torch.rand(2, 4, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(features)
        with torch.no_grad():
            assert torch.equal(layer(features), found)
    # by hand: features of the narrow type have few digits, but are summed up in the wide one
    wanted = nn.functional.conv2d(features.float(), layer.weight, layer.bias, groups=4)
    assert torch.equal(found, wanted.bfloat16())


def test_gradients_of_narrow_features_are_narrow():
    layer = quick(nn.Conv2d(4, 4, 5, groups=4))
    features = torch.rand(2, 4, 8, 8).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        layer(features).sum().backward()
    assert features.grad.dtype == torch.bfloat16
    wide = features.detach().float().requires_grad_()
    layer(wide).sum().backward()
    assert torch.equal(features.grad, wide.grad.bfloat16())


def test_an_image_by_itself_goes_pytorchs_way():
    layer = nn.Conv2d(4, 4, 5, groups=4)
    image = torch.rand(4, 8, 8)
    found = quick(layer)(image)
    torch.testing.assert_close(found, layer(image))
    found.sum().backward()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 5, groups=2),
        nn.Conv2d(4, 8, 5, groups=4),
        nn.Conv2d(1, 1, 5),
        nn.Conv2d(4, 4, 5, groups=4, padding=2, padding_mode="circular"),
        nn.Conv2d(4, 4, 5, groups=4, padding="same"),
        nn.ConvTranspose2d(4, 4, 5, groups=4),
    ],
    ids=str,
)
def test_other_convolutions_are_left(layer):
    kind = type(layer)
    quicken_depthwise(nn.Sequential(layer))
    assert type(layer) is kind


def test_a_backbone_keeps_its_maps_and_its_state():
    backbone = efficientnet_lite0()
    images = torch.randn(1, 3, 64, 96)
    wanted, state = backbone.eval()(images), backbone.state_dict()
    quicken_depthwise(backbone)
    # table 1 of EfficientNet: two blocks of 40, three of 112, four of 192 channels have kernels of 5 x 5
    assert sum(type(layer) is DepthwiseConv2d for layer in backbone.modules()) == 9
    for found, want in zip(backbone(images), wanted, strict=True):
        assert torch.equal(found, want)
    assert backbone.state_dict().keys() == state.keys()
