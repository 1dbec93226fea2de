"""Every torchvision family as a pyramid. Independent truth: torchvision's own modules, called by hand."""

import copy
import functools
import urllib.error

import pytest
import torch
from torch import nn
from torchvision import models

from dethead.backbones import torchvision_backbone

SMALLEST = [
    "resnet18",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "densenet121",
    "vgg11",
    "vgg11_bn",
    "convnext_tiny",
    "swin_t",
    "swin_v2_t",
    "maxvit_t",
    "squeezenet1_0",
    "squeezenet1_1",
]
# Families whose construction needs no real numbers are built on the meta device: shapes only, fast.
REAL = ("regnet",)


@functools.cache  # no test changes them
def on_meta(name, **options):
    with torch.device("cpu" if name.startswith(REAL) else "meta"):
        return torchvision_backbone(name, **options).eval()


@pytest.mark.parametrize("name", SMALLEST)
def test_every_declared_stride_and_channel_number_is_the_real_one(name):
    strides = (4, 8, 16) if name.startswith("squeezenet") else (4, 8, 16, 32)
    backbone = on_meta(name, strides=strides)
    height, width = (448, 448) if name.startswith("maxvit") else (128, 192)
    images = torch.zeros(2, 3, height, width, device=next(backbone.parameters()).device)
    maps = backbone(images)
    wanted = [(2, c, height // s, width // s) for s, c in zip(strides, backbone.channels, strict=True)]
    assert [tuple(x.shape) for x in maps] == wanted
    assert backbone.strides == strides


@pytest.mark.parametrize("name", SMALLEST)
def test_stages_hold_every_parameter_once_and_in_order(name):
    strides = (4, 8, 16) if name.startswith("squeezenet") else (4, 8, 16, 32)
    backbone = on_meta(name, strides=strides)
    parameters = [id(p) for stage in backbone.stages() for p in stage.parameters()]
    assert parameters == [id(p) for p in backbone.parameters()]
    assert len(backbone.stages()) in (len(strides), len(strides) + 1, len(strides) + 2)


def of_resnet18(m, x):
    x = m.layer1(m.maxpool(m.relu(m.bn1(m.conv1(x)))))
    eighth = m.layer2(x)
    sixteenth = m.layer3(eighth)
    return [x, eighth, sixteenth, m.layer4(sixteenth)]


def of_features(*ends):
    def maps(model, x):
        found = []
        for index, block in enumerate(model.features):
            x = block(x)
            if index in ends:
                found.append(x.clone())  # a later block may write into its input
        return found

    return maps


def of_swin_t(m, x):
    *maps, last = of_features(1, 3, 5, 7)(m, x)
    return [x.permute(0, 3, 1, 2) for x in (*maps, m.norm(last))]


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("resnet18", of_resnet18),
        ("mobilenet_v2", of_features(3, 6, 13, 17)),
        ("efficientnet_b0", of_features(2, 3, 5, 7)),
        ("vgg11_bn", of_features(13, 20, 27, 28)),
        ("densenet121", of_features(4, 6, 8, 11)),
        ("convnext_tiny", of_features(1, 3, 5, 7)),
        ("swin_t", of_swin_t),
    ],
)
def test_maps_are_those_of_torchvisions_own_modules(name, by_hand, monkeypatch):
    model = getattr(models, name)()
    monkeypatch.setattr(models, "get_model", lambda *_, **__: copy.deepcopy(model))
    backbone = torchvision_backbone(name, strides=(4, 8, 16, 32)).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), by_hand(model.eval(), images), rtol=0, atol=0)


def test_maxvit_gives_torchvisions_maps_after_having_seen_another_size(monkeypatch):
    model = models.maxvit_t()
    monkeypatch.setattr(models, "get_model", lambda *_, **__: copy.deepcopy(model))
    backbone = torchvision_backbone("maxvit_t", strides=(8,)).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 112, 112))[0].shape == (1, 128, 14, 14)
        x = model.eval().stem(images)
        torch.testing.assert_close(backbone(images)[0], model.blocks[1](model.blocks[0](x)))


@pytest.mark.parametrize("size", [(224, 448), (256, 256)])
def test_maxvit_names_the_sizes_it_takes(size):
    backbone = on_meta("maxvit_t")
    with pytest.raises(ValueError, match=r"multiple of 224 px, got \d+ x \d+"):
        backbone(torch.zeros(1, 3, *size, device="meta"))


def test_nothing_is_built_beyond_the_deepest_stride():
    backbone = torchvision_backbone("resnet18", strides=(4, 8))
    assert {key.split(".")[0] for key in backbone.state_dict()} == {"conv1", "bn1", "layer1", "layer2"}


def test_parameters_keep_the_names_of_torchvision():
    full = models.mobilenet_v3_small().state_dict()
    backbone = torchvision_backbone("mobilenet_v3_small")
    assert [k for k in full if k in backbone.state_dict()] == list(backbone.state_dict())


def test_building_leaves_running_statistics_alone_and_the_model_in_training_mode():
    backbone = torchvision_backbone("resnet18")
    assert backbone.bn1.num_batches_tracked == 0
    assert all(module.training for module in backbone.modules())


def test_every_map_reaches_back_to_the_stem_in_training():
    backbone = torchvision_backbone("densenet121", strides=(4, 8, 16, 32))
    for features in backbone(torch.randn(2, 3, 64, 64)):
        (gradient,) = torch.autograd.grad(features.sum(), backbone.features.conv0.weight, retain_graph=True)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "densenet121"])
def test_channels_last_images_give_channels_last_maps(name):
    backbone = torchvision_backbone(name).eval()
    images = torch.zeros(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in backbone(images))


@pytest.mark.parametrize(
    ("name", "rows"),
    [("resnet18", [19, 10, 5, 3]), ("vgg11", [18, 9, 4, 2]), ("swin_t", [18, 9, 5, 3])],
)
def test_rows_of_a_size_that_no_stride_divides(name, rows):
    # 75 / (4, 8, 16, 32) = 18.75, 9.375, 4.69, 2.34: padded steps round up, unpadded ones down.
    backbone = on_meta(name, strides=(4, 8, 16, 32))
    assert [x.shape[2] for x in backbone(torch.zeros(1, 3, 75, 96, device="meta"))] == rows


@pytest.mark.parametrize("name", ["vit_b_16", "alexnet", "googlenet", "inception_v3"])
def test_networks_without_a_pyramid_are_refused_with_the_reason(name):
    with pytest.raises(
        ValueError, match=f"{name} cannot be a backbone: .*(one stride|no regular grid|no chain)"
    ):
        torchvision_backbone(name)


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match="'mobilnet_v2'; did you mean mobilenet_v2"):
        torchvision_backbone("mobilnet_v2")


def test_a_stride_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(
        ValueError, match=r"squeezenet1_1 has no feature map of stride 32; it has \[2, 4, 8, 16\]"
    ):
        torchvision_backbone("squeezenet1_1", strides=(8, 16, 32))


@pytest.mark.parametrize("strides", [(), (16, 8), (8, 8)])
def test_strides_out_of_order_are_refused(strides):
    with pytest.raises(ValueError, match="strides must be increasing and not empty"):
        torchvision_backbone("resnet18", strides=strides)


def test_pixel_statistics_are_imagenets_in_pixels():
    backbone = torchvision_backbone("resnet18")
    assert backbone.pixel_mean == pytest.approx((123.675, 116.28, 103.53))
    assert backbone.pixel_std == pytest.approx((58.395, 57.12, 57.375))


def test_pixel_statistics_follow_the_weights_where_these_differ():
    # EfficientNetV2-L was trained on (x - 0.5) / 0.5.
    backbone = on_meta("efficientnet_v2_l")
    assert backbone.pixel_mean == backbone.pixel_std == (127.5, 127.5, 127.5)


def test_weights_that_are_neither_name_nor_file_are_refused_with_the_names():
    with pytest.raises(
        ValueError, match=r"'IMAGENET1K_V9' of resnet50 .* IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"
    ):
        torchvision_backbone("resnet50", weights="IMAGENET1K_V9")


def test_named_weights_come_from_torchs_cache_where_it_has_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = models.squeezenet1_1().state_dict()
    name = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / name)
    backbone = torchvision_backbone("squeezenet1_1", strides=(8, 16), weights="DEFAULT")
    torch.testing.assert_close(backbone.state_dict()["features.0.weight"], state["features.0.weight"])


def test_named_weights_without_a_network_advise_a_local_file(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    with pytest.raises(ConnectionError, match=r"of squeezenet1_1 .* give its path as weights"):
        torchvision_backbone("squeezenet1_1", strides=(8, 16), weights="DEFAULT")


def test_without_named_weights_nothing_is_downloaded(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", pytest.fail)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", pytest.fail)
    assert isinstance(torchvision_backbone("mobilenet_v3_small"), nn.Module)
