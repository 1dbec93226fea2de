"""Batch normalisation is folded where that is certain, and outputs stay the same."""

import copy

import pytest
import torch
from torch import nn

from dethead.backbones import (
    FrozenBatchNorm2d,
    efficientnet_lite0,
    fold_batch_norm,
    freeze_stages,
    set_norm,
    torchvision_backbone,
)
from dethead.backbones.small_resnet import small_resnet
from dethead.heads import DetectionHead
from dethead.schemes import SoftmaxCE

IMAGE = torch.zeros(1, 3, 64, 96)
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)


def trained(module: nn.Module) -> nn.Module:
    """Statistics, scales and shifts as a training leaves them: none is 0 or 1."""
    for norm in module.modules():
        if isinstance(norm, NORMS):
            with torch.no_grad():
                norm.running_mean.normal_(std=0.3)
                norm.running_var.uniform_(0.5, 2.0)
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(std=0.3)
    return module.eval()


def norms_of(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, NORMS)]


def assert_folded_equals(module: nn.Module, images: torch.Tensor, tolerance: float = 1e-5) -> nn.Module:
    """Every output of the folded copy, to a share of the largest number in it; gives the copy."""
    folded = fold_batch_norm(module, torch.zeros_like(images[:1]))
    with torch.no_grad():
        for found, wanted in zip(folded(images), module(images), strict=True):
            assert wanted.abs().max() > 0
            assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()
    return folded


@pytest.mark.parametrize(
    "make",
    [
        efficientnet_lite0,
        small_resnet,
        lambda: torchvision_backbone("mobilenet_v3_large"),
        lambda: torchvision_backbone("resnet18"),
        lambda: torchvision_backbone("resnet50"),
    ],
    ids=["efficientnet_lite0", "small_resnet", "mobilenet_v3_large", "resnet18", "resnet50"],
)
def test_a_shipped_backbone_gives_the_same_maps_without_any_normalisation(make):
    backbone = trained(make()).to(memory_format=torch.channels_last)
    assert norms_of(backbone)
    assert not norms_of(assert_folded_equals(backbone, torch.randn(2, 3, 64, 96)))


@pytest.mark.parametrize("how", ["frozen", "sync"])
def test_frozen_and_synchronised_norms_are_folded_too(how):
    backbone = trained(set_norm(small_resnet(width=8), how))
    assert not norms_of(assert_folded_equals(backbone, torch.randn(2, 3, 64, 96)))


def test_frozen_stages_are_folded_with_the_others():
    backbone = small_resnet(width=8)
    freeze_stages(backbone, 2)
    assert not norms_of(assert_folded_equals(trained(backbone), torch.randn(2, 3, 64, 96)))


def test_norms_in_front_of_convolutions_stay():
    # DenseNet normalises, then convolves: of its blocks only the inner norm follows a convolution.
    backbone = trained(torchvision_backbone("densenet121", strides=(4, 8)))
    left = norms_of(assert_folded_equals(backbone, torch.randn(1, 3, 64, 96)))
    assert 0 < len(left) < len(norms_of(backbone))


def test_a_tower_that_all_levels_share_is_folded():
    head = trained(DetectionHead(8, 1, 3, SoftmaxCE(), depth=2, norm="batch"))
    maps = [torch.randn(2, 8, 8, 8), torch.randn(2, 8, 4, 4)]
    folded = fold_batch_norm(head, maps)
    assert not norms_of(folded)
    torch.testing.assert_close(folded(maps).raw, head(maps).raw)


def test_the_module_stays_as_it_is():
    module = trained(small_resnet(width=8)).train()
    before = copy.deepcopy(module.state_dict())
    folded = fold_batch_norm(module, IMAGE)
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(part.training and not part._forward_hooks for part in module.modules())
    assert all(one.requires_grad for one in module.parameters())
    assert not any(part.training or part._forward_hooks for part in folded.modules())
    assert not any(one.requires_grad for one in folded.parameters())


class Pair(nn.Module):
    """A convolution and a norm, put together in ``forward`` by the tests below."""

    def __init__(self, forward, norm=None) -> None:
        super().__init__()
        self.conv, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4) if norm is None else norm
        self.way = forward

    def forward(self, images):
        return self.way(self, images)


def kept_inside(pair, images):
    pair.last = pair.conv(images)
    return [pair.norm(pair.last)]


def added_later(pair, images):
    maps = pair.conv(images)
    return [pair.norm(maps) + maps]


def changed_before(pair, images):
    return [pair.norm(pair.conv(images).relu_())]


def given_out(pair, images):
    maps = pair.conv(images)
    return [pair.norm(maps), {"raw": maps}["raw"]]


def two_into_one(pair, images):
    return [pair.norm(pair.conv(images)), pair.norm(pair.second(images))]


def one_time_without(pair, images):
    return [pair.norm(pair.conv(images)), pair.conv(images.flip(3))]


def also_on_the_image(pair, images):
    return [pair.norm(pair.conv(images)), pair.norm(images.new_ones(1, 4, 2, 2))]


@pytest.mark.parametrize(
    "way",
    [kept_inside, added_later, changed_before, given_out, two_into_one, one_time_without, also_on_the_image],
)
def test_a_pair_that_is_not_alone_is_left(way):
    assert norms_of(assert_folded_equals(trained(Pair(way)), torch.randn(2, 3, 8, 8), tolerance=0))


def test_a_convolution_with_a_norm_for_each_level_is_left():
    pair = Pair(lambda pair, images: [pair.norm(pair.conv(images)), pair.other(pair.conv(images))])
    pair.other = nn.BatchNorm2d(4)
    assert len(norms_of(assert_folded_equals(trained(pair), torch.randn(2, 3, 8, 8), tolerance=0))) == 2


def in_line(pair, images):
    return [pair.norm(pair.conv(images))]


def test_a_pair_that_is_called_twice_is_folded():
    twice = trained(Pair(lambda pair, images: in_line(pair, images) + in_line(pair, images.flip(3))))
    assert not norms_of(assert_folded_equals(twice, torch.randn(2, 3, 8, 8)))


def test_a_norm_of_two_names_is_folded_under_both():
    pair = Pair(lambda pair, images: [pair.norm(pair.conv(images)), pair.again(pair.conv(images))])
    pair.again = pair.norm
    assert not norms_of(assert_folded_equals(trained(pair), torch.randn(2, 3, 8, 8)))


def test_a_norm_that_is_also_in_a_plain_list_is_folded_there_too():
    pair = Pair(lambda pair, images: [pair.norms[0](pair.conv(images))])
    pair.norms = [pair.norm]
    assert not norms_of(assert_folded_equals(trained(pair), torch.randn(2, 3, 8, 8)))


def test_a_norm_that_is_called_by_keyword_is_folded():
    pair = trained(Pair(lambda pair, images: [pair.norm(input=pair.conv(images))]))
    assert not norms_of(assert_folded_equals(pair, torch.randn(2, 3, 8, 8)))


def test_a_norm_whose_numbers_are_read_elsewhere_is_folded():
    pair = trained(Pair(lambda pair, images: [pair.norm(pair.conv(images)) * pair.norm.weight.sum()]))
    assert not norms_of(assert_folded_equals(pair, torch.randn(2, 3, 8, 8)))


def test_a_norm_that_never_leaves_training_mode_is_left():
    class Restless(Pair):
        def train(self, mode=True):
            super().train(mode)
            self.norm.train()
            return self

    pair = trained(Restless(in_line))
    before, images = copy.deepcopy(pair), torch.randn(2, 3, 8, 8)
    folded = fold_batch_norm(pair, images[:1])
    assert norms_of(folded)
    torch.testing.assert_close(folded(images), before(images))


def test_what_a_module_has_kept_of_a_training_step_does_not_matter():
    def keeps_a_mean(pair, images):
        maps = pair.norm(pair.conv(images))
        pair.kept = {"means": [maps.mean()]}
        return [maps]

    pair = trained(Pair(keeps_a_mean))
    pair(torch.randn(2, 3, 8, 8))
    kept = pair.kept["means"][0]
    folded = fold_batch_norm(pair, torch.zeros(1, 3, 8, 8))
    assert not norms_of(folded)
    assert pair.kept["means"][0] is kept
    assert kept.grad_fn is not None


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_scripted_part_is_left():
    pair = trained(Pair(in_line))
    pair.way = lambda pair, images: [pair.both(images)]
    pair.both = torch.jit.script(nn.Sequential(pair.conv, pair.norm))
    assert_folded_equals(pair, torch.randn(2, 3, 8, 8), tolerance=0)


def test_a_norm_without_scale_and_shift_is_folded():
    pair = Pair(in_line, nn.BatchNorm2d(4, affine=False)).eval()
    pair.norm.running_mean.normal_()
    assert not norms_of(assert_folded_equals(pair, torch.randn(2, 3, 8, 8)))


def test_a_norm_that_keeps_no_statistics_is_left():
    pair = Pair(in_line, nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert norms_of(assert_folded_equals(pair, torch.randn(2, 3, 8, 8), tolerance=0))


@pytest.mark.parametrize("name", ["conv", "norm"])
def test_a_layer_with_a_hook_is_left_with_it(name):
    pair = trained(Pair(in_line))
    getattr(pair, name).register_forward_hook(lambda module, given, output: output * 2)
    assert norms_of(assert_folded_equals(pair, torch.randn(2, 3, 8, 8), tolerance=0))


def test_a_layer_of_a_class_of_its_own_is_left():
    class Doubled(nn.BatchNorm2d):
        def forward(self, images):
            return 2 * super().forward(images)

    pair = trained(Pair(in_line, Doubled(4)))
    assert norms_of(assert_folded_equals(pair, torch.randn(2, 3, 8, 8), tolerance=0))
