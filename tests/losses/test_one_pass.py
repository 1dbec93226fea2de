"""The output in one pass: formulas as the plain losses have them, and a gradient that is one tensor."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dethead.losses import background, one_pass
from dethead.losses.background import Background
from dethead.losses.one_pass import Lesson, take_apart
from dethead.schemes import (
    GHM,
    Asymmetric,
    Equalization,
    Focal,
    QualityFocal,
    SigmoidBCE,
    SigmoidBrier,
    SigmoidPoly1,
    SoftmaxCE,
    Varifocal,
)
from dethead.schemes.interface import background_of
from dethead.structures import ClassesSeen

SEEN = ClassesSeen(torch.tensor([5.0, 1, 0]), torch.tensor([3.0, 1, 0]), torch.tensor([1.0, 4, 0]))
SCHEMES = [
    SigmoidBCE(),
    SigmoidBCE(neg_weight=[2.0, 0.5, 0.0], pos_weight=[3.0, 1.0, 1.0]),
    Focal(alpha=0.25, gamma=2.0),
    Focal(alpha=None, gamma=0),
    Focal(alpha=0.5, gamma=1),
    Focal(alpha=0.5, gamma=1.5),
    QualityFocal(beta=2.0),
    QualityFocal(beta=0),
    Varifocal(alpha=0.75, gamma=2.0),
    Asymmetric(gamma_pos=0, gamma_neg=4, clip=0.05),
    Asymmetric(gamma_pos=1, gamma_neg=0, clip=0.2),
    Asymmetric(gamma_pos=1, gamma_neg=1, clip=0.2),
    Asymmetric(gamma_pos=1, gamma_neg=2, clip=0),
    SigmoidPoly1(epsilon=1.0),
    SigmoidPoly1(epsilon=-1.0),
    Equalization(),
]
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=repr)


def grid(dtype):
    """(N, 3) logits from where "no" is certain to where it is absurd."""
    return torch.linspace(-30, 30, 3 * 200, dtype=dtype).view(-1, 3)


def by_formula(scheme, logits):
    asked = background_of(scheme, logits, SEEN)
    room = tuple(torch.full_like(logits, torch.nan) for _ in range(3))
    loss, slope = asked.formula(logits.clone(), room)
    return loss * asked.weight, slope * asked.weight


def by_autograd(scheme, logits):
    """(N,) loss and (N, C) slope of rows of zeros in float64."""
    logits = logits.double().requires_grad_()
    loss = scheme.loss(logits, torch.zeros_like(logits), SEEN)
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    return loss.detach(), slope


def example(dtype=torch.float64, observed=True, scheme=SCHEMES[2]):
    """Two images, five anchors, C = 3; two positives, one ignored anchor."""
    raw = torch.randn(2, 5, 8, dtype=dtype, generator=torch.Generator().manual_seed(0)).requires_grad_()
    image, anchor = torch.tensor([0, 1]), torch.tensor([3, 0])
    factors = torch.tensor([[1.0, 1, 1, 0, 1], [0, 0.5, 0.5, 0, 0.5]])
    return raw, image, anchor, Lesson(background_of(scheme, raw, SEEN), factors, observed)


@every_scheme
def test_a_formula_is_the_plain_loss_of_a_row_of_zeros(scheme):
    loss, slope = by_formula(scheme, grid(torch.float64))
    wanted, wanted_slope = by_autograd(scheme, grid(torch.float64))
    torch.testing.assert_close(loss.sum(dim=1), wanted, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(slope, wanted_slope, rtol=1e-11, atol=1e-13)


@every_scheme
def test_in_float32_a_formula_is_within_a_millionth_of_float64(scheme):
    logits = grid(torch.float32)
    loss, slope = by_formula(scheme, logits)
    wanted, wanted_slope = by_autograd(scheme, logits)
    torch.testing.assert_close(loss.sum(dim=1).double(), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(slope.double(), wanted_slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [-1e38, -200.0, 200.0, 1e38])
@every_scheme
def test_loss_and_slope_are_finite_far_away_and_no_slope_is_negative(scheme, value):
    loss, slope = by_formula(scheme, torch.full((1, 3), value))
    assert loss.isfinite().all()
    assert slope.isfinite().all()
    assert (slope >= 0).all()


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_gamma_gives_the_plain_focal_loss_for_all(gamma):
    test_a_formula_is_the_plain_loss_of_a_row_of_zeros(Focal(alpha=0.3, gamma=gamma))


@pytest.mark.parametrize("scheme", [GHM(), SigmoidBrier(), SoftmaxCE()], ids=repr)
def test_a_scheme_that_does_not_say_what_background_costs_has_no_formula(scheme):
    assert background_of(scheme, grid(torch.float32), None) is None


class Doubled(Focal):
    """Replaces the loss and inherits the formula, which is no longer true."""

    def loss(self, *arguments, **options):
        return 2 * Focal.loss(self, *arguments, **options)


class Told(Doubled):
    """Says again what background costs."""

    def background(self, logits, seen):
        return Background(background.bce, 2.0)


def test_who_replaces_the_loss_must_say_again_what_background_costs():
    assert background_of(Doubled(alpha=0.25, gamma=2.0), grid(torch.float32), None) is None
    assert background_of(Told(alpha=0.25, gamma=2.0), grid(torch.float32), None).weight == 2.0


def test_loss_and_gradients_of_all_parts_pass_gradcheck():
    raw, image, anchor, lesson = example(observed=False)
    torch.autograd.gradcheck(lambda r: take_apart(r, image, anchor, lesson)[:3], (raw,))


def test_without_a_lesson_first_and_second_derivatives_pass_gradcheck():
    raw, image, anchor, _ = example()
    call = lambda r: tuple(part.square() for part in take_apart(r, image, anchor)[:2])  # noqa: E731
    torch.autograd.gradcheck(call, (raw,))
    torch.autograd.gradgradcheck(call, (raw,))


def test_the_parts_are_those_of_the_output():
    raw, image, anchor, _ = example()
    parts = take_apart(raw, image, anchor)
    assert torch.equal(parts.rows, torch.stack([raw[0, 3], raw[1, 0]]))
    assert torch.equal(parts.confidence, raw[..., 3])
    assert parts.background is None
    assert parts.slopes is None


@pytest.mark.parametrize("chunk", [1, 3, 9, 15, 2**20])
def test_the_size_of_the_chunks_changes_nothing(chunk, monkeypatch):
    def all_of_it():
        raw, *arguments = example()
        parts = take_apart(raw, *arguments)
        parts.background.backward()
        return parts.background.detach(), parts.slopes, raw.grad

    wanted = all_of_it()
    monkeypatch.setattr(one_pass, "CHUNK", chunk)
    torch.testing.assert_close(all_of_it(), wanted)


def test_the_slopes_are_the_gradient_summed_by_class():
    raw, *arguments = example()
    parts = take_apart(raw, *arguments)
    parts.background.backward()
    torch.testing.assert_close(parts.slopes, raw.grad[..., :3].sum(dim=(0, 1)))


@pytest.mark.parametrize("factor", [1.0, 3.0, 0.0])
def test_a_second_backward_pass_gives_what_the_first_gave(factor):
    raw, *arguments = example()
    parts = take_apart(raw, *arguments)
    total = factor * parts.background + parts.rows.sum() + parts.confidence.square().sum()
    (first,) = torch.autograd.grad(total, raw, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(total, raw)
    assert torch.equal(first, kept)
    assert torch.equal(second, kept)


def test_backward_of_one_part_leaves_the_others_alone():
    raw, *arguments = example()
    parts = take_apart(raw, *arguments)
    (gradient,) = torch.autograd.grad(parts.confidence.sum(), raw, retain_graph=True)
    wanted = torch.zeros_like(raw)
    wanted[..., 3] = 1
    assert torch.equal(gradient, wanted)
    (gradient,) = torch.autograd.grad(parts.background, raw)
    assert gradient[..., :3].any()
    assert not gradient[..., 3:].any()


def test_what_is_not_background_gets_exactly_nothing_even_where_its_loss_overflows():
    raw, image, anchor, lesson = example(torch.float32)
    with torch.no_grad():
        raw[1, 3] = 3e38
    parts = take_apart(raw, image, anchor, lesson)
    parts.background.backward()
    assert parts.background.isfinite()
    assert not raw.grad[lesson.factors == 0].any()


def test_to_differentiate_a_lesson_twice_is_refused_by_name():
    raw, *arguments = example()
    (gradient,) = torch.autograd.grad(take_apart(raw, *arguments).background, raw, create_graph=True)
    with pytest.raises(RuntimeError, match=r"one_pass .* cannot be differentiated again"):
        gradient.square().sum().backward()


def test_an_output_of_bfloat16_gets_the_gradient_of_float32_rounded_once():
    raw, image, anchor, lesson = example(torch.bfloat16)
    parts = take_apart(raw, image, anchor, lesson)
    parts.background.backward()
    same = raw.detach().float().requires_grad_()
    wanted = take_apart(same, image, anchor, lesson)
    wanted.background.backward()
    assert parts.background.dtype == torch.float32
    assert torch.equal(parts.background, wanted.background)
    assert torch.equal(raw.grad, same.grad.bfloat16())


class News(TorchDispatchMode):
    """Names the operations whose results have at least ``least`` bytes that none of their arguments has."""

    def __init__(self, least):
        super().__init__()
        self.least, self.names = least, []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        made = operation(*arguments, **(options or {}))
        given = {place for place, _ in memory_of((arguments, options))}
        if any(place not in given and size >= self.least for place, size in memory_of(made)):
            self.names.append(str(operation))
        return made


def memory_of(tree):
    """Place and bytes of the memory behind each tensor."""
    tensors = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
    return [(one.untyped_storage().data_ptr(), one.untyped_storage().nbytes()) for one in tensors]


@pytest.mark.parametrize(("lesson", "maker"), [(True, "empty_like"), (False, "new_empty")])
def test_forward_and_backward_make_one_tensor_of_the_outputs_size(lesson, maker, monkeypatch):
    monkeypatch.setattr(one_pass, "CHUNK", 300)
    raw = torch.randn(2, 500, 8, requires_grad=True)
    focal = Lesson(background_of(SCHEMES[2], raw, None), torch.ones(2, 500), observed=True)
    with News(raw.untyped_storage().nbytes()) as new:
        parts = take_apart(raw, torch.tensor([0, 1]), torch.tensor([3, 0]), focal if lesson else None)
        total = parts.rows.square().sum() + parts.confidence.sum()
        (total + parts.background if lesson else total).backward()
    assert new.names == [f"aten.{maker}.default"]


def test_a_compiled_function_gives_the_same_gradient():
    def background(raw):
        return take_apart(raw.tanh(), image, anchor, lesson).background.exp()

    raw, image, anchor, lesson = example()
    (wanted,) = torch.autograd.grad(background(raw), raw)
    (found,) = torch.autograd.grad(torch.compile(background, backend="eager")(raw), raw)
    torch.testing.assert_close(found, wanted)
