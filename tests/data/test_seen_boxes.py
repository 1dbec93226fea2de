"""Boxes as the network sees them."""

import torch
from tiny_runs import load_run

from dethead.data.seen_boxes import boxes_as_they_are, boxes_as_trained
from dethead.training.inputs import Inputs, open_data


def sets_of(data, *overrides):
    return open_data(load_run(*overrides), Inputs.find(data, device="cpu"))


def test_boxes_are_those_of_the_dataset_without_augmentation(tiny_data):
    val = sets_of(tiny_data).val
    seen = [*boxes_as_they_are(val.coco, val.size)]
    assert len(seen) == len(val) == 4
    for index, one in enumerate(seen):
        item = val[0, index]
        for part, wanted in zip(one.truth[:4], item.truth[:4], strict=True):
            assert torch.equal(part, wanted)
        # drawn as rectangles, 72 x 96 px shrunk to 48 x 64
        sides = one.truth.boxes[:, 2:] - one.truth.boxes[:, :2]
        torch.testing.assert_close(one.areas, (sides * 1.5).prod(dim=1).double(), rtol=1e-5, atol=0)


def test_no_image_file_is_opened(tiny_data):
    train = sets_of(tiny_data).train
    train.images = tiny_data / "nowhere"
    assert sum(len(one.areas) for one in boxes_as_they_are(train.coco, train.size)) == len(train.coco.boxes)


def test_areas_leave_crowds_out_as_the_truth_does(tiny_data):
    train = sets_of(tiny_data).train
    train.coco.crowd[0] = True
    first = next(boxes_as_they_are(train.coco, train.size))
    assert len(first.areas) == len(first.truth.boxes) == int(train.coco.starts[1]) - 1


def test_boxes_of_a_training_are_those_of_its_epochs_in_order(tiny_data):
    train, done = sets_of(tiny_data).train, []
    seen = [*boxes_as_trained(train, 2, done.append)]
    assert sum(done) == len(seen) == 16
    for place, one in enumerate(seen):
        item = train[place // 8, place % 8]
        assert torch.equal(one.truth.boxes, item.truth.boxes)
    assert any(not torch.equal(seen[i].truth.boxes, seen[8 + i].truth.boxes) for i in range(8))


def test_areas_of_augmented_boxes_are_in_pixels_of_the_augmented_image(tiny_data):
    off = "data.augment={photometric: 0.0, zoom_out: 0.0, iou_crop: 0.0, flip: 1.0}"
    train = sets_of(tiny_data, off).train  # mirrored alone: areas stay
    for one, two in zip(boxes_as_trained(train, 1), boxes_as_they_are(train.coco, train.size), strict=True):
        torch.testing.assert_close(one.areas, two.areas, rtol=1e-5, atol=0)
