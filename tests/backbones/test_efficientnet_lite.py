"""EfficientNet-Lite0 against an independent build of the same table, and against its published file."""

import importlib.util
import re

import pytest
import torch
from torchvision import models

from dethead.backbones import efficientnet_lite0

FILE = "weights/efficientnet-lite0-57934424.pth"


@pytest.fixture(scope="module")
def reference(shared_folder):
    """The network that checked the file against labelled photographs, with symmetric padding."""
    spec = importlib.util.spec_from_file_location("check_lite0", shared_folder / "weights" / "check_lite0.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    network = check.Lite0(same=False).eval()
    published = torch.load(shared_folder / FILE, weights_only=True)
    network.load_state_dict(check.convert(published), strict=True)
    return network


@pytest.mark.shared
def test_maps_with_the_published_weights_are_those_of_the_reference(reference, shared_folder):
    backbone = efficientnet_lite0(strides=(4, 8, 16, 32), weights=shared_folder / FILE).eval()
    images = torch.randn(1, 3, 96, 160)
    wanted, x = [], images
    with torch.no_grad():
        for index, block in enumerate(reference.features):
            x = block(x)
            if index in (3, 5, 11, 16):  # the stem is 0: the last block at stride 4, 8, 16, 32
                wanted.append(x)
        torch.testing.assert_close(backbone(images), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.shared
def test_the_published_file_fills_every_parameter_and_statistic(shared_folder):
    published = torch.load(shared_folder / FILE, weights_only=True)
    own = efficientnet_lite0(weights=shared_folder / FILE).state_dict()
    torch.testing.assert_close(dict(own), {key: published[key] for key in own}, rtol=0, atol=0)
    left = {key.split(".")[0] for key in published.keys() - own.keys()}
    assert left == {"_conv_head", "_bn1", "_fc"}


@pytest.mark.parametrize(("strides", "channels"), [((8, 16, 32), (40, 112, 320)), ((4, 8), (24, 40))])
def test_channels_of_the_table(strides, channels):
    backbone = efficientnet_lite0(strides=strides).eval()
    assert backbone.channels == channels
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (c, 64 // s, 96 // s) for c, s in zip(channels, strides, strict=True)
    ]


def test_pixels_are_scaled_as_the_weights_expect():
    backbone = efficientnet_lite0()
    assert backbone.pixel_mean == (127.0, 127.0, 127.0)
    assert backbone.pixel_std == (128.0, 128.0, 128.0)


def test_batch_norm_has_the_numbers_of_the_original():
    norms = [m for m in efficientnet_lite0().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


def test_random_weights_keep_the_signal_alive_in_training():
    maps = efficientnet_lite0()(torch.randn(2, 3, 64, 64))
    assert all(0.1 < x.std() < 10 for x in maps)


def test_a_file_of_another_network_is_refused(tmp_path):
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    message = (
        re.escape(str(tmp_path / "other.pth"))
        + " seems to be of another architecture than efficientnet_lite0"
    )
    with pytest.raises(ValueError, match=message):
        efficientnet_lite0(weights=tmp_path / "other.pth")


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"weights file nowhere\.pth does not exist"):
        efficientnet_lite0(weights="nowhere.pth")
