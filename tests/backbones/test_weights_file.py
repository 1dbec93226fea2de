"""State-dict files into backbones: all of them or an error that says what does not fit."""

import re

import pytest
import torch
from torch import nn
from torchvision import models

from dethead.backbones import torchvision_backbone


def saved(path, state):
    torch.save(state, path)
    return str(path)


def test_a_file_of_the_whole_network_fills_the_backbone(tmp_path):
    state = models.mobilenet_v3_small().state_dict()
    backbone = torchvision_backbone("mobilenet_v3_small", weights=saved(tmp_path / "full.pth", state))
    own = backbone.state_dict()
    torch.testing.assert_close(dict(own), {key: state[key] for key in own}, rtol=0, atol=0)


def test_a_file_of_the_backbone_alone_fills_it_too(tmp_path):
    state = torchvision_backbone("resnet18", strides=(4, 8)).state_dict()
    backbone = torchvision_backbone("resnet18", strides=(4, 8), weights=saved(tmp_path / "cut.pth", state))
    torch.testing.assert_close(dict(backbone.state_dict()), dict(state), rtol=0, atol=0)


def test_another_classifier_does_not_matter(tmp_path):
    model = models.resnet18()
    model.fc = nn.Sequential(nn.Linear(512, 7), nn.Linear(7, 3))
    torchvision_backbone("resnet18", weights=saved(tmp_path / "own.pth", model.state_dict()))


@pytest.mark.parametrize(
    ("name", "other", "numbers"),
    [
        ("resnet18", "squeezenet1_1", "of 100 keys 100 are missing, 0 have another shape; 52 are unknown"),
        # Every key of ResNet-18 is in ResNet-34, with its shape; what is left over are the blocks that 18 has
        # not, (3 - 2) + (4 - 2) + (6 - 2) + (3 - 2) = 8 of 12 keys each.
        ("resnet18", "resnet34", "of 100 keys 0 are missing, 0 have another shape; 96 are unknown"),
    ],
)
def test_a_file_of_another_architecture_is_refused_with_counts(name, other, numbers, tmp_path):
    file = saved(tmp_path / "other.pth", getattr(models, other)().state_dict())
    with pytest.raises(
        ValueError, match=re.escape(file) + ".* seems to be of another architecture.*" + numbers
    ):
        torchvision_backbone(name, weights=file)


def test_another_shape_is_named(tmp_path):
    state = models.resnet18().state_dict()
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    with pytest.raises(ValueError, match=r"1 have another shape; 0 are unknown \(conv1.weight"):
        torchvision_backbone("resnet18", weights=saved(tmp_path / "grey.pth", state))


def test_files_without_batch_counts_load(tmp_path):
    state = {k: v for k, v in models.resnet18().state_dict().items() if "num_batches_tracked" not in k}
    backbone = torchvision_backbone("resnet18", weights=saved(tmp_path / "old.pth", state))
    torch.testing.assert_close(backbone.state_dict()["conv1.weight"], state["conv1.weight"])


def test_the_old_key_names_of_densenet_load(tmp_path):
    state = models.densenet121().state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", k): v for k, v in state.items()}
    assert old.keys() != state.keys()
    backbone = torchvision_backbone("densenet121", weights=saved(tmp_path / "old.pth", old))
    key = "features.denseblock1.denselayer1.conv2.weight"
    torch.testing.assert_close(backbone.state_dict()[key], state[key])


def test_a_checkpoint_is_no_state_dict_and_its_keys_are_told(tmp_path):
    file = saved(tmp_path / "run.pth", {"model": {}, "epoch": 3})
    with pytest.raises(ValueError, match=r"run.pth holds no plain state dict .* \['model', 'epoch'\]"):
        torchvision_backbone("resnet18", weights=file)


@pytest.mark.parametrize("content", [b"", b"not a tensor file"])
def test_a_file_that_torch_cannot_read_is_named(content, tmp_path):
    file = tmp_path / "broken.pth"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.pth cannot be read as a state dict"):
        torchvision_backbone("resnet18", weights=str(file))
