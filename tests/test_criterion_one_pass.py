"""The criterion in one pass: its terms and gradients are those of plain autograd, whatever the settings."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from dethead import criterion
from dethead.boxes import BoxCodec
from dethead.criterion import DetectionLoss, Term
from dethead.losses import confidence_focal, giou_loss, smooth_l1
from dethead.normalisers import Constant, Counts, by_anchors, by_positives_per_image
from dethead.schemes import (
    GHM,
    Asymmetric,
    Equalization,
    Focal,
    MultilabelSoftmax,
    QualityFocal,
    SigmoidBCE,
    SigmoidPoly1,
    Varifocal,
)
from dethead.structures import (
    BACKGROUND,
    IGNORE,
    UNKNOWN_CLASS,
    Anchors,
    Assignment,
    ClassesSeen,
    GroundTruth,
    HeadOutput,
)

B, A, C = 3, 12, 3
CORNERS = 8 * torch.stack(torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij"), -1).view(-1, 2)
ANCHORS = Anchors(torch.cat([CORNERS, CORNERS + 10], dim=1), (slice(0, A),), (8,), ((3, 4),))
SEEN = ClassesSeen(torch.tensor([5.0, 1, 0]), torch.tensor([3.0, 1, 0]), torch.tensor([1.0, 4, 0]))
FOCAL, BCE = Focal(alpha=0.25, gamma=2.0), SigmoidBCE()
ON_ALL = [
    FOCAL,
    BCE,
    SigmoidBCE(class_weights=[1.0, 2, 3], neg_weight=[2.0, 0.5, 1], pos_weight=[3.0, 1, 1]),
    SigmoidBCE(quality_target=True),
    QualityFocal(beta=2.0),
    Varifocal(alpha=0.75, gamma=2.0),
    Asymmetric(gamma_pos=0, gamma_neg=4),
    SigmoidPoly1(epsilon=1.0, class_weights=[1.0, 2, 3]),
    Equalization(),
    GHM(),
]
TERM = Term(3.0, by_positives_per_image)
OPTIONS = {
    "defaults": {},
    "terms": {
        "class_term": TERM,
        "confidence_term": Term(0.5, by_anchors),
        "box_term": Term(2.0, Constant(7)),
    },
    "confidence of the iou": {"confidence_target": "iou", "confidence_on": "positives"},
    "confidence of the quality, focal": {
        "confidence_target": "quality",
        "confidence_loss": partial(confidence_focal, alpha=0.25, gamma=2.0),
    },
    "hard negatives": {"hard_negatives": 2.0},
    "further losses": {
        "extra": {
            "sure": (Term(0.5), lambda positives: positives.output.confidence_logits.square()),
            "far": (TERM, lambda positives: positives.output.raw.square().sum(dim=1)),
        }
    },
    "observed": {"observe": True, "class_term": TERM},
    "class without weight": {"class_term": Term(0.0), "observe": True},
}
UNEVEN = [[0, BACKGROUND, 1, IGNORE, 0] + [BACKGROUND] * 7, [BACKGROUND] * 12, [2, 1, IGNORE] + [0] * 9]
NOTHING = [[BACKGROUND] * A] * B
SILENT = [[IGNORE] * A] * B


SOFT = [[0.0, 0.3, 1.0], [0, 0, 0], [1, 0, 0.5]]


def make_truth(weights=None):
    boxes = torch.tensor([[1.0, 2, 9, 11], [8, 9, 18, 17], [0, 0, 25, 20]])
    labels = torch.tensor([2, UNKNOWN_CLASS, 0])
    one = GroundTruth.from_labels(boxes, labels, C, weights=weights)
    return [one._replace(targets=torch.tensor(SOFT)), one, one]


def assign(rows):
    matched = torch.tensor(rows)
    numbers = torch.rand(B, A, generator=torch.Generator().manual_seed(1))
    return Assignment(matched, torch.zeros(B, A), numbers * (matched >= 0))


def results(one_pass, scheme, rows=UNEVEN, truth=None, dtype=torch.float64, raw=None, counts=None, **options):
    """Every number of the terms, and the gradient."""
    loss = DetectionLoss(scheme, giou_loss, BoxCodec(), one_pass=one_pass, **options)
    if raw is None:
        raw = 2 * torch.randn(B, A, C + 5, generator=torch.Generator().manual_seed(0)) - 1
    raw = raw.to(dtype).requires_grad_()
    output = HeadOutput(raw)
    terms = loss(output, assign(rows), truth or make_truth(), ANCHORS, seen=SEEN, counts=counts)
    (3 * terms.total).backward()
    seen = () if terms.seen is None else terms.seen
    return [*terms.scalars().values(), *seen, raw.grad]


def assert_the_same(scheme, **options):
    exact = {"rtol": 1e-12, "atol": 1e-13}
    observed = options.get("observe", False)
    both = [results(one_pass, scheme, class_on="all", **options) for one_pass in (True, False)]
    torch.testing.assert_close(*both, **({"rtol": 1e-6, "atol": 1e-7} if observed else exact))


@pytest.fixture
def lessons(monkeypatch):
    """What background was taught in one pass, at each call."""
    seen = []

    def record(raw, image, anchor, lesson):
        seen.append(lesson)
        return take_apart(raw, image, anchor, lesson)

    take_apart = criterion.take_apart
    monkeypatch.setattr(criterion, "take_apart", record)
    return seen


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("scheme", ON_ALL, ids=repr)
def test_over_all_anchors_all_terms_and_gradients_are_those_of_plain_autograd(scheme, options):
    assert_the_same(scheme, **options)


@pytest.mark.parametrize("rows", [NOTHING, SILENT], ids=["nothing", "silent"])
@pytest.mark.parametrize("scheme", [FOCAL, BCE, QualityFocal(beta=2.0)], ids=repr)
def test_so_they_are_without_positives_and_with_all_ignored(scheme, rows):
    assert_the_same(scheme, rows=rows, observe=True)


@pytest.mark.parametrize("scheme", [FOCAL, BCE], ids=repr)
def test_so_they_are_with_sample_weights(scheme):
    assert_the_same(scheme, truth=make_truth(torch.tensor([0.5, 2.0, 0.0])))


def test_so_they_are_with_the_counts_of_a_larger_step():
    counts = Counts(*map(torch.tensor, (20.0, 70.0, 6.0, 1.0)))
    assert_the_same(FOCAL, counts=counts, class_term=TERM)


def test_so_they_are_for_one_class():
    one = GroundTruth.from_labels(torch.tensor([[1.0, 2, 9, 11]]), torch.tensor([0]), 1)
    rows = [[0, IGNORE] + [BACKGROUND] * 10] * B
    assert_the_same(FOCAL, raw=torch.linspace(-3, 3, B * A * 6).view(B, A, 6), rows=rows, truth=[one] * B)


@pytest.mark.parametrize("scheme", [FOCAL, BCE, MultilabelSoftmax()], ids=repr)
def test_in_float32_they_differ_by_rounding(scheme):
    on = {"class_on": "all" if scheme.teaches_background else "positives"}
    both = [results(one_pass, scheme, dtype=torch.float32, **on) for one_pass in (True, False)]
    torch.testing.assert_close(*both, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_on_positives_they_are_the_same_for_a_softmax(options):
    both = [results(one_pass, MultilabelSoftmax(), **options) for one_pass in (True, False)]
    torch.testing.assert_close(*both, rtol=1e-12, atol=1e-13)


def test_by_itself_it_takes_the_one_pass_where_the_scheme_says_what_background_costs(lessons):
    results(True, FOCAL, class_on="all")
    assert lessons[0] is not None


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        (GHM(), {"class_on": "all"}),
        (FOCAL, {"class_on": "positives"}),
        (FOCAL, {"class_on": "all", "dtype": torch.float16}),
    ],
    ids=["rows that depend on each other", "positives", "float16"],
)
def test_background_is_taught_by_the_plain_loss_where_one_pass_cannot(scheme, options, lessons):
    results(True, scheme, **options)
    assert lessons == [None]


def test_without_gradients_the_terms_are_those_with_them():
    loss = DetectionLoss(FOCAL, giou_loss, BoxCodec(), class_on="all")
    raw = torch.randn(B, A, C + 5, dtype=torch.float64, requires_grad=True)
    arguments = assign(UNEVEN), make_truth(), ANCHORS
    with torch.no_grad():
        alone = loss(HeadOutput(raw), *arguments).scalars()
    torch.testing.assert_close(alone, loss(HeadOutput(raw), *arguments).scalars())


def test_plain_autograd_throughout_can_be_differentiated_twice():
    raw = torch.randn(B, A, C + 5, dtype=torch.float64, requires_grad=True)
    loss = DetectionLoss(FOCAL, partial(smooth_l1, beta=1.0), BoxCodec(), class_on="all", one_pass=False)
    total = loss(HeadOutput(raw), assign(UNEVEN), make_truth(), ANCHORS).total
    (gradient,) = torch.autograd.grad(total, raw, create_graph=True)
    gradient.square().sum().backward()
    assert raw.grad.isfinite().all()


class Model(nn.Module):
    """A layer and the criterion behind it."""

    def __init__(self, scheme, class_on):
        super().__init__()
        self.layer = nn.Linear(4, C + 5)
        self.loss = DetectionLoss(scheme, giou_loss, BoxCodec(), class_on=class_on)

    def forward(self, inputs, matched):
        assignment = Assignment(matched, torch.zeros(matched.shape))
        return self.loss(HeadOutput(self.layer(inputs)), assignment, make_truth(), ANCHORS).total


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(
    ("scheme", "class_on"), [(FOCAL, "all"), (MultilabelSoftmax(), "positives")], ids=str
)
def test_a_compiled_model_gives_the_same_loss_and_gradient(scheme, class_on, backend):
    torch.manual_seed(0)
    model = Model(scheme, class_on)
    compiled = torch.compile(copy.deepcopy(model), backend=backend)
    inputs, matched = torch.randn(B, A, 4), torch.tensor(UNEVEN)
    for one in (model, compiled):
        one(inputs, matched).backward()
    wanted, found = ([p.grad for p in one.parameters()] for one in (model, compiled))
    torch.testing.assert_close(found, wanted)
