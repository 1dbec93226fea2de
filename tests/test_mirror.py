"""Answers to an image and to its mirror image, taken together."""

import pytest
import torch

import dethead
from dethead.anchors import AnchorGrid
from dethead.boxes import BoxCodec
from dethead.data import Sample, find_split, read_image, resize_to_fit
from dethead.postprocess import Postprocessor, averaged_with_mirror
from dethead.postprocess.flipping import mirrored_back
from dethead.schemes import SoftmaxCE
from dethead.structures import GroundTruth, HeadOutput, Predictions
from dethead.training import evaluate_run

GRID = AnchorGrid.from_sizes([8, 16], [12, 24], ratios=[0.5, 2.0])
ANCHORS = GRID.place((32, 48))


def mirrored(boxes, width):
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)


def said(boxes, classes=3):
    count = len(boxes)
    return Predictions(boxes[None], torch.rand(1, count, classes), torch.rand(1, count))


def test_anchors_said_of_the_mirror_image_come_back_in_their_places():
    # in the mirror image, every anchor answers with the mirror image of what it stands for here
    back = mirrored_back(said(ANCHORS.boxes), ANCHORS, 48)
    torch.testing.assert_close(back.boxes[0], ANCHORS.boxes)


def test_cells_of_broken_strides_have_mirror_images_too():
    anchors = AnchorGrid.from_sizes([8 / 1.4, 16 / 1.4], [12, 24]).place((160, 320))
    back = mirrored_back(said(anchors.boxes), anchors, 320)
    torch.testing.assert_close(back.boxes[0], anchors.boxes, rtol=1e-5, atol=1e-4)


def test_class_and_confidence_come_from_the_anchor_at_the_mirrored_place():
    answer = said(ANCHORS.boxes)
    back = mirrored_back(answer, ANCHORS, 48)
    for row, box in enumerate(mirrored(ANCHORS.boxes, 48)):
        (there,) = ((ANCHORS.boxes - box).abs().amax(dim=1) < 1e-4).nonzero()
        assert torch.equal(back.class_probabilities[0, row], answer.class_probabilities[0, there[0]])
        assert back.confidence[0, row] == answer.confidence[0, there[0]]


def test_mirrored_twice_is_as_it_was():
    answer = said(ANCHORS.boxes + torch.rand(len(ANCHORS.boxes), 4))
    twice = mirrored_back(mirrored_back(answer, ANCHORS, 48), ANCHORS, 48)
    torch.testing.assert_close(twice, answer)


def test_the_two_answers_are_averaged():
    one, two = said(ANCHORS.boxes), said(ANCHORS.boxes + 1.0)
    mean = averaged_with_mirror(one, two, ANCHORS, 48)
    back = mirrored_back(two, ANCHORS, 48)
    for found, first, second in zip(mean, one, back, strict=True):
        torch.testing.assert_close(found, (first + second) / 2)


def test_a_detector_that_mirrors_with_its_image_says_the_same_twice():
    class Mean(torch.nn.Module):
        """Each anchor's numbers from the brightness of its cell: a mirrored image gives mirrored ones."""

        def forward(self, images):
            parts = []
            for stride in GRID.strides:
                cell = torch.nn.functional.avg_pool2d(images, stride)[:, 0]  # (B, rows, columns)
                raw = cell[..., None, None] * torch.linspace(-1, 1, 8).expand(2, 8)
                raw = raw.clone()
                raw[..., -4] = 0.0  # a shift to the right would be one to the left
                parts.append(raw.flatten(1, 3))
            return HeadOutput(torch.cat(parts, dim=1))

    images, detector = torch.rand(2, 1, 32, 48), Mean()
    post = Postprocessor(SoftmaxCE(), BoxCodec())
    one, two = (post.predictions(detector(some), ANCHORS) for some in (images, images.flip(-1)))
    torch.testing.assert_close(averaged_with_mirror(one, two, ANCHORS, 48), one)


def test_a_level_that_does_not_fill_the_width_is_refused():
    anchors = GRID.place((32, 40))  # 2.5 cells of stride 16
    with pytest.raises(ValueError, match=r"3 cells of stride 16 do not fill the width 40.* multiple of 16"):
        mirrored_back(said(anchors.boxes), anchors, 40)


def by_hand(run, file):
    """A run's detections in an image of 72 x 96 px, looked at twice."""
    predictor = dethead.load(run)
    nothing = GroundTruth.from_labels(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 1)
    sample, resize = resize_to_fit(Sample(read_image(file), nothing), (64, 64))
    anchors, post = predictor.detector.anchors((64, 64)), predictor.postprocessor
    with torch.no_grad():
        views = [predictor.detector(pixels[None]) for pixels in (sample.image, sample.image.flip(-1))]
    both = (post.predictions(view, anchors) for view in views)
    return post.select(averaged_with_mirror(*both, anchors, 64), [resize])[0]


def test_predict_and_evaluate_with_flip_give_the_detections_of_both_images(tiny_run, tiny_data):
    file = tiny_data / "images" / "18.png"
    wanted = by_hand(tiny_run, file)
    predicted = dethead.load(tiny_run, flip=True).predict(file)
    done = evaluate_run(tiny_run, find_split(tiny_data, "val"), device="cpu", keep_detections=True, flip=True)
    for found in (predicted, done.detections[0]):
        for one, two in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    once = dethead.load(tiny_run).predict(file)
    assert len(once.scores) != len(wanted.scores) or not torch.allclose(once.scores, wanted.scores)


def test_oracles_with_flip_are_refused(tiny_run, tiny_data):
    with pytest.raises(ValueError, match="oracles replace branches of one answer"):
        evaluate_run(tiny_run, find_split(tiny_data, "val"), device="cpu", oracles=True, flip=True)
