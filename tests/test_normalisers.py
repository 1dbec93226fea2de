"""Divisors by hand. That they give the gradient of one process is tested with the criterion."""

import pytest
import torch

from dethead.normalisers import (
    Constant,
    Counts,
    add_counts,
    by_anchors,
    by_positives,
    by_positives_per_image,
    count,
)
from dethead.structures import BACKGROUND, IGNORE, Assignment


def assign(*rows):
    matched = torch.tensor(rows)
    return Assignment(matched, torch.zeros(matched.shape))


MIXED = assign([0, 3, BACKGROUND, IGNORE], [BACKGROUND, IGNORE, IGNORE, 1])
NOTHING = assign([BACKGROUND] * 4, [IGNORE] * 4)
ALL_IGNORED = assign([IGNORE] * 4)


def numbers(counts):
    return [value.item() for value in counts[:4]]


def test_counts_by_hand():
    assert numbers(count(MIXED)) == [3, 5, 2, 1]  # positives, not ignored, images, processes


def test_counts_are_float_scalars():
    # integers cannot be averaged over processes
    assert all(value.dtype == torch.float32 and value.ndim == 0 for value in count(MIXED)[:4])


def test_counts_of_micro_batches_add_up_but_not_their_processes():
    counts = count(MIXED)._replace(processes=torch.tensor(4.0))
    assert numbers(add_counts(counts, counts)) == [6, 10, 4, 4]


def test_divisors_by_hand():
    counts = count(MIXED)
    assert by_positives(counts, MIXED).item() == 3
    assert by_anchors(counts, MIXED).item() == 5
    assert Constant(7)(counts, MIXED).item() == 7
    assert by_positives_per_image(counts, MIXED).tolist() == [2 * 2, 1 * 2]  # times 2 images


def test_divisors_follow_the_counts_of_the_step_and_not_of_the_batch():
    step = Counts(*torch.tensor([30.0, 50.0, 20.0, 1.0]))
    assert by_positives(step, MIXED).item() == 30
    assert by_anchors(step, MIXED).item() == 50
    assert by_positives_per_image(step, MIXED).tolist() == [2 * 20, 1 * 20]


def test_only_an_exact_zero_becomes_one():
    assert by_positives(count(NOTHING), NOTHING).item() == 1
    assert by_anchors(count(ALL_IGNORED), ALL_IGNORED).item() == 1
    assert by_positives_per_image(count(NOTHING), NOTHING).tolist() == [2, 2]
    half = Counts(*torch.tensor([0.5, 0.5, 1.0, 2.0]))
    assert by_positives(half, NOTHING).item() == by_anchors(half, NOTHING).item() == 0.5


def test_a_constant_is_shared_by_the_processes_whose_gradients_are_averaged():
    counts = count(MIXED)._replace(processes=torch.tensor(4.0))
    assert Constant(100)(counts, MIXED).item() == 25


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_constant_that_cannot_divide_is_refused(value):
    with pytest.raises(ValueError, match="must be above 0"):
        Constant(value)
