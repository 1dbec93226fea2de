"""Anchor shapes fitted to boxes, against brute force and sets whose best shapes are known."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dethead.anchors import AnchorGrid
from dethead.boxes import iou
from dethead.data.box_shapes import fit_shapes, fitted_grid, mean_best_iou, shape_ious, sizes_of
from dethead.data.seen_boxes import SeenBoxes
from dethead.structures import GroundTruth

SIDES = st.floats(0.5, 500)


def some_sizes(most=12):
    return arrays.arrays(np.float64, st.tuples(st.integers(1, most), st.just(2)), elements=SIDES)


def centred(sizes):
    """(N, 4) boxes around 0."""
    sizes = torch.as_tensor(sizes)
    return torch.cat([-sizes / 2, sizes / 2], dim=1)


@settings(max_examples=40)
@given(some_sizes(), some_sizes())
def test_iou_of_shapes_is_that_of_centred_boxes(first, second):
    wanted = iou(centred(first)[:, None], centred(second)).numpy()
    np.testing.assert_allclose(shape_ious(first, second), wanted, rtol=1e-9)


def draw_sizes(count, seed=0):
    draw = np.random.default_rng(seed)
    return np.exp(draw.normal(3.5, 0.8, (count, 2)))


def test_groups_of_equal_boxes_are_found_exactly():
    groups = np.array([[10.0, 20.0], [60.0, 30.0], [100.0, 200.0], [15.0, 15.0]])
    sizes = np.repeat(groups, [40, 3, 7, 1], axis=0)
    found = fit_shapes(sizes, 4)
    np.testing.assert_allclose(found, groups[np.argsort(groups.prod(axis=1))])
    assert mean_best_iou(sizes, found) == pytest.approx(1.0)


def test_one_shape_for_each_box_is_the_boxes():
    sizes = draw_sizes(6)
    assert mean_best_iou(sizes, fit_shapes(sizes, 6)) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_tiny_sets_are_split_as_brute_force_splits_them(seed):
    """Of all ways to make two groups of 7 boxes, each with its mean as shape, none is better."""
    sizes = draw_sizes(7, seed)
    best = 0.0
    for mask in itertools.product([False, True], repeat=6):
        chosen = np.array([True, *mask])
        if not chosen.all():
            shapes = np.stack([sizes[chosen].mean(axis=0), sizes[~chosen].mean(axis=0)])
            best = max(best, mean_best_iou(sizes, shapes))
    assert mean_best_iou(sizes, fit_shapes(sizes, 2)) >= 0.99 * best


@settings(max_examples=20)
@given(some_sizes(), st.integers(1, 4), st.integers(0, 5))
def test_shapes_are_sorted_inside_the_range_of_the_boxes_and_the_same_again(sizes, count, seed):
    count = min(count, len(np.unique(sizes, axis=0)))
    found = fit_shapes(sizes, count, seed=seed)
    assert found.shape == (count, 2)
    assert (np.diff(found.prod(axis=1)) >= 0).all()
    slack = 1e-9 * sizes.max()
    assert (found >= sizes.min(axis=0) - slack).all()
    assert (found <= sizes.max(axis=0) + slack).all()
    np.testing.assert_array_equal(found, fit_shapes(sizes, count, seed=seed))


def test_more_shapes_lie_better():
    sizes = draw_sizes(400)
    means = [mean_best_iou(sizes, fit_shapes(sizes, count)) for count in (1, 2, 4, 8, 16)]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.2


def test_a_fit_is_better_than_its_boxes_drawn_at_random():
    sizes = draw_sizes(400)
    fitted = mean_best_iou(sizes, fit_shapes(sizes, 9))
    draw = np.random.default_rng(1)
    drawn = [mean_best_iou(sizes, sizes[draw.choice(400, 9, replace=False)]) for _ in range(20)]
    assert fitted > max(drawn)


def test_of_very_many_boxes_some_are_fitted_to(monkeypatch):
    monkeypatch.setattr("dethead.data.box_shapes._MOST", 300)
    sizes = draw_sizes(3000)
    assert mean_best_iou(sizes, fit_shapes(sizes, 6)) == pytest.approx(
        mean_best_iou(sizes, fit_shapes(sizes[:300], 6)), abs=0.02
    )


def test_many_boxes_of_hardly_more_shapes_than_wanted_are_fitted_to(monkeypatch):
    # the rare one is hardly ever among those that are drawn: then fewer different boxes than shapes are left
    monkeypatch.setattr("dethead.data.box_shapes._MOST", 30)
    sizes = np.array([[10.0, 10.0], [20.0, 20.0]] * 100 + [[90.0, 50.0]])
    for seed in range(5):
        assert {(10.0, 10.0), (20.0, 20.0)} <= {*map(tuple, fit_shapes(sizes, 3, seed=seed))}


@pytest.mark.parametrize(
    ("sizes", "count", "message"),
    [
        (np.ones((5, 2)), 2, "2 shapes cannot be fitted to 1 different boxes"),
        (np.ones((0, 2)), 1, "1 shapes cannot be fitted to 0 different boxes"),
        (np.ones((5, 2)), 0, "0 shapes"),
        (np.array([[1.0, 0.0]]), 1, "above 0"),
        (np.array([[1.0, np.nan]]), 1, "above 0"),
        (np.ones((5, 4)), 1, r"\(N, 2\) .* got \(5, 4\)"),
    ],
)
def test_boxes_that_no_shapes_can_be_fitted_to_are_refused(sizes, count, message):
    with pytest.raises(ValueError, match=message):
        fit_shapes(sizes, count)


LIKE = AnchorGrid((8, 16), (((10.0, 10.0),), ((40.0, 40.0),)))
"""A side of 20 px is as far from one as from the other."""


def test_fitted_together_small_shapes_go_to_fine_levels_rounded_to_a_tenth():
    sizes = np.repeat([[8.04, 8.0], [100.0, 50.0], [16.0, 9.0], [12.0, 24.0]], 5, axis=0)
    grid = fitted_grid(sizes, LIKE, 2, together=True)
    assert grid.strides == (8, 16)
    assert grid.shapes == (((8.0, 8.0), (16.0, 9.0)), ((12.0, 24.0), (100.0, 50.0)))


def test_by_level_each_is_fitted_to_the_boxes_nearest_in_size_to_its_anchors():
    fine, coarse = [[8.0, 8.0], [16.0, 9.0], [12.0, 24.0]], [[20.0, 24.0], [100.0, 50.0], [50.0, 100.0]]
    grid = fitted_grid(np.repeat(fine + coarse, 5, axis=0), LIKE, 3)
    assert [{*level} for level in grid.shapes] == [{*map(tuple, fine)}, {*map(tuple, coarse)}]


def test_a_level_with_too_few_boxes_is_named():
    with pytest.raises(ValueError, match="level of stride 16: 1 shapes cannot be fitted to 0 diff"):
        fitted_grid(np.array([[8.0, 8.0], [9.0, 8.0]]), LIKE, 1)


def test_sizes_are_those_of_all_images():
    boxes = [torch.tensor([[1.0, 2, 4, 9]]), torch.zeros(0, 4), torch.tensor([[0.0, 0, 5, 5], [2, 2, 3, 8]])]
    labels = [torch.zeros(len(one), dtype=torch.int64) for one in boxes]
    truth = [GroundTruth.from_labels(one, label, 1) for one, label in zip(boxes, labels, strict=True)]
    seen = [SeenBoxes(one, torch.zeros(len(one.boxes))) for one in truth]
    assert sizes_of(seen).tolist() == [[3, 7], [5, 5], [1, 6]]
    assert sizes_of([]).shape == (0, 2)
