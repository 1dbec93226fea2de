"""What is frozen does not move, what is not does."""

import copy

import pytest
import torch
from torch import nn
from torchvision import models, ops

from dethead.backbones import (
    FeaturePyramid,
    FrozenBatchNorm2d,
    efficientnet_lite0,
    freeze_stages,
    set_norm,
    statistics_kept,
    torchvision_backbone,
)


def step(backbone):
    """One training step on random images; gives the state dict before and after."""
    backbone.train()
    before = copy.deepcopy(dict(backbone.state_dict()))
    trained = [p for p in backbone.parameters() if p.requires_grad]
    sum(x.square().mean() for x in backbone(torch.randn(4, 3, 64, 64))).backward()
    torch.optim.SGD(trained, lr=0.1).step()
    return before, backbone.state_dict()


def moved(before, after):
    return {key for key in before if not torch.equal(before[key], after[key])}


def test_frozen_stages_do_not_move_and_later_ones_do():
    backbone = torchvision_backbone("resnet18")
    freeze_stages(backbone, 2)  # the stem (stride 2) and layer1 (stride 4)
    before, after = step(backbone)
    assert {key.split(".")[0] for key in moved(before, after)} == {"layer2", "layer3", "layer4"}
    assert all(k in moved(before, after) for k in before if k.startswith("layer2") and "bn" in k)


def test_frozen_parameters_get_no_gradient():
    backbone = torchvision_backbone("resnet18")
    freeze_stages(backbone, 2)
    step(backbone)
    frozen = [p for stage in backbone.stages()[:2] for p in stage.parameters()]
    assert len(frozen) == 5  # the convolutions of the stem and of layer1's two blocks
    assert all(p.grad is None for p in frozen)
    assert all(p.grad is not None for stage in backbone.stages()[2:] for p in stage.parameters())


# MNASNet's first norms are blocks by themselves, MobileNet's are deep inside; ConvNeXt has none.
@pytest.mark.parametrize("name", ["mnasnet0_5", "mobilenet_v3_small", "convnext_tiny"])
def test_with_all_stages_frozen_nothing_is_left_to_train(name):
    backbone = torchvision_backbone(name)
    freeze_stages(backbone, len(backbone.stages()))
    backbone.train()
    before = copy.deepcopy(dict(backbone.state_dict()))
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert not any(x.requires_grad for x in maps)
    assert moved(before, backbone.state_dict()) == set()


def test_freezing_no_stage_changes_nothing():
    backbone = efficientnet_lite0()
    freeze_stages(backbone, 0)
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in backbone.modules())
    assert all(p.requires_grad for p in backbone.parameters())


def test_freezing_through_the_pyramid_spares_the_pyramid():
    pyramid = FeaturePyramid(efficientnet_lite0(), 8)
    freeze_stages(pyramid, 5)
    assert not any(p.requires_grad for p in pyramid.backbone.parameters())
    assert all(p.requires_grad for p in pyramid.merge.parameters())


@pytest.mark.parametrize("count", [-1, 6])
def test_a_count_outside_the_stages_is_refused(count):
    with pytest.raises(ValueError, match=rf"must be in \[0, 5\], got {count}"):
        freeze_stages(efficientnet_lite0(), count)


def random_norm():
    norm = nn.BatchNorm2d(4, eps=1e-3)
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return norm


def test_frozen_norm_is_torchvisions_in_training_mode():
    norm = random_norm()
    judge = ops.FrozenBatchNorm2d(4, eps=1e-3)
    judge.load_state_dict(norm.state_dict())
    features = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(FrozenBatchNorm2d(norm).train()(features), judge(features))


def test_frozen_norm_passes_the_gradient_to_its_input():
    norm = random_norm()
    features = torch.randn(2, 4, 3, 3, requires_grad=True)
    FrozenBatchNorm2d(norm).train()(features).sum().backward()
    slope = (norm.weight / (norm.running_var + 1e-3).sqrt()).detach()  # of y in x, by hand
    torch.testing.assert_close(features.grad, slope[None, :, None, None].expand(2, 4, 3, 3))


def test_frozen_and_trained_networks_read_each_others_checkpoints():
    frozen = set_norm(torchvision_backbone("resnet18"), "frozen")
    trained = torchvision_backbone("resnet18")
    trained.load_state_dict(frozen.state_dict(), strict=True)
    frozen.load_state_dict(trained.state_dict(), strict=True)


def test_norm_frozen_keeps_the_statistics_and_trains_the_convolutions():
    backbone = set_norm(torchvision_backbone("resnet18"), "frozen")
    before, after = step(backbone)
    weights = {k for k, v in models.resnet18().state_dict().items() if v.ndim == 4}
    assert moved(before, after) == weights


def test_norm_train_keeps_moving_statistics():
    before, after = step(set_norm(torchvision_backbone("resnet18"), "train"))
    assert {k for k in before if "running" in k} <= moved(before, after)


def test_norm_sync_replaces_every_norm_but_the_frozen_ones():
    backbone = torchvision_backbone("mnasnet0_5")
    count = sum(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    freeze_stages(backbone, 1)  # convolution, depthwise convolution, 1 x 1 convolution: three norms
    backbone = set_norm(backbone, "sync")
    kinds = [type(m) for m in backbone.modules() if "Norm" in type(m).__name__]
    assert kinds == [FrozenBatchNorm2d] * 3 + [nn.SyncBatchNorm] * (count - 3)


def test_norm_sync_gives_the_same_maps():
    backbone = efficientnet_lite0().eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wanted = backbone(images)
        torch.testing.assert_close(set_norm(backbone, "sync")(images), wanted)


def test_an_unknown_kind_of_norm_is_refused():
    with pytest.raises(ValueError, match="norm must be train, frozen or sync, got 'group'"):
        set_norm(efficientnet_lite0(), "group")


@pytest.mark.parametrize("momentum", [0.3, None])
def test_a_look_ahead_keeps_the_statistics_and_says_what_training_says(momentum):
    norm = nn.BatchNorm2d(3, momentum=momentum)
    images = torch.randn(4, 3, 8, 8) + 5
    with statistics_kept(nn.Sequential(norm)):
        ahead = norm(images)
    assert (norm.running_mean == 0).all()
    assert (norm.running_var == 1).all()
    assert torch.equal(norm(images), ahead)
    assert torch.allclose(norm.running_mean, (momentum or 1.0) * images.mean(dim=(0, 2, 3)))
    assert norm.num_batches_tracked == 1


def test_a_look_ahead_in_evaluation_says_what_evaluation_says():
    norm = nn.BatchNorm2d(3).eval()
    images = torch.randn(4, 3, 8, 8) + 5
    with statistics_kept(norm):
        assert torch.equal(norm(images), nn.BatchNorm2d(3).eval()(images))


def test_statistics_are_taken_again_after_an_error():
    norm = nn.BatchNorm2d(3, momentum=0.3)
    with pytest.raises(ValueError, match="expected 4D input"), statistics_kept(norm):
        norm(torch.ones(2))
    assert norm.track_running_stats
