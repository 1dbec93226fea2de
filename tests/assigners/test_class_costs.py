"""Class costs of pairs against torch's losses, pair by pair."""

import torch
from torch.nn import functional as F

from dethead.assigners import class_costs
from dethead.assigners.class_costs import Labels, SigmoidCosts, SoftmaxCosts
from dethead.structures import GroundTruth

NO_BOXES = torch.zeros(0, 4)


def truth(targets, known=None):
    targets = torch.tensor(targets, dtype=torch.float32)
    known = torch.ones(len(targets), dtype=torch.bool) if known is None else torch.tensor(known)
    return GroundTruth(torch.zeros(len(targets), 4), targets, NO_BOXES, known)


def softmax_costs(probabilities, objects, confidence=None):
    """(M, A)"""
    costs = SoftmaxCosts(probabilities, confidence, Labels.shares(objects))
    return of_all(costs, len(objects.boxes), len(probabilities))


def sigmoid_costs(probabilities, objects, confidence=None):
    """(M, A)"""
    rows = torch.arange(len(probabilities))
    costs = SigmoidCosts.among(rows, probabilities, confidence, objects)
    return of_all(costs, len(objects.boxes), len(probabilities))


def of_all(costs, boxes, anchors):
    return costs.of(torch.arange(boxes)[:, None], torch.arange(anchors))


def all_pairs(loss, probabilities, targets):
    return torch.stack([torch.stack([loss(p, row) for p in probabilities]) for row in targets])


def test_sigmoid_costs_are_torchs_binary_cross_entropy_also_with_several_and_soft_labels():
    probabilities = torch.rand(50, 4)
    objects = truth([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0.25, 0, 0.5, 0]])
    wanted = all_pairs(
        lambda p, row: F.binary_cross_entropy(p, row, reduction="sum"), probabilities, objects.targets
    )
    torch.testing.assert_close(sigmoid_costs(probabilities, objects), wanted)


def test_softmax_costs_are_torchs_cross_entropy():
    probabilities = torch.randn(50, 4).softmax(dim=1)
    objects = truth([[1, 0, 0, 0], [0, 0, 0, 1]])
    wanted = torch.stack(
        [F.nll_loss(probabilities.log(), torch.full((50,), label), reduction="none") for label in (0, 3)]
    )
    torch.testing.assert_close(softmax_costs(probabilities, objects), wanted)


def test_several_labels_share_the_cross_entropy():
    probabilities = torch.rand(50, 3)
    wanted = -(probabilities[:, 0].log() + probabilities[:, 2].log()) / 2
    torch.testing.assert_close(softmax_costs(probabilities, truth([[1, 0, 1]]))[0], wanted)


def test_an_unknown_class_costs_nothing():
    objects = truth([[1, 0], [0, 0], [1, 0]], [True, False, False])
    for make in (softmax_costs, sigmoid_costs):
        costs = make(torch.rand(5, 2), objects)
        assert costs[0].all()
        assert not costs[1:].any()


def test_certain_probabilities_cost_at_most_100_per_class():
    probabilities = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    objects = truth([[1, 0]])
    assert sigmoid_costs(probabilities, objects).tolist() == [[200.0, 0.0]]
    assert softmax_costs(probabilities, objects).tolist() == [[100.0, 0.0]]


def test_the_confidence_is_a_factor_of_the_softmax_and_makes_a_geometric_mean_with_the_sigmoid():
    objects, probabilities, confidence = truth([[1, 0], [0, 1]]), torch.rand(7, 2), torch.rand(7)
    joint = probabilities * confidence[:, None]
    torch.testing.assert_close(
        softmax_costs(probabilities, objects, confidence), softmax_costs(joint, objects)
    )
    torch.testing.assert_close(
        sigmoid_costs(probabilities, objects, confidence), sigmoid_costs(joint.sqrt(), objects)
    )


def test_costs_of_pairs_are_those_of_all_pairs():
    objects, probabilities = truth([[1, 0], [0, 1], [1, 1]]), torch.rand(7, 2)
    box, anchors = torch.tensor([2, 0, 1, 2]), torch.tensor([6, 0, 3, 1])
    for costs in (
        SoftmaxCosts(probabilities, None, Labels.shares(objects)),
        SigmoidCosts.among(torch.tensor([0, 1, 3, 6]), probabilities, None, objects),
    ):
        whole = sigmoid_costs if isinstance(costs, SigmoidCosts) else softmax_costs
        assert torch.equal(costs.of(box, anchors), whole(probabilities, objects)[box, anchors])


def test_sums_over_classes_are_the_same_piece_by_piece(monkeypatch):
    objects, probabilities = truth([[1, 0], [0, 1], [1, 1]]), torch.rand(7, 2)
    wanted = sigmoid_costs(probabilities, objects)
    monkeypatch.setattr(class_costs, "PIECE", 4)
    assert torch.equal(sigmoid_costs(probabilities, objects), wanted)


def test_making_costs_changes_no_prediction():
    objects, probabilities, confidence = truth([[1, 0]]), torch.rand(7, 2), torch.rand(7)
    before = probabilities.clone(), confidence.clone()
    for make in (softmax_costs, sigmoid_costs):
        make(probabilities, objects, confidence)
    assert torch.equal(probabilities, before[0])
    assert torch.equal(confidence, before[1])


def test_costs_are_not_rounded_under_autocast():
    objects, probabilities = truth([[1, 0], [0, 1], [1, 1]]), torch.rand(7, 2)
    for make in (softmax_costs, sigmoid_costs):
        with torch.autocast("cpu", torch.bfloat16):
            under_autocast = make(probabilities, objects)
        assert torch.equal(under_autocast, make(probabilities, objects))


def test_label_shares_sum_to_1_or_0():
    objects = truth([[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]], [True, True, False, True])
    classes, shares = Labels.shares(objects)
    assert shares.shape == (4, 2)  # no more columns than a box has labels
    dense = torch.zeros(4, 3).scatter_add(1, classes, shares)
    assert dense.tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
