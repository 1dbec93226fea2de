"""Branch oracles: outputs in which one branch alone is wrong, by hand."""

from dataclasses import replace

import pytest
import torch

from dethead.anchors import AnchorGrid
from dethead.assigners import MaxIoUAssigner
from dethead.boxes import BoxCodec, iou
from dethead.data.coco import CocoTruth
from dethead.evaluation import CocoEvaluator
from dethead.oracles import ORACLES, BranchOracles, oracle_table, true_boxes, true_classes, true_confidence
from dethead.postprocess import Postprocessor
from dethead.schemes import SigmoidBCE, SoftmaxCE
from dethead.structures import UNKNOWN_CLASS, Anchors, GroundTruth, HeadOutput, Predictions, Resize

AS_IT_IS = Resize((100, 300), (1.0, 1.0))
LEFT, MIDDLE, RIGHT = [10.0, 10.0, 50.0, 50.0], [110.0, 10.0, 150.0, 50.0], [210.0, 10.0, 250.0, 50.0]
YES, NO = 4.0, -4.0
ONE = pytest.approx(1.0, abs=1e-6)


def anchors_at(*boxes):
    return Anchors(torch.tensor(boxes), (slice(0, len(boxes)),), (1,), ((1, len(boxes)),))


def says(*rows):
    """One image: (class logits, confidence logit, deltas) of each anchor."""
    return HeadOutput(
        torch.tensor([[[*classes, confidence, *deltas] for classes, confidence, deltas in rows]])
    )


def truth_of(boxes, labels, classes=2):
    return GroundTruth.from_labels(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels).long(), classes)


def coco_truth(truth, resize=AS_IT_IS):
    boxes = resize.to_original(truth.boxes.double())
    boxes[:, 2:] -= boxes[:, :2]
    labels = truth.targets.argmax(dim=1)
    return CocoTruth(1, boxes, labels, torch.zeros(len(labels)).bool(), boxes[:, 2] * boxes[:, 3])


def average_precision(detections, truth, resize=AS_IT_IS):
    evaluator = CocoEvaluator(["car", "truck", "bus"][: truth.targets.shape[1]])
    evaluator.update([detections], [coco_truth(truth, resize)])
    return evaluator.compute().AP


def aps(output, anchors, truth, assigner=None, resize=AS_IT_IS, **options):
    """AP as it is ("none") and under each oracle."""
    post = Postprocessor(SigmoidBCE(), BoxCodec(), **options)
    found = {"none": post(output, anchors, [resize])}
    found |= BranchOracles(post, assigner)(output, anchors, [truth], [resize])
    return {name: average_precision(one[0], truth, resize) for name, one in found.items()}


STAY = (0.0, 0.0, 0.0, 0.0)
CAR, TRUCK = (YES, NO), (NO, YES)


def test_wrong_classes_are_mended_by_the_class_oracle_alone():
    output = says((TRUCK, YES, STAY), (CAR, YES, STAY), (CAR, NO, STAY))
    found = aps(
        output, anchors_at(LEFT, MIDDLE, RIGHT), truth_of([LEFT, MIDDLE], [0, 1]), score_threshold=0.3
    )
    assert found == {"none": 0.0, "class": ONE, "confidence": 0.0, "box": 0.0, "all": ONE}


def test_a_wrong_ranking_is_mended_by_the_confidence_oracle_alone():
    # a box on background comes first: precision 1 / 2 at every recall
    output = says((CAR, 0.0, STAY), (CAR, YES, STAY))
    found = aps(output, anchors_at(LEFT, RIGHT), truth_of([LEFT], [0]))
    half = pytest.approx(0.5)
    assert found == {"none": half, "class": half, "confidence": ONE, "box": half, "all": ONE}


def test_misplaced_boxes_are_mended_by_the_box_oracle_alone():
    # 9 of 40 px to the right: IoU 31 / 49 = 0.633, a hit at 3 of 10 thresholds
    output = says((CAR, YES, (9 / 40, 0.0, 0.0, 0.0)))
    found = aps(output, anchors_at(LEFT), truth_of([LEFT], [0]))
    some = pytest.approx(0.3)
    assert found == {"none": some, "class": some, "confidence": some, "box": ONE, "all": ONE}


def test_boxes_that_are_far_off_are_mended_where_the_assigner_says_what_they_are_for():
    output = says((CAR, YES, (1.0, 0.0, 0.0, 0.0)))
    anchors, truth = anchors_at(LEFT), truth_of([LEFT], [0])
    assert aps(output, anchors, truth)["box"] == 0.0
    assert aps(output, anchors, truth, MaxIoUAssigner())["box"] == ONE


def test_a_box_that_lies_on_another_object_than_it_was_trained_for_is_taken_at_its_word():
    said = Predictions(torch.tensor([MIDDLE]), torch.zeros(1, 2), torch.zeros(1))
    truth = truth_of([LEFT, MIDDLE], [0, 1])
    assert true_boxes(said, truth, torch.tensor([0]), 0.5).boxes.tolist() == [MIDDLE]


def test_all_at_once_find_every_object_that_has_an_anchor():
    grid = AnchorGrid.from_sizes([8, 16], [24, 48], ratios=[0.5, 1, 2]).place((160, 320))
    boxes = torch.tensor([[10, 20, 35, 42], [60, 12, 100, 70], [140, 80, 200, 150], [250, 30, 274, 60.0]])
    truth = truth_of(boxes.tolist(), [0, 1, 2, 0], classes=3)
    output = HeadOutput(torch.randn(1, len(grid.boxes), 8))
    found = aps(output, grid, truth, MaxIoUAssigner(), Resize((160, 320), (1.0, 1.0)))
    assert found["none"] < 0.1
    assert found["all"] == ONE


def test_an_object_without_an_anchor_is_out_of_reach():
    output = says((CAR, YES, STAY))
    truth = truth_of([LEFT, RIGHT], [0, 0])
    # recall 1 / 2: 51 of 101 recall points
    assert aps(output, anchors_at(LEFT), truth, MaxIoUAssigner())["all"] == pytest.approx(51 / 101)


def test_each_oracle_leaves_the_other_branches_as_they_are():
    torch.manual_seed(3)
    boxes = torch.tensor([[12.0, 10.0, 50.0, 50.0], [100.0, 10.0, 140.0, 50.0], RIGHT])
    said = Predictions(boxes, torch.rand(3, 2), torch.rand(3))
    truth = truth_of([LEFT, MIDDLE], [1, 0])
    classes = true_classes(said, truth, 0.5)
    # the second box has IoU 30 / 50 with its object, the third lies on none
    assert classes.class_probabilities[:2].tolist() == [[0, 1], [1, 0]]
    assert torch.equal(classes.class_probabilities[2], said.class_probabilities[2])
    assert classes.boxes is said.boxes
    assert classes.confidence is said.confidence
    confidence = true_confidence(said, truth)
    assert confidence.confidence.tolist() == pytest.approx([38 / 40, 30 / 50, 0.0])
    assert confidence.class_probabilities is said.class_probabilities
    placed = true_boxes(said, truth, torch.tensor([-1, -1, -2]), 0.5)
    assert placed.boxes.tolist() == [LEFT, MIDDLE, RIGHT]
    assert placed.confidence is said.confidence


def test_what_was_said_is_not_changed():
    nearly = [112.0, 10.0, 150.0, 50.0]
    said = Predictions(torch.tensor([nearly]), torch.full((1, 2), 0.3), torch.full((1,), 0.3))
    before = [value.clone() for value in said]
    truth = truth_of([MIDDLE], [1])
    true_boxes(said, truth, torch.tensor([0]), 0.5)
    true_boxes(true_classes(true_confidence(said, truth), truth, 0.5), truth, torch.tensor([0]), 0.5)
    assert all(torch.equal(one, other) for one, other in zip(said, before, strict=True))


def test_the_confidence_is_the_best_overlap_of_plain_loops():
    torch.manual_seed(1)
    boxes = torch.rand(50, 2, 2).mul(100).sort(dim=1).values.flatten(1)
    objects = torch.rand(7, 2, 2).mul(100).sort(dim=1).values.flatten(1)
    said = Predictions(boxes, torch.rand(50, 2), torch.rand(50))
    found = true_confidence(said, truth_of(objects.tolist(), [0] * 7)).confidence
    assert found.tolist() == pytest.approx([max(float(iou(box, one)) for one in objects) for box in boxes])


def test_objects_that_are_compared_in_pieces_keep_their_places(monkeypatch):
    monkeypatch.setattr("dethead.assigners.ignoring.CHUNK_PAIRS", 2)  # one object at a time
    said = Predictions(torch.tensor([LEFT, RIGHT]), torch.zeros(2, 2), torch.zeros(2))
    truth = truth_of([LEFT, MIDDLE, RIGHT], [0, 0, 1])
    assert true_classes(said, truth, 0.5).class_probabilities.tolist() == [[1, 0], [0, 1]]


def test_an_object_of_unknown_class_keeps_the_class_that_was_said():
    said = Predictions(torch.tensor([LEFT, MIDDLE]), torch.full((2, 2), 0.3), torch.zeros(2))
    truth = truth_of([LEFT, MIDDLE], [UNKNOWN_CLASS, 1])
    found = true_classes(said, truth, 0.5).class_probabilities
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.3], [0.0, 1.0]]))


def test_an_object_with_two_labels_gets_both():
    said = Predictions(torch.tensor([LEFT]), torch.full((1, 2), 0.3), torch.zeros(1))
    truth = truth_of([LEFT], [0])._replace(targets=torch.tensor([[1.0, 1.0]]))
    assert true_classes(said, truth, 0.5).class_probabilities.tolist() == [[1, 1]]


def test_the_part_outside_the_image_does_not_count_against_a_box():
    # 60 px wide, 20 of them beyond the border; what is seen is the object
    output = says((CAR, YES, STAY))
    resize = Resize((100, 100), (1.0, 1.0))
    found = BranchOracles(Postprocessor(SigmoidBCE(), BoxCodec()))(
        output, anchors_at([60.0, 10.0, 120.0, 50.0]), [truth_of([[60.0, 10.0, 100.0, 50.0]], [0])], [resize]
    )
    assert found["confidence"][0].confidence.tolist() == [1.0, 1.0]  # one for each class


def test_the_truth_is_in_pixels_of_the_input_and_detections_in_those_of_the_original():
    resize = Resize((200, 1200), (0.5, 0.25))
    output = says((CAR, YES, (9 / 40, 0.0, 0.0, 0.0)))
    truth = truth_of([LEFT], [0])
    found = BranchOracles(Postprocessor(SigmoidBCE(), BoxCodec()))(
        output, anchors_at(LEFT), [truth], [resize]
    )
    assert found["box"][0].boxes[0].tolist() == [40, 20, 200, 100]
    assert aps(output, anchors_at(LEFT), truth, resize=resize)["box"] == ONE


def test_an_image_without_objects_has_no_detections_by_true_confidence():
    output = says((CAR, YES, STAY))
    oracles = BranchOracles(Postprocessor(SigmoidBCE(), BoxCodec()), MaxIoUAssigner())
    found = oracles(output, anchors_at(LEFT), [truth_of([], [])], [AS_IT_IS])
    counts = {name: len(one[0].scores) for name, one in found.items()}
    assert counts == {"class": 2, "confidence": 0, "box": 2, "all": 0}


def test_images_of_a_batch_do_not_mix():
    torch.manual_seed(5)
    anchors = anchors_at(LEFT, MIDDLE, RIGHT)
    output = HeadOutput(torch.randn(2, 3, 7))
    truth = [truth_of([LEFT], [0]), truth_of([MIDDLE, RIGHT], [1, 0])]
    oracles = BranchOracles(Postprocessor(SoftmaxCE(), BoxCodec()), MaxIoUAssigner())
    both = oracles(output, anchors, truth, [AS_IT_IS] * 2)
    for place in range(2):
        part = HeadOutput(output.raw[place : place + 1])
        alone = oracles(part, anchors, truth[place : place + 1], [AS_IT_IS])
        for name in ORACLES:
            for one, other in zip(both[name][place], alone[name][0], strict=True):
                torch.testing.assert_close(one, other)


def test_an_assigner_that_wants_predictions_is_shown_them():
    class Curious:
        needs_predictions = True

        def __call__(self, anchors, truth, predictions=None):
            assert predictions.boxes.shape == (1, 1, 4)
            return MaxIoUAssigner()(anchors, truth)

    output = says((CAR, YES, (1.0, 0.0, 0.0, 0.0)))
    assert aps(output, anchors_at(LEFT), truth_of([LEFT], [0]), Curious())["box"] == ONE


def test_truth_of_another_number_of_images_is_refused():
    oracles = BranchOracles(Postprocessor(SigmoidBCE(), BoxCodec()))
    with pytest.raises(ValueError, match="1 images have 2 truths and 1 resizes"):
        oracles(says((CAR, YES, STAY)), anchors_at(LEFT), [truth_of([LEFT], [0])] * 2, [AS_IT_IS])


@pytest.mark.parametrize("overlap", [0.0, 1.1])
def test_an_overlap_out_of_range_is_refused(overlap):
    with pytest.raises(ValueError, match=rf"overlap must be in \(0, 1\], got {overlap}"):
        BranchOracles(Postprocessor(SigmoidBCE(), BoxCodec()), overlap=overlap)


def test_the_table_shows_what_each_branch_gains():
    evaluator = CocoEvaluator(["car"])
    now = replace(evaluator.compute(), AP=0.25, AP50=0.5)
    table = oracle_table(now, {"class": replace(now, AP=0.4)})
    assert [column.header for column in table.columns][-1] == "AP gained"
    rows = [[*column.cells] for column in table.columns]
    assert rows[0] == ["none", "class"]
    assert rows[1] == ["25.0", "40.0"]
    assert rows[3] == ["-", "-"]
    assert rows[-1] == ["0.0", "15.0"]
