"""Class costs of all pairs against torch's losses, pair by pair."""

import torch
from torch.nn import functional as F

from dethead.assigners.class_costs import ClassCosts, label_shares
from dethead.structures import GroundTruth

NO_BOXES = torch.zeros(0, 4)


def truth(targets, known=None):
    targets = torch.tensor(targets, dtype=torch.float32)
    known = torch.ones(len(targets), dtype=torch.bool) if known is None else torch.tensor(known)
    return GroundTruth(torch.zeros(len(targets), 4), targets, NO_BOXES, known)


def all_pairs(loss, probabilities, targets):
    return torch.stack([torch.stack([loss(p, row) for p in probabilities]) for row in targets])


def test_sigmoid_costs_are_torchs_binary_cross_entropy_also_with_several_and_soft_labels():
    probabilities = torch.rand(50, 4)
    objects = truth([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0.25, 0, 0.5, 0]])
    wanted = all_pairs(
        lambda p, row: F.binary_cross_entropy(p, row, reduction="sum"), probabilities, objects.targets
    )
    torch.testing.assert_close(ClassCosts.sigmoid(probabilities, objects).of(slice(0, 4)), wanted)


def test_softmax_costs_are_torchs_cross_entropy():
    probabilities = torch.randn(50, 4).softmax(dim=1)
    objects = truth([[1, 0, 0, 0], [0, 0, 0, 1]])
    wanted = torch.stack(
        [F.nll_loss(probabilities.log(), torch.full((50,), label), reduction="none") for label in (0, 3)]
    )
    torch.testing.assert_close(ClassCosts.softmax(probabilities, objects).of(slice(0, 2)), wanted)


def test_several_labels_share_the_cross_entropy():
    probabilities = torch.rand(50, 3)
    wanted = -(probabilities[:, 0].log() + probabilities[:, 2].log()) / 2
    torch.testing.assert_close(
        ClassCosts.softmax(probabilities, truth([[1, 0, 1]])).of(slice(0, 1))[0], wanted
    )


def test_an_unknown_class_costs_nothing():
    objects = truth([[1, 0], [0, 0], [1, 0]], [True, False, False])
    for make in (ClassCosts.softmax, ClassCosts.sigmoid):
        costs = make(torch.rand(5, 2), objects).of(slice(0, 3))
        assert costs[0].all()
        assert not costs[1:].any()


def test_certain_probabilities_cost_at_most_100_per_class():
    probabilities = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    objects = truth([[1, 0]])
    assert ClassCosts.sigmoid(probabilities, objects).of(slice(0, 1)).tolist() == [[200.0, 0.0]]
    assert ClassCosts.softmax(probabilities, objects).of(slice(0, 1)).tolist() == [[100.0, 0.0]]


def test_rows_are_those_of_the_boxes_asked_for():
    objects, probabilities = truth([[1, 0], [0, 1], [1, 1]]), torch.rand(7, 2)
    costs = ClassCosts.sigmoid(probabilities, objects)
    assert torch.equal(costs.of(slice(1, 3)), costs.of(slice(0, 3))[1:])


def test_costs_are_not_rounded_under_autocast():
    objects, probabilities = truth([[1, 0], [0, 1], [1, 1]]), torch.rand(7, 2)
    for make in (ClassCosts.softmax, ClassCosts.sigmoid):
        costs = make(probabilities, objects)
        with torch.autocast("cpu", torch.bfloat16):
            under_autocast = costs.of(slice(0, 3))
        torch.testing.assert_close(under_autocast, costs.of(slice(0, 3)), rtol=0, atol=0)


def test_label_shares_sum_to_1_or_0():
    shares = label_shares(truth([[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]], [True, True, False, True]))
    assert shares.tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
