import pytest
import torch

from dethead.backbones.small_resnet import small_resnet


def test_declared_strides_and_channels_are_the_real_ones() -> None:
    backbone = small_resnet(strides=(4, 8, 16, 32), width=8)
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [(8, 16, 24), (16, 8, 12), (32, 4, 6), (64, 2, 3)]
    assert backbone.channels == (8, 16, 32, 64)


def test_a_block_that_steps_has_a_shortcut_of_its_own_and_the_others_none() -> None:
    blocks = [m for m in small_resnet(width=8).modules() if type(m).__name__ == "BasicBlock"]
    assert [block.downsample is not None for block in blocks] == [True, True, False, True, False, True]


def test_weights_of_another_width_are_refused(tmp_path) -> None:
    file = tmp_path / "narrow.pth"
    torch.save(small_resnet(width=8).state_dict(), file)
    with pytest.raises(ValueError, match=r"narrow\.pth"):
        small_resnet(width=16, weights=file)
