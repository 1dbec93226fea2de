"""Hard negatives against a plain sort, and what must not change the choice."""

import numpy as np
import pytest
import torch

from dethead import devices
from dethead.losses.mining import hard_negatives


@pytest.fixture(params=[(), ("cpu",)], ids=["asked", "behind"], autouse=True)
def _device(request, monkeypatch):
    """Every test twice: with a CPU that is asked for the counts, and as where nobody waits for them."""
    monkeypatch.setattr(devices, "BEHIND", request.param)


def by_sorting(loss, candidates, count):
    """The first ``count`` candidates in the order of falling loss, ties by place."""
    order = np.argsort(-loss.flatten().numpy(), kind="stable")
    chosen = np.zeros(loss.numel(), dtype=bool)
    chosen[[row for row in order if candidates.flatten()[row]][:count]] = True
    return torch.from_numpy(chosen).view_as(loss)


@pytest.mark.parametrize("positives", [1, 4, 11])
@pytest.mark.parametrize("values", [5, 10**6], ids=["many ties", "no ties"])
def test_the_hardest_candidates_of_the_whole_batch_are_kept(positives, values):
    for _ in range(20):
        loss = torch.randint(values, (3, 40)).float()
        candidates = torch.rand(3, 40) < 0.6
        kept = hard_negatives(loss, candidates, positives, ratio=3)
        assert torch.equal(kept, by_sorting(loss, candidates, 3 * positives))


def test_an_image_without_objects_contributes_its_false_alarms():
    # the three positives are in the first image; the worst false alarms in the second
    loss = torch.tensor([[0.1, 0.2, 0.1, 0.2], [3.0, 0.1, 2.0, 1.0]])
    candidates = torch.tensor([[False, False, False, True], [True, True, True, True]])
    kept = hard_negatives(loss, candidates, 3, ratio=1)
    assert kept.tolist() == [[False, False, False, False], [True, False, True, True]]


@pytest.mark.parametrize(("ratio", "count"), [(3.0, 3), (0.5, 1), (0.1, 1), (2.4, 2)])
def test_a_batch_without_positives_keeps_as_many_as_one_positive_would(ratio, count):
    loss, candidates = torch.rand(2, 10), torch.ones(2, 10, dtype=torch.bool)
    assert hard_negatives(loss, candidates, 0, ratio).sum() == count
    assert torch.equal(hard_negatives(loss, candidates, 0, ratio), hard_negatives(loss, candidates, 1, ratio))


def test_of_equal_losses_the_first_are_kept():
    loss, candidates = torch.ones(2, 4), torch.tensor([[False, True, True, False], [True] * 4])
    kept = hard_negatives(loss, candidates, 3, ratio=1)
    assert kept.tolist() == [[False, True, True, False], [True, False, False, False]]


def test_fewer_candidates_than_wanted_are_all_kept():
    candidates = torch.tensor([[True, False, True]])
    kept = hard_negatives(torch.zeros(1, 3), candidates, 5, ratio=3)
    assert torch.equal(kept, candidates)
    assert kept is not candidates


@pytest.mark.parametrize("shape", [(2, 0), (0, 5), (2, 5)])
def test_no_candidates_no_negatives(shape):
    kept = hard_negatives(torch.zeros(shape), torch.zeros(shape, dtype=torch.bool), 2, ratio=3)
    assert kept.shape == shape
    assert not kept.any()


def test_the_number_of_positives_may_be_a_tensor():
    loss, candidates = torch.rand(2, 10), torch.ones(2, 10, dtype=torch.bool)
    assert hard_negatives(loss, candidates, torch.tensor(2), 2.0).sum() == 4


def test_a_product_that_floats_cannot_hold_is_counted_right():
    # 0.29 * 100 is 28.999999999999996 in floats
    loss, candidates = torch.rand(1, 200), torch.ones(1, 200, dtype=torch.bool)
    assert hard_negatives(loss, candidates, 100, 0.29).sum() == 29


def test_the_loss_is_not_followed_backwards():
    loss = torch.rand(1, 5, requires_grad=True)
    assert not hard_negatives(loss * 2, torch.ones(1, 5, dtype=torch.bool), 1, 1).requires_grad


def test_a_nan_is_kept_and_so_is_seen():
    loss = torch.tensor([[1.0, float("nan"), 2.0]])
    assert hard_negatives(loss, torch.ones(1, 3, dtype=torch.bool), 1, 1).tolist() == [[False, True, False]]


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ratio_that_keeps_nothing_is_refused(ratio):
    with pytest.raises(ValueError, match="the ratio of negatives to positives must be above 0"):
        hard_negatives(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), 1, ratio)


@pytest.mark.parametrize("candidates", [torch.ones(2, dtype=torch.bool), torch.ones(1, 2)])
def test_candidates_that_do_not_fit_are_refused(candidates):
    with pytest.raises(ValueError, match=r"candidates must be bool \(1, 2\)"):
        hard_negatives(torch.zeros(1, 2), candidates, 1, 3)
