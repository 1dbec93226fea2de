"""The criterion in as many rows as were fixed beforehand: the terms and gradients of the positives."""

import pytest
import torch
from test_criterion_one_pass import (
    ANCHORS,
    BCE,
    FOCAL,
    NOTHING,
    ON_ALL,
    OPTIONS,
    SILENT,
    UNEVEN,
    A,
    B,
    C,
    assign,
    make_truth,
    results,
)

from dethead import devices
from dethead.auxiliary import Distillation, EmbeddingLoss
from dethead.boxes import BoxCodec
from dethead.criterion import DetectionLoss, Term
from dethead.losses import giou_loss
from dethead.losses.positives import find
from dethead.schemes import MultilabelSoftmax, Seesaw, SoftmaxCE
from dethead.structures import BACKGROUND, IGNORE, GroundTruth, HeadOutput

POSITIVES = sum(matched >= 0 for row in UNEVEN for matched in row)
EXACT = {"rtol": 1e-12, "atol": 1e-13}
ROOMS = [POSITIVES, POSITIVES + 5, 10**6]
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def assert_the_same(*arguments, room=POSITIVES + 5, **options):
    wanted = results(*arguments, **options)
    # What is observed is float32.
    close = {"rtol": 1e-6, "atol": 1e-7} if options.get("observe") else EXACT
    torch.testing.assert_close(results(*arguments, max_positives=room, **options), wanted, **close)


@every_option
@pytest.mark.parametrize("one_pass", [True, False], ids=["one pass", "autograd"])
@pytest.mark.parametrize("scheme", ON_ALL, ids=repr)
def test_over_all_anchors_nothing_changes(scheme, one_pass, options):
    assert_the_same(one_pass, scheme, class_on="all", **options)


@every_option
@pytest.mark.parametrize("scheme", [MultilabelSoftmax(class_weights=[1.0, 2, 3]), BCE], ids=repr)
def test_over_positives_nothing_changes(scheme, options):
    assert_the_same(True, scheme, **options)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("class_on", ["all", "positives"])
@pytest.mark.parametrize("one_pass", [True, False], ids=["one pass", "autograd"])
def test_however_many_rows_there_are(one_pass, class_on, room):
    weights = torch.tensor([0.5, 2.0, 0.0])
    assert_the_same(one_pass, FOCAL, truth=make_truth(weights), class_on=class_on, room=room, observe=True)


@pytest.mark.parametrize("rows", [NOTHING, SILENT], ids=["nothing", "silent"])
@pytest.mark.parametrize("class_on", ["all", "positives"])
def test_without_positives_too(rows, class_on):
    assert_the_same(True, BCE, rows=rows, class_on=class_on, observe=True)


def test_and_without_any_box():
    none = GroundTruth.from_labels(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), C)
    assert_the_same(True, FOCAL, rows=NOTHING, truth=[none] * B, class_on="all")


@pytest.mark.parametrize("on", [(), ("cpu",)], ids=["asked", "behind"])
def test_where_nothing_waits_the_terms_are_the_same(on, monkeypatch):
    options = {"hard_negatives": 2.0, "class_on": "all", "truth": make_truth(torch.tensor([0.5, 2.0, 0.0]))}
    scheme = type(BCE)(class_weights=[1.0, 2, 3], neg_weight=[2.0, 0.5, 1])
    wanted = results(True, scheme, **options)
    monkeypatch.setattr(devices, "BEHIND", on)
    torch.testing.assert_close(results(True, scheme, max_positives=20, **options), wanted, **EXACT)


def further(extra, scheme, room):
    """Value and gradients of one further loss, with embeddings and a teacher."""
    generator = torch.Generator().manual_seed(0)
    raw, taught = torch.randn(2, B, A, C + 5, dtype=torch.float64, generator=generator)
    embeddings = torch.randn(B, A, 4, dtype=torch.float64, generator=generator).requires_grad_()
    output = HeadOutput(raw.requires_grad_(), embeddings)
    loss = DetectionLoss(
        scheme, giou_loss, BoxCodec(), extra={"further": (Term(), extra)}, max_positives=room
    )
    terms = loss(output, assign(UNEVEN), make_truth(), ANCHORS, teacher=HeadOutput(taught))
    return [terms.total, *torch.autograd.grad(terms.total, [raw, embeddings], allow_unused=True)]


@pytest.mark.parametrize(
    "extra", [EmbeddingLoss("triplet"), EmbeddingLoss("contrastive"), Distillation(2.0, "softmax")], ids=repr
)
def test_further_losses_of_the_positives_are_the_same(extra):
    wanted = further(extra, MultilabelSoftmax(), None)
    torch.testing.assert_close(further(extra, MultilabelSoftmax(), POSITIVES + 5), wanted, **EXACT)


def test_a_scheme_that_lives_on_what_was_seen_sees_the_same():
    truth = make_truth()
    truth[0] = truth[0]._replace(targets=torch.eye(C))
    assert_the_same(True, Seesaw(), truth=truth, observe=True)


def broken_at_the_anchor(deltas, boxes, anchors, codec):
    """A box loss that is no number, nor its slope, where a prediction is exactly the anchor's."""
    return (deltas - codec.encode(boxes, anchors)).norm(dim=1) + deltas.abs().sqrt().log().sum(dim=1)


@pytest.mark.parametrize("class_on", ["all", "positives"])
def test_rows_that_fill_up_have_no_gradient_whatever_stands_there(class_on):
    # An ignored anchor is infinite, and the loss for what filling rows are given.
    rows = [[BACKGROUND] * A, [0] + [BACKGROUND] * 11, [1, 0] + [IGNORE] * 10]
    raw = torch.randn(B, A, C + 5, generator=torch.Generator().manual_seed(0))
    raw[2, 5] = torch.inf
    raw.requires_grad_()
    loss = DetectionLoss(BCE, broken_at_the_anchor, BoxCodec(), class_on=class_on, max_positives=B * A)
    terms = loss(HeadOutput(raw), assign(rows), make_truth(), ANCHORS)
    terms.total.backward()
    positive = assign(rows).matched >= 0
    assert terms.total.isfinite()
    assert not HeadOutput(raw.grad).box_deltas[~positive].any()
    assert not raw.grad[2, 5].any()


@pytest.mark.parametrize("most", [1, POSITIVES - 1])
def test_more_positives_than_there_is_room_for_are_an_error_that_names_the_limit(most):
    with pytest.raises(RuntimeError, match=f"more positive anchors than max_positives, {most}"):
        results(True, FOCAL, max_positives=most)


def test_room_for_no_positive_is_refused():
    with pytest.raises(ValueError, match="max_positives must be at least 1, or None for any number, got 0"):
        results(True, FOCAL, max_positives=0)


@pytest.mark.parametrize("room", [1, 7, 60, 100])
def test_positives_come_first_in_their_order_and_no_place_is_there_twice(room):
    matched = torch.full((3, 20), BACKGROUND)
    matched.view(-1)[torch.tensor([59, 3, 20, 21, 0])[: max(1, room - 2)]] = 4
    wanted = (matched >= 0).nonzero()
    places = find(matched, room)
    found = torch.stack(places[:2], dim=1)
    assert len(found) == min(room, 60) == len(found.unique(dim=0))
    assert torch.equal(found[places.real], wanted)
    assert torch.equal(places.real, torch.arange(len(found)) < len(wanted))


def test_a_box_of_several_labels_is_refused_where_nothing_waits(monkeypatch):
    monkeypatch.setattr(devices, "BEHIND", ("cpu",))
    several = [one._replace(targets=torch.ones(3, C)) for one in make_truth()]
    with pytest.raises(RuntimeError, match="a box carries several labels, which SoftmaxCE cannot express"):
        results(True, SoftmaxCE(), truth=several)
