"""The words that cross module boundaries: shapes, views, and the way back to original pixels."""

import pytest
import torch

from dethead.structures import (
    BACKGROUND,
    IGNORE,
    UNKNOWN_CLASS,
    Detections,
    GroundTruth,
    HeadOutput,
    Resize,
)

BOXES = torch.tensor([[0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 3.0, 5.0], [2.0, 0.0, 6.0, 6.0]])


def test_unknown_class_is_the_ignore_index_of_pytorch():
    assert torch.nn.CrossEntropyLoss().ignore_index == UNKNOWN_CLASS


def test_special_matches_are_two_different_negative_numbers():
    assert (BACKGROUND, IGNORE) == (-1, -2)


def test_labels_become_rows_with_one_yes_and_unknown_ones_rows_without():
    truth = GroundTruth.from_labels(BOXES, torch.tensor([2, UNKNOWN_CLASS, 0]), num_classes=3)
    assert truth.targets.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert truth.class_known.tolist() == [True, False, True]


def test_another_ignore_index_is_honoured():
    truth = GroundTruth.from_labels(BOXES[:2], torch.tensor([255, 1]), num_classes=2, ignore_index=255)
    assert truth.targets.tolist() == [[0, 0], [0, 1]]
    assert truth.class_known.tolist() == [False, True]


def test_there_are_no_ignore_regions_unless_given():
    labels = torch.tensor([0, 0, 0])
    assert GroundTruth.from_labels(BOXES, labels, 1).ignore_boxes.shape == (0, 4)
    assert GroundTruth.from_labels(BOXES, labels, 1, BOXES[:1]).ignore_boxes.tolist() == [[0, 0, 4, 2]]


def test_an_image_without_objects_has_rows_of_the_right_width():
    truth = GroundTruth.from_labels(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), num_classes=3)
    assert [tuple(value.shape) for value in truth[:4]] == [(0, 4), (0, 3), (0, 4), (0,)]


@pytest.mark.parametrize("label", [3, -1, -2, 90])
def test_a_label_out_of_range_is_named_with_its_box(label):
    with pytest.raises(ValueError, match=rf"label {label} of box 1 is not in \[0, 3\)"):
        GroundTruth.from_labels(BOXES[:2], torch.tensor([0, label]), num_classes=3)


@pytest.mark.parametrize(
    ("boxes", "labels"),
    [
        (torch.zeros(2, 4), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 4), torch.zeros(2, 1, dtype=torch.int64)),
    ],
)
def test_boxes_and_labels_that_do_not_fit_are_refused(boxes, labels):
    with pytest.raises(ValueError, match=r"boxes must be \(M, 4\) and labels \(M,\)"):
        GroundTruth.from_labels(boxes, labels, num_classes=3)


@pytest.mark.parametrize(
    "box",
    [[float("nan"), 0, 4, 4], [0, 0, float("inf"), 4], [float("-inf"), 0, 4, 4], [4, 0, 2, 4], [0, 4, 4, 2]],
)
def test_a_box_that_is_none_is_named_with_its_row(box):
    wrong, labels = torch.tensor([[0.0, 0.0, 4.0, 4.0], box]), torch.tensor([0, 0])
    with pytest.raises(ValueError, match=r"^box 1 must be finite with x1 <= x2 and y1 <= y2, got \["):
        GroundTruth.from_labels(wrong, labels, num_classes=1)
    with pytest.raises(ValueError, match=r"^ignore box 1 must be finite"):
        GroundTruth.from_labels(BOXES[:2], labels, 1, ignore_boxes=wrong)


def test_a_box_without_width_is_a_box():
    boxes = torch.tensor([[2.0, 0.0, 2.0, 4.0]])
    assert GroundTruth.from_labels(boxes, torch.tensor([0]), 1).boxes is boxes


def test_ignore_boxes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"ignore_boxes must be \(G, 4\), got \(4,\)"):
        GroundTruth.from_labels(BOXES, torch.tensor([0, 0, 0]), 1, ignore_boxes=BOXES[0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(4), r"weights must be \(3,\), one for each box, got \(4,\)"),
        (torch.ones(0), r"got \(0,\)"),
        (torch.ones(3, 1), r"got \(3, 1\)"),
        (torch.tensor([1.0, -0.5, 1.0]), "weight -0.5 of box 1 must be finite and not negative"),
        (torch.tensor([1.0, 1.0, float("nan")]), "weight nan of box 2"),
        (torch.tensor([float("inf"), 1.0, 1.0]), "weight inf of box 0"),
    ],
)
def test_sample_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        GroundTruth.from_labels(BOXES, torch.tensor([0, 0, 0]), 1, weights=weights)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_and_boxes_may_be_whole_numbers_of_any_type(dtype):
    truth = GroundTruth.from_labels(BOXES.to(dtype), torch.tensor([2, 0, 1], dtype=dtype), num_classes=3)
    assert truth.targets.argmax(dim=1).tolist() == [2, 0, 1]
    assert {truth.boxes.dtype, truth.targets.dtype, truth.ignore_boxes.dtype} == {torch.float32}
    assert torch.equal(truth.boxes, BOXES)


def test_no_labels_may_be_of_any_type_and_others_must_be_integers():
    assert GroundTruth.from_labels(torch.zeros(0, 4), torch.tensor([]), 3).targets.shape == (0, 3)
    with pytest.raises(ValueError, match=r"labels must be integers, got torch.float32"):
        GroundTruth.from_labels(BOXES, torch.tensor([0.0, 1.0, 2.0]), 3)


def test_truth_moves_as_a_whole():
    weights = torch.tensor([1.0, 0.5, 2.0])
    truth = GroundTruth.from_labels(BOXES, torch.tensor([2, 1, 0]), num_classes=3, weights=weights)
    assert [value.device.type for value in truth.to("meta")] == ["meta"] * 5
    assert truth._replace(weights=None).to("meta").weights is None


def test_raw_is_class_logits_then_confidence_then_deltas():
    output = HeadOutput(torch.arange(8.0).reshape(1, 1, 8))
    assert output.class_logits.tolist() == [[[0, 1, 2]]]
    assert output.confidence_logits.tolist() == [[3]]
    assert output.box_deltas.tolist() == [[[4, 5, 6, 7]]]


def test_branches_are_views_of_raw():
    output = HeadOutput(torch.zeros(2, 3, 8))
    output.class_logits.fill_(1.0)
    output.confidence_logits.fill_(2.0)
    output.box_deltas.fill_(3.0)
    assert output.raw[1, 2].tolist() == [1, 1, 1, 2, 3, 3, 3, 3]


def test_parts_of_another_head_come_back_out():
    parts = torch.rand(2, 3, 5), torch.rand(2, 3), torch.rand(2, 3, 4)
    embeddings = torch.rand(2, 3, 7)
    output = HeadOutput.from_parts(*parts, embeddings)
    assert output.embeddings is embeddings
    assert torch.equal(output.class_logits, parts[0])
    assert torch.equal(output.confidence_logits, parts[1])
    assert torch.equal(output.box_deltas, parts[2])


@pytest.mark.parametrize(
    "shapes",
    [[(2, 3, 5), (2, 3, 1), (2, 3, 4)], [(2, 3, 5), (2, 3), (2, 4, 4)], [(3, 5), (3,), (3, 4)]],
)
def test_parts_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match=r"class_logits must be \(B, A, C\)"):
        HeadOutput.from_parts(*(torch.zeros(shape) for shape in shapes))


def test_the_two_scales_act_on_their_own_axis():
    # by hand: y is halved, x is quartered
    resize = Resize((100, 200), (0.5, 0.25))
    assert resize.to_original(torch.tensor([[10.0, 10.0, 20.0, 30.0]])).tolist() == [[40, 20, 80, 60]]
    assert resize.to_input(torch.tensor([[40.0, 20.0, 80.0, 60.0]])).tolist() == [[10, 10, 20, 30]]


def test_original_pixels_are_float32_at_least_and_float64_stays():
    resize = Resize((1080, 1920), (0.3, 0.3))
    for given, wanted in [(torch.float16, torch.float32), (torch.float64, torch.float64)]:
        boxes = torch.ones(1, 4, dtype=given)
        assert resize.to_original(boxes).dtype == resize.to_input(boxes).dtype == wanted


def test_detections_are_selected_together():
    values = torch.tensor([0.9, 0.5, 0.1])
    detections = Detections(BOXES, values, torch.tensor([2, 0, 1]), values / 2, values / 4)
    by_mask = detections.select(torch.tensor([True, False, True]))
    by_rows = detections.select(torch.tensor([0, 2]))
    for mask, rows, whole in zip(by_mask, by_rows, detections.cpu(), strict=True):
        assert torch.equal(mask, rows)
        assert torch.equal(mask, torch.stack([whole[0], whole[2]]))


def test_no_detections_have_the_shapes_of_some():
    empty = Detections.empty()
    assert [tuple(value.shape) for value in empty] == [(0, 4), (0,), (0,), (0,), (0,)]
    assert empty.labels.dtype == torch.int64
