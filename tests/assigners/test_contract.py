"""What holds for every assigner; a new one is listed in ASSIGNERS and passes the same tests."""

import pytest
import torch
from assigners import scenes
from torch.utils._python_dispatch import TorchDispatchMode

from dethead.assigners import (
    ATSSAssigner,
    CenterAssigner,
    MaxIoUAssigner,
    SimOTAAssigner,
    TaskAlignedAssigner,
    claims,
    grid_pairs,
    ignoring,
    overlapping,
)
from dethead.structures import BACKGROUND, IGNORE, Anchors, GroundTruth, Predictions

ASSIGNERS = {
    "max-iou": MaxIoUAssigner(),
    "atss": ATSSAssigner(),
    "center": CenterAssigner(),
    "sim-ota-softmax": SimOTAAssigner("softmax"),
    "sim-ota-sigmoid": SimOTAAssigner("sigmoid"),
    "task-aligned": TaskAlignedAssigner(),
}
ANCHORS = scenes.GRIDS[0]
LOOKING = [name for name, assigner in ASSIGNERS.items() if assigner.needs_predictions]


@pytest.fixture(params=ASSIGNERS)
def assigner(request):
    return ASSIGNERS[request.param]


@pytest.fixture(params=LOOKING)
def looking(request):
    """An assigner that needs predictions."""
    return ASSIGNERS[request.param]


def batch(counts=(5, 3), regions=2, seed=0):
    """Truth and predictions without ties: nothing lies on whole pixels."""
    generator = torch.Generator().manual_seed(seed)
    truth = [scenes.random_truth(generator, count, 1e-4, regions) for count in counts]
    return truth, scenes.random_predictions(generator, ANCHORS, len(counts))


def assign(assigner, truth, predictions, anchors=ANCHORS):
    return assigner(anchors, truth, predictions if assigner.needs_predictions else None)


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def set_chunks(monkeypatch, pairs):
    for module in (ignoring, grid_pairs, overlapping):
        monkeypatch.setattr(module, "CHUNK_PAIRS", pairs)


def test_an_assignment_has_one_answer_per_anchor_and_knows_its_types(assigner):
    truth, predictions = batch()
    got = assign(assigner, truth, predictions)
    assert got.matched.shape == got.overlaps.shape == (2, len(ANCHORS.boxes))
    assert (got.matched.dtype, got.overlaps.dtype) == (torch.int64, torch.float32)
    assert got.quality is None or (got.quality.shape, got.quality.dtype) == (got.matched.shape, torch.float32)
    assert (got.matched >= IGNORE).all()
    assert (got.matched.amax(dim=1) < torch.tensor([5, 3])).all()
    assert (got.matched >= 0).any(dim=1).all()


def test_overlaps_and_quality_are_between_0_and_1_and_0_for_the_rest(assigner):
    truth, predictions = batch()
    got = assign(assigner, truth, predictions)
    for values in [got.overlaps] if got.quality is None else [got.overlaps, got.quality]:
        assert ((values >= 0) & (values <= 1)).all()
        assert not values[got.matched < 0].any()
        assert values[got.matched >= 0].any()


def test_an_image_without_anything_is_background(assigner):
    truth, predictions = batch((0,), regions=0)
    got = assign(assigner, truth, predictions)
    assert (got.matched == BACKGROUND).all()
    assert not got.overlaps.any()
    assert got.quality is None or not got.quality.any()


def test_an_image_that_holds_only_a_region_is_ignored_inside_it(assigner):
    region = torch.tensor([[0.0, 0.0, 40.0, 40.0]])
    truth, predictions = batch((0,))
    got = assign(assigner, [truth[0]._replace(ignore_boxes=region)], predictions)
    inside = ignoring.inside_ignored(ANCHORS.boxes, region, 0.5)
    assert inside.any()
    assert not inside.all()
    assert got.matched[0].tolist() == [IGNORE if one else BACKGROUND for one in inside]


def test_a_region_over_the_image_changes_no_positive_and_ignores_the_rest(assigner):
    truth, predictions = batch(regions=0)
    everywhere = torch.tensor([[-99.0, -99.0, 199.0, 199.0]])
    plain = assign(assigner, truth, predictions).matched
    crowded = [one._replace(ignore_boxes=everywhere) for one in truth]
    covered = assign(assigner, crowded, predictions).matched
    assert torch.equal(covered, plain.where(plain >= 0, IGNORE))


def test_there_is_no_gradient(assigner):
    truth, predictions = batch()
    truth = [one._replace(boxes=one.boxes.requires_grad_()) for one in truth]
    predictions = Predictions(*(part.requires_grad_() for part in predictions))
    assert not any(part.requires_grad for part in assign(assigner, truth, predictions) if part is not None)


@pytest.mark.parametrize("pairs", [1, 3 * len(ANCHORS.boxes)])
def test_boxes_in_chunks_are_assigned_as_all_at_once(assigner, monkeypatch, pairs):
    generator = torch.Generator().manual_seed(3)
    truth = [scenes.random_truth(generator, 10, 8.0, 5)]  # on whole cells: ties, too
    predictions = scenes.random_predictions(generator, ANCHORS, 1)
    whole = assign(assigner, truth, predictions)
    set_chunks(monkeypatch, pairs)
    assert_same(assign(assigner, truth, predictions), whole)


class Largest(TorchDispatchMode):
    """Notes the most numbers in a tensor that anything gave."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.untyped_storage().nbytes() // one.element_size())
        return result


def test_no_tensor_has_boxes_times_anchors_when_chunks_are_small(assigner, monkeypatch):
    set_chunks(monkeypatch, len(ANCHORS.boxes))
    truth, predictions = batch((60,))
    with Largest() as largest:
        assign(assigner, truth, predictions)
    # 4: sides of a box, or classes; some fill up their last stretch
    assert largest.numbers <= 4 * (len(ANCHORS.boxes) + claims.STRETCH)


def test_boxes_in_another_order_give_the_same_matches(assigner):
    truth, predictions = batch((6,))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one = truth[0]
    turned = GroundTruth(one.boxes[order], one.targets[order], one.ignore_boxes, one.class_known[order])
    plain, other = (assign(assigner, [each], predictions) for each in (one, turned))
    back = torch.where(other.matched >= 0, order[other.matched.clamp(min=0)], other.matched)
    assert torch.equal(back, plain.matched)
    torch.testing.assert_close(other.overlaps, plain.overlaps)


def test_of_two_equal_objects_the_first_has_all_anchors(assigner):
    truth, predictions = batch((1,))
    one = truth[0]
    twice = GroundTruth(*(torch.cat([part, part]) for part in one[:4]))
    assert torch.equal(
        assign(assigner, [twice], predictions).matched, assign(assigner, [one], predictions).matched
    )


def off_the_grid(anchors):
    """The same anchors, the first one moved by less than anything here notices, but not a grid any more."""
    boxes = anchors.boxes.clone()
    boxes[0] += torch.tensor([0.0, 0.0, 2e-3, 0.0])
    return anchors._replace(boxes=boxes)


def test_anchors_off_the_grid_are_assigned_as_those_on_it(assigner):
    for seed in range(5):
        truth, predictions = batch(seed=seed)
        off = off_the_grid(ANCHORS)
        assert grid_pairs.find_grid(off) is None
        first, other = (assign(assigner, truth, predictions, anchors) for anchors in (ANCHORS, off))
        assert torch.equal(first.matched, other.matched)


def test_images_are_assigned_together_as_one_by_one(assigner):
    truth, predictions = batch((4, 0, 7, 2))
    together = assign(assigner, truth, predictions)
    for row, one in enumerate(truth):
        alone = assign(assigner, [one], Predictions(*(part[row : row + 1] for part in predictions)))
        assert_same(
            [part[row] for part in together if part is not None], [p[0] for p in alone if p is not None]
        )


def test_anchors_outside_and_boxes_outside_the_image_are_no_error(assigner):
    truth, predictions = batch((1,), regions=0)
    far = [truth[0]._replace(boxes=torch.tensor([[900.0, 900.0, 920.0, 910.0]]))]
    assert (assign(assigner, far, predictions).matched == BACKGROUND).all()


def test_one_anchor_is_enough_for_an_assignment(assigner):
    anchors = Anchors(torch.tensor([[0.0, 0.0, 16.0, 16.0]]), (slice(0, 1),), (16,), ((1, 1),))
    truth = [GroundTruth.from_labels(anchors.boxes, torch.tensor([0]), 1)]
    seen = Predictions(anchors.boxes[None], torch.ones(1, 1, 1), torch.ones(1, 1))
    assert assign(assigner, truth, seen, anchors).matched.tolist() == [[0]]


def test_assigners_are_frozen_and_equal_by_their_settings(assigner):
    with pytest.raises(AttributeError):
        assigner.ignore_overlap = 0.1
    assert len({assigner, assigner}) == 1


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_of_area_outside_0_to_1_is_refused(assigner, share):
    settings = {name: getattr(assigner, name) for name in assigner.__slots__}
    with pytest.raises(ValueError, match=rf"ignore_overlap must be in \(0, 1\], got {share}"):
        type(assigner)(**settings | {"ignore_overlap": share})


def test_autocast_and_half_precision_predictions_change_nothing_but_their_rounding(looking):
    truth, predictions = batch()
    rounded = Predictions(*(part.bfloat16() for part in predictions))
    with torch.autocast("cpu", torch.bfloat16):
        half = looking(ANCHORS, truth, rounded)
    assert_same(half, looking(ANCHORS, truth, Predictions(*(part.float() for part in rounded))))


def test_boxes_in_float64_are_matched_as_in_float32(assigner):
    truth, predictions = batch()
    double = [one._replace(boxes=one.boxes.double()) for one in truth]
    assert torch.equal(
        assign(assigner, double, predictions).matched, assign(assigner, truth, predictions).matched
    )


def test_predictions_are_needed(looking):
    with pytest.raises(ValueError, match="give it predictions, not None"):
        looking(ANCHORS, batch()[0])


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("boxes", float("nan"), "predicted boxes of image row 1 must be finite, they reach from nan to nan"),
        ("boxes", float("-inf"), "predicted boxes of image row 1 must be finite, they reach from -inf"),
        ("boxes", float("inf"), "predicted boxes of image row 1 must be finite"),
        ("class_probabilities", float("nan"), "predicted class_probabilities of image row 1 must be in"),
        ("class_probabilities", 1.5, r"class_probabilities of image row 1 must be in \[0, 1\].* to 1.5"),
        ("confidence", float("nan"), "predicted confidence of image row 1 must be in"),
        ("confidence", -0.5, r"confidence of image row 1 must be in \[0, 1\], they reach from -0.5"),
    ],
)
def test_a_prediction_that_is_no_number_or_no_probability_is_refused_with_its_image(
    looking, part, value, message
):
    truth, predictions = batch()
    getattr(predictions, part)[1, 7] = value
    with pytest.raises(ValueError, match=message):
        looking(ANCHORS, truth, predictions)


@pytest.mark.parametrize("part", ["boxes", "class_probabilities", "confidence"])
def test_predictions_of_other_anchors_are_refused(looking, part):
    truth, predictions = batch()
    short = predictions._replace(**{part: getattr(predictions, part)[:, 1:]})
    with pytest.raises(ValueError, match=f"2 truths and {len(ANCHORS.boxes)} anchors need predictions"):
        looking(ANCHORS, truth, short)


def test_predictions_of_another_number_of_classes_are_refused(looking):
    truth, predictions = batch()
    narrow = predictions._replace(class_probabilities=predictions.class_probabilities[..., 1:])
    with pytest.raises(ValueError, match="truth 0 has targets of 4 classes, the predictions have 3"):
        looking(ANCHORS, truth, narrow)
