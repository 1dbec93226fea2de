"""What class_weights multiply."""

import pytest
import torch

from dethead.losses import weights_of_labels

WEIGHTS = torch.tensor([1.0, 2.0, 6.0])


def test_one_label_has_its_weight():
    assert weights_of_labels(torch.eye(3), WEIGHTS).tolist() == [1, 2, 6]


def test_several_labels_have_the_mean_of_their_weights():
    assert weights_of_labels(torch.tensor([[1.0, 0, 1], [1, 1, 1]]), WEIGHTS).tolist() == [3.5, 3]


def test_soft_labels_have_the_mean_weighted_by_their_share():
    # (0.5 * 1 + 0.25 * 6) / 0.75
    assert weights_of_labels(torch.tensor([[0.5, 0, 0.25]]), WEIGHTS).item() == pytest.approx(8 / 3)


def test_a_row_without_labels_has_weight_one():
    assert weights_of_labels(torch.zeros(1, 3), WEIGHTS).tolist() == [1]


def test_a_class_of_weight_zero_is_not_a_row_without_labels():
    assert weights_of_labels(torch.eye(3)[:1], torch.tensor([0.0, 1.0, 1.0])).tolist() == [0]


def test_no_rows_have_no_weights():
    assert weights_of_labels(torch.zeros(0, 3), WEIGHTS).shape == (0,)


def test_the_weights_take_the_type_of_the_targets():
    assert weights_of_labels(torch.eye(3, dtype=torch.float64), WEIGHTS).dtype == torch.float64


@pytest.mark.parametrize("weights", [torch.ones(2), torch.ones(1), torch.ones(1, 3)])
def test_weights_for_another_number_of_classes_are_refused(weights):
    with pytest.raises(ValueError, match="for 3 classes"):
        weights_of_labels(torch.eye(3), weights)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_what_is_no_weight_is_named(wrong):
    with pytest.raises(ValueError, match=f"class_weights of class 1 is {wrong}"):
        weights_of_labels(torch.eye(3), torch.tensor([1.0, wrong, 1.0]))
