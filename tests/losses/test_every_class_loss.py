"""What every class loss keeps to: no large tensors, one graph, no look at what is ignored."""

import math
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dethead.losses import classification, sigmoid_bce, softmax_cross_entropy
from dethead.structures import BACKGROUND, IGNORE

WEIGHTS = [0.5, 2.0, 3.0]
COUNTS = torch.tensor([900.0, 30.0, 0.0])
SUMS = {"positive_gradient": COUNTS, "negative_gradient": COUNTS.flip(0)}
EVERY = {
    "softmax_cross_entropy": partial(softmax_cross_entropy, label_smoothing=0.1),
    "negative_log_likelihood": classification.negative_log_likelihood,
    "multilabel_softmax": classification.multilabel_softmax,
    "softmax_focal": partial(classification.softmax_focal, gamma=2.0),
    "poly1": partial(classification.poly1, epsilon=1.0),
    "poly1_sigmoid": partial(classification.poly1, epsilon=1.0, activation="sigmoid"),
    "kl_divergence": classification.kl_divergence,
    "logit_adjusted": partial(classification.logit_adjusted, class_counts=COUNTS, tau=0.5),
    "balanced_softmax": partial(classification.balanced_softmax, class_counts=COUNTS),
    "ldam": partial(classification.ldam, class_counts=COUNTS, max_margin=0.5, scale=30.0),
    "seesaw": partial(classification.seesaw, class_counts=COUNTS, p=0.8, q=2.0),
    "sigmoid_bce": partial(sigmoid_bce, pos_weight=COUNTS, neg_weight=COUNTS.flip(0)),
    "probability_bce": classification.probability_bce,
    "sigmoid_focal": partial(classification.sigmoid_focal, alpha=0.25, gamma=2.0),
    "quality_focal": partial(classification.quality_focal, beta=2.0),
    "varifocal": partial(classification.varifocal, alpha=0.75, gamma=2.0),
    "asymmetric": partial(classification.asymmetric, gamma_pos=1, gamma_neg=4, clip=0.05),
    "gradient_harmonised": partial(classification.gradient_harmonised, bins=10),
    "equalization": partial(classification.equalization, **SUMS, gamma=12.0, mu=0.8, alpha=4.0),
    "hinge": classification.hinge,
    "margin_ranking": partial(classification.margin_ranking, against="batch"),
    "brier": classification.brier,
    "brier_sigmoid": partial(classification.brier, activation="sigmoid", penalty="smooth_l1", beta=0.5),
}
every = pytest.mark.parametrize("name", EVERY)


def inputs(name, rows, seed=0):
    """(rows, 3) of what the loss takes."""
    logits = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
    if name == "negative_log_likelihood":
        return logits.log_softmax(dim=1)
    return logits.sigmoid() if name == "probability_bce" else logits


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor made inside held."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return made


def test_every_public_loss_is_in_these_tests():
    tested = {name.split("_sigmoid")[0] for name in EVERY} | {"distillation"}
    assert tested == set(classification.__all__)


@every
def test_no_tensor_is_larger_than_the_logits(name):
    logits, labels = inputs(name, 50).requires_grad_(), torch.arange(50) % 3
    with Largest() as largest:
        EVERY[name](logits, labels, class_weights=torch.tensor(WEIGHTS)).sum().backward()
    assert largest.numbers == logits.numel()


@every
@pytest.mark.parametrize(
    "ignore", [(True, False, False, True), ((True,) * 3, (False,) * 3, (False, True, False), (True,) * 3)]
)
def test_what_stands_at_ignored_places_in_the_targets_is_not_looked_at(name, ignore):
    ignore, values = torch.tensor(ignore), inputs(name, 4).requires_grad_()
    targets = torch.eye(3)[[0, 1, 2, 0]]
    spoilt = targets.masked_fill(ignore if ignore.ndim == 2 else ignore[:, None], math.nan)
    wanted = EVERY[name](values, targets, ignore=ignore)
    loss = EVERY[name](values, spoilt, ignore=ignore, class_weights=torch.ones(3))
    assert torch.equal(loss, wanted)
    loss.sum().backward()
    assert torch.isfinite(values.grad).all()


@every
def test_a_label_that_is_ignored_class_by_class_is_a_row_without_label(name):
    ignore = torch.tensor([[False, True, False]])
    values = inputs(name, 1)
    by_label = EVERY[name](values, torch.tensor([1]), ignore=ignore)
    assert torch.equal(by_label, EVERY[name](values, torch.tensor([BACKGROUND]), ignore=ignore))


@pytest.mark.parametrize(
    "name", [name for name in EVERY if name not in ("probability_bce", "negative_log_likelihood")]
)
def test_an_ignored_class_is_a_class_less(name):
    """The first class is ignored in all rows; the counts of the others are those without it."""
    values, labels = inputs(name, 20), torch.arange(20) % 2 + 1
    without = {key: value[1:] for key, value in keywords(name).items() if isinstance(value, torch.Tensor)}
    ignore = torch.tensor([True, False, False]).expand(20, 3)
    if name == "ldam":  # its margins are relative to the rarest class, which is still there
        assert COUNTS[1:].min() == COUNTS.min()
    wanted = EVERY[name](values[:, 1:], labels - 1, **without)
    torch.testing.assert_close(EVERY[name](values, labels, ignore=ignore), wanted)


def keywords(name):
    return EVERY[name].keywords if isinstance(EVERY[name], partial) else {}


def test_losses_of_every_family_compile_to_one_graph():
    labels = torch.tensor([0, 1, BACKGROUND, IGNORE, 2, -100])
    options = {
        "ignore": torch.tensor([[False, True, False]]).expand(6, 3),
        "class_weights": torch.tensor(WEIGHTS),
        "sample_weights": torch.arange(6.0),
    }
    names = [
        "softmax_cross_entropy",
        "kl_divergence",
        "ldam",
        "seesaw",
        "gradient_harmonised",
        "margin_ranking",
    ]
    values = inputs("logits", 6)

    def all_of_them():
        return [EVERY[name](values, labels, **options) for name in names]

    torch.compiler.reset()
    compiled = torch.compile(all_of_them, fullgraph=True, backend="eager")()
    torch.testing.assert_close(compiled, all_of_them())


def test_distillation_makes_no_tensor_larger_than_the_logits():
    student, teacher = inputs("student", 6), inputs("teacher", 6, seed=1)
    with Largest() as largest:
        classification.distillation(student, teacher, temperature=2.0)
    assert largest.numbers == student.numel()


def test_the_others_of_a_class_that_is_nearly_certain_are_not_lost_in_rounding():
    """LDAM at scale 30: 1 - p of the label is below float32's resolution of 1, but not the loss."""
    logits = torch.tensor([[0.9, 0.0, -0.1]])
    options = {"class_counts": torch.ones(3), "max_margin": 0.5, "scale": 30.0}
    loss = classification.ldam(logits, torch.tensor([0]), **options)
    wanted = math.log1p(math.exp(-30 * 0.4) + math.exp(-30 * 0.5))
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


def test_rows_that_take_no_part_do_not_set_the_highest_score_of_the_batch():
    scores = torch.tensor([[2.0, 0.0], [9.0, 9.0], [7.0, 7.0]])
    labels = torch.tensor([0, BACKGROUND, IGNORE])
    loss = classification.margin_ranking(scores, labels, against="batch", margin=3.0)
    assert loss.tolist() == [1, 0, 0]  # 3 + 0 - 2


def test_harmonised_counts_leave_out_what_is_ignored():
    """One right and one wrong answer weigh 1 each; two ignored ones would make it 2/3 and 2."""
    logits, labels = torch.tensor([[4.0], [-4.0], [4.0], [4.0]]), torch.tensor([0, 0, IGNORE, 0])
    ignore = torch.tensor([[False], [False], [False], [True]])
    loss = classification.gradient_harmonised(logits, labels, bins=2, ignore=ignore)
    plain = sigmoid_bce(logits, labels, ignore=ignore)
    torch.testing.assert_close(loss, plain)


def test_a_refusal_names_the_first_wrong_value():
    logits = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="logits of row 1 are not finite: nan"):
        sigmoid_bce(torch.tensor([[0.0, 0.0], [0.0, math.nan], [math.inf, 0.0]]), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"target of row 2, class 0 is not in \[0, 1\]: 1\.5"):
        sigmoid_bce(logits, torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.5, 0.0]]))
    with pytest.raises(ValueError, match=r"class_weights of class 1 is -1\.0"):
        sigmoid_bce(logits, torch.zeros(3, 2), class_weights=torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="sample_weights of row 1 is inf"):
        sigmoid_bce(logits, torch.zeros(3, 2), sample_weights=torch.tensor([1.0, math.inf, 1.0]))


def test_what_is_left_of_a_distribution_after_ignored_classes_may_sum_to_less():
    targets, ignore = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[True, False, False]])
    loss = classification.kl_divergence(torch.zeros(1, 3), targets, ignore=ignore)
    # p is 1/2 for each class that is left: twice 1/4 (log 1/4 + log 2).
    assert loss.item() == pytest.approx(0.5 * (math.log(0.25) + math.log(2)))
