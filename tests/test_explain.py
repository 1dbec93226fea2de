"""Worked examples: the numbers of the text books, and agreement with the loss that trains."""

import json
import math

import pytest
import torch
from matplotlib.axes import Axes

from dethead import explain, schemes
from dethead.build import CLASS_SCHEMES
from dethead.config.sections.schemes import SCHEME_SECTIONS
from dethead.explain import steps
from dethead.structures import ClassesSeen

SCHEMES = [
    schemes.SoftmaxCE(label_smoothing=0.1),
    schemes.SoftmaxCE(class_weights=(1.0, 2.0, 3.0)),
    schemes.MultilabelSoftmax(),
    schemes.SoftmaxFocal(gamma=2.0),
    schemes.SoftmaxPoly1(epsilon=1.5),
    schemes.KLDivergence(temperature=2.0),
    schemes.LogitAdjustment(class_counts=(90.0, 9.0, 0.0), tau=0.7),
    schemes.LDAM(class_counts=(90.0, 9.0, 1.0), scale=3.0),
    schemes.Seesaw(),
    schemes.Hinge(margin=2.0),
    schemes.Hinge(variant="crammer_singer", squared=True),
    schemes.MarginRanking(against="batch"),
    schemes.SoftmaxBrier(penalty="smooth_l1", beta=0.3),
    schemes.SigmoidBrier(penalty="l1"),
    schemes.SigmoidBCE(pos_weight=(1.0, 2.0, 3.0), neg_weight=(0.5, 1.0, 0.0)),
    schemes.Focal(alpha=0.25, gamma=2.0),
    schemes.Focal(alpha=None, gamma=1.0, class_weights=(1.0, 2.0, 3.0)),
    schemes.SigmoidPoly1(epsilon=-0.5),
    schemes.QualityFocal(beta=2.0),
    schemes.Varifocal(alpha=0.75, gamma=2.0),
    schemes.Asymmetric(gamma_pos=1.0, gamma_neg=4.0),
    schemes.GHM(bins=10),
    schemes.Equalization(),
]
SEEN = ClassesSeen(*(torch.tensor(row) for row in ([90.0, 9.0, 1.0], [5.0, 3.0, 0.0], [6.0, 1.0, 0.0])))


def test_every_scheme_has_a_worked_example_and_a_line_in_the_catalogue():
    assert {type(scheme) for scheme in SCHEMES} == set(steps.TERMS)
    assert {getattr(f, "func", f) for f in CLASS_SCHEMES.values()} == set(steps.TERMS)
    assert explain.CLASS_LOSSES.keys() == CLASS_SCHEMES.keys() == SCHEME_SECTIONS.keys()


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("logits", [(5.0, 4.0, 2.0), (-3.0, 0.5, 8.0)])
@pytest.mark.parametrize("seen", [None, SEEN])
def test_the_steps_add_up_to_the_loss_that_trains(scheme, logits, seen):
    """``explain`` refuses to show steps that do not; here with labels, soft and several labels, and none."""
    wanted = [0, 2, -1]
    wanted += [(0.0, 0.7, 0.0)] if not isinstance(scheme, schemes.KLDivergence) else []
    if not isinstance(scheme, schemes.Hinge | schemes.MarginRanking | schemes.Seesaw):
        wanted += [(0.7, 0.2, 0.1)]
    if not scheme.exclusive:
        wanted += [(1.0, 0.0, 1.0)]
    for targets in wanted:
        worked = explain.explain(scheme, logits, targets, seen=seen)
        assert len(worked.gradient) == 3
        assert worked.steps[0].values == list(logits)


@pytest.mark.parametrize(
    "scheme", [schemes.Seesaw(), schemes.Asymmetric(gamma_pos=0.0, gamma_neg=4.0, clip=0.0)], ids=repr
)
@pytest.mark.parametrize("logits", [(-400.0, 400.0, 3.0), (40.0, -40.0, 0.0)])
def test_no_step_is_nan_at_extreme_logits(scheme, logits):
    worked = explain.explain(scheme, logits, 0)
    assert not any(math.isnan(value) for step in worked.steps for value in step.values)


def test_softmax_of_5_4_2_by_hand():
    worked = explain.explain(schemes.SoftmaxCE(), [5.0, 4.0, 2.0], 0)
    named = {step.name: step.values for step in worked.steps}
    assert named["softmax"] == pytest.approx([0.7054, 0.2595, 0.0351], abs=5e-5)
    assert named["log-softmax"] == pytest.approx([-0.3490, -1.3490, -3.3490], abs=5e-5)
    assert worked.gradient == pytest.approx([-0.2946, 0.2595, 0.0351], abs=5e-5)
    assert worked.loss == pytest.approx(0.3490, abs=5e-5)


@pytest.mark.parametrize(
    ("scheme", "logits", "wanted"),
    [
        (schemes.Hinge(), (3.2, 5.1, -1.7), 2.9),
        (schemes.Hinge(variant="crammer_singer"), (3.2, 5.1, -1.7), 2.9),
        (schemes.Hinge(), (3.2, 5.1, 2.7), 3.4),
        (schemes.MarginRanking(), (3.2, 5.1, 2.7), 2.9),
        (schemes.Hinge(squared=True), (3.2, 5.1, 2.7), 8.66),
        (schemes.Hinge(squared=True, variant="crammer_singer"), (3.2, 5.1, 2.7), 8.41),
    ],
)
def test_the_margins_of_the_text_book(scheme, logits, wanted):
    assert explain.explain(scheme, logits, 0).loss == pytest.approx(wanted)


def test_weights_multiply_and_an_ignored_box_costs_nothing():
    plain = explain.explain(schemes.SoftmaxCE(), (5.0, 4.0, 2.0), 1)
    weighted = explain.explain(
        schemes.SoftmaxCE(class_weights=(1.0, 3.0, 1.0)), (5.0, 4.0, 2.0), 1, sample_weight=2.0
    )
    assert weighted.loss == pytest.approx(6 * plain.loss)
    ignored = explain.explain(schemes.SoftmaxCE(), (5.0, 4.0, 2.0), 1, ignore=True)
    assert (ignored.loss, ignored.gradient) == (0, [0, 0, 0])


@pytest.mark.parametrize("scheme", [schemes.SoftmaxCE(), schemes.Focal(alpha=0.25, gamma=2.0)], ids=repr)
def test_a_step_down_the_gradient_lowers_the_loss(scheme):
    step = explain.descend(explain.explain(scheme, (1.0, 2.0, 0.0), 0), 0.5)
    assert step.after.loss < step.before.loss
    assert "loss" in str(step)


@pytest.mark.parametrize("options", [{"sample_weight": 2.0}, {"sample_weight": 0.0}, {"ignore": True}])
def test_a_step_goes_down_the_gradient_that_was_shown(options):
    worked = explain.explain(schemes.SoftmaxCE(), (5.0, 4.0, 2.0), 0, **options)
    step = explain.descend(worked, 1.0)
    logits = torch.tensor([5.0, 4.0, 2.0], dtype=torch.float64) - torch.tensor(worked.gradient)
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor(0)).item()
    factor = 0.0 if options.get("ignore") else options["sample_weight"]
    assert step.after.loss == pytest.approx(factor * wanted)
    assert " ".join(f"{z:.4f}" for z in logits.tolist()) in str(step)


@pytest.mark.parametrize(
    ("scheme", "target"), [(schemes.GHM(), -1), (schemes.MarginRanking(margin=2.0, against="batch"), 0)]
)
def test_boxes_that_depend_on_each_other_are_refused_together(scheme, target):
    boxes = [((5.0, 4.0, 2.0), target), ((1.0, 2.0, 3.0), 1)]
    with pytest.raises(ValueError, match="depends on the other boxes of the batch"):
        explain.check_apart(scheme, boxes, None)
    explain.check_apart(scheme, boxes[:1], None)
    explain.check_apart(schemes.SigmoidBCE(), boxes, None)


def test_boxes_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"different numbers of logits: \[3, 2\]"):
        explain.check_apart(schemes.SoftmaxCE(), [((5.0, 4.0, 2.0), 0), ((1.0, 2.0), 1)], None)


def test_steps_that_do_not_add_up_are_an_error(monkeypatch):
    monkeypatch.setitem(steps.TERMS, schemes.SoftmaxCE, lambda lines, scheme: lines.z)
    with pytest.raises(AssertionError, match=r"the steps give 11\.0, the library's loss is 0\.349"):
        explain.explain(schemes.SoftmaxCE(), (5.0, 4.0, 2.0), 0)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (3, r"label 3 is not in \[0, 3\)"),
        ((1.0, 0.0), "2 targets for 3 logits"),
        ((1.0, 0.0, 1.0), "box 0 carries several labels"),
        ((2.0, 0.0, 0.0), r"target of row 0, class 0 is not in \[0, 1\]: 2\.0"),
    ],
)
def test_targets_that_cannot_be_are_named(targets, message):
    with pytest.raises(ValueError, match=message):
        explain.explain(schemes.SoftmaxCE(), (5.0, 4.0, 2.0), targets)


def test_a_scheme_of_ones_own_is_refused():
    class Own:
        pass

    with pytest.raises(ValueError, match="Own has no worked example; known: SoftmaxCE"):
        explain.explain(Own(), (1.0, 2.0), 0)


def test_the_plot_marks_the_example(tmp_path):
    path = tmp_path / "plot.png"
    explain.save_plot(explain.explain(schemes.SoftmaxCE(), (5.0, 4.0, 2.0), 0), path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert json.dumps(explain.explain(schemes.GHM(), (5.0, 4.0), -1).steps)


def test_the_marked_place_is_on_the_curve_of_a_weighted_box_too(tmp_path, monkeypatch):
    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda axes, x, y, *a, **k: (drawn.append((x, y)), plot(axes, x, y, *a, **k))[1]
    )
    worked = explain.explain(schemes.SoftmaxCE(), (5.0, 4.0, 2.0), 0, sample_weight=2.0)
    explain.save_plot(worked, tmp_path / "plot.png")
    assert len(drawn) == 4
    for (x, curve), ((here,), (value,)) in (drawn[:2], drawn[2:]):
        assert curve[x.index(here)] == pytest.approx(value)
