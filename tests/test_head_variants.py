"""A head with more than one tower for all: decoupled towers, normalisation by level, factors on the boxes."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from head_maps import LEVELS, NewStorages, maps

from dethead.boxes import BoxCodec
from dethead.criterion import DetectionLoss
from dethead.heads import DetectionHead
from dethead.losses import giou_loss
from dethead.schemes import Focal, SigmoidBCE, SoftmaxCE
from dethead.structures import BACKGROUND, Anchors, Assignment, GroundTruth

A, C, DEPTH = 2, 3, 2
"""Anchors in a cell, classes, convolutions in a tower."""
BASE = {"depth": DEPTH, "width": 24, "levels": len(LEVELS)}
OPTIONS = [
    {"towers": towers, "level_norm": level_norm, "box_scale": box_scale}
    for towers, level_norm, box_scale in product(
        ("shared", "decoupled"), ("shared", "per_level"), (False, True)
    )
]


def head_of(**options):
    """A head whose every number is drawn, so that none hides behind a 0 or 1 of the start."""
    head = DetectionHead(16, A, C, SigmoidBCE(), **(BASE | options)).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head


def doubles():
    return [one.double() for one in maps()]


def by_hand(weights, features, *, separable, norm, towers, level_norm, box_scale):
    """(B, A, C + 5) by plain functions of the named parameters, as one would write it on paper."""

    def tower(name, x, level):
        for block in range(DEPTH):
            first = f"{name}.{block}"
            if separable:
                x = F.conv2d(x, weights[f"{first}.0.weight"], padding=1, groups=x.shape[1])
                x = F.conv2d(x, weights[f"{first}.1.weight"])
            else:
                x = F.conv2d(x, weights[f"{first}.0.weight"], padding=1)
            at = f"{first}.{1 + separable}" + (f".{level}" if level_norm == "per_level" else "")
            affine = weights[f"{at}.weight"], weights[f"{at}.bias"]
            x = F.group_norm(x, 3, *affine) if norm == "group" else F.batch_norm(x, None, None, *affine, True)
            x = x.relu()
        return x

    weight, bias = weights["prediction.weight"], weights["prediction.bias"]
    rows = []
    for level, x in enumerate(features):
        first = tower("tower", x, level)
        second = tower("box_tower", x, level) if towers == "decoupled" else first
        of_classes, of_boxes = (
            F.conv2d(one, weight, bias).permute(0, 2, 3, 1).reshape(len(x), -1, C + 5)
            for one in (first, second)
        )
        factor = weights["box_factors"][level] if box_scale else 1.0
        rows.append(
            torch.cat([of_classes[..., :C], of_boxes[..., C : C + 1], factor * of_boxes[..., -4:]], -1)
        )
    return torch.cat(rows, dim=1)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize(("separable", "norm"), [(False, "group"), (True, "batch")])
def test_outputs_and_gradients_are_those_of_the_formula(options, separable, norm):
    head = head_of(**options, separable=separable, norm=norm)
    features, weights = doubles(), dict(head.named_parameters())
    found, wanted = head(features).raw, by_hand(weights, features, separable=separable, norm=norm, **options)
    torch.testing.assert_close(found, wanted)
    factor = torch.randn_like(found)
    gradients = [torch.autograd.grad((raw * factor).sum(), weights.values()) for raw in (found, wanted)]
    torch.testing.assert_close(*gradients)
    assert all(one.abs().sum() > 0 for one in gradients[0])


def test_each_branch_trains_its_own_tower_alone():
    for columns, trained in ((slice(C), "tower"), (slice(C, None), "box_tower")):
        head = head_of(towers="decoupled", embedding_channels=4)
        head(doubles()).raw[..., columns].sum().backward()
        moved = {name.split(".")[0] for name, one in head.named_parameters() if _moved(one)}
        assert moved == {trained, "prediction"}


def _moved(parameter):
    return parameter.grad is not None and bool(parameter.grad.any())


def test_embeddings_stand_on_the_class_tower():
    head = head_of(towers="decoupled", embedding_channels=4)
    head(doubles()).embeddings[..., 0].sum().backward()
    assert {name.split(".")[0] for name, one in head.named_parameters() if _moved(one)} == {
        "tower",
        "embedding",
    }


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_two_branches_are_copied_once_and_nothing_else_of_the_outputs_size_is_made(layout):
    # Towers narrower than the branches, so that what is counted is the output alone.
    head = DetectionHead(4, A, C, SoftmaxCE(), depth=1, norm="none", towers="decoupled")
    head.to(memory_format=layout)
    features = [one.contiguous(memory_format=layout) for one in maps(channels=4)]
    cells = LEVELS[0][0] * LEVELS[0][1]
    with torch.no_grad(), NewStorages(2 * cells * A * C) as new:
        raw = head(features).raw
    # the class map and the other map of the larger level, and the tensor that joins all
    assert len(new.kept) == 3
    assert raw.untyped_storage().data_ptr() in new.kept


def test_the_output_of_two_towers_is_the_same_in_both_memory_formats_and_so_is_the_gradient():
    head, features, found = head_of(towers="decoupled"), doubles(), []
    for layout in (torch.contiguous_format, torch.channels_last):
        head.zero_grad()
        raw = head([one.contiguous(memory_format=layout) for one in features]).raw
        raw.square().sum().backward()
        found.append((raw.detach(), [one.grad for one in head.parameters()]))
    torch.testing.assert_close(*found)


def test_the_gradient_of_two_towers_can_be_differentiated_again():
    head, features = head_of(towers="decoupled"), doubles()
    weight = head.prediction.weight
    (gradient,) = torch.autograd.grad(head(features).raw.square().sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), weight)
    # The output is linear in the prediction layer: H 1 = (g(w + 1) - g(w)) for the gradient g of its squares.
    with torch.no_grad():
        weight += 1
    (moved,) = torch.autograd.grad(head(features).raw.square().sum(), weight)
    torch.testing.assert_close(second, (moved - gradient).detach())


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[-1]], ids=["plain", "all"])
def test_a_compiled_head_gives_the_same(options):
    torch.compiler.reset()
    head, features = head_of(**options), doubles()
    found = torch.compile(head, fullgraph=True, backend="eager")(features)
    torch.testing.assert_close(found.raw, head(features).raw)


def test_a_head_with_all_options_can_be_exported_and_gives_the_same():
    head = head_of(**OPTIONS[-1], embedding_channels=4).eval()
    features = doubles()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(head, (features,), dynamic_shapes=([{0: batch}] * 2,))
    for images in (features, [one[:1] for one in features]):
        torch.testing.assert_close(tuple(exported.module()(images)), tuple(head(images)))


def test_class_rows_of_two_towers_are_the_weights_of_the_class_logits():
    head = head_of(towers="decoupled")
    head.class_rows.sum().backward()
    grad = head.prediction.weight.grad.view(A, C + 5, 24)
    assert (grad[:, :C] == 1).all()
    assert not grad[:, C:].any()


@pytest.mark.parametrize("options", OPTIONS[1:], ids=lambda options: "-".join(map(str, options.values())))
def test_options_leave_every_initial_weight_of_the_plain_head_and_what_is_drawn_after_it(options):
    states, after = [], []
    for chosen in (OPTIONS[0], options):
        torch.manual_seed(3)
        states.append(DetectionHead(16, A, C, SoftmaxCE(), **(BASE | chosen)).state_dict())
        after.append(torch.rand(5))
    shared = [name for name in states[0] if name in states[1]]
    assert {"tower.0.0.weight", "tower.1.0.weight", "prediction.weight", "prediction.bias"} <= {*shared}
    assert all(torch.equal(states[0][name], states[1][name]) for name in shared)
    assert torch.equal(*after)


def test_two_towers_start_differently():
    state = DetectionHead(16, A, C, SoftmaxCE(), towers="decoupled").state_dict()
    for name in ("0.0.weight", "1.0.weight"):
        assert not torch.equal(state[f"tower.{name}"], state[f"box_tower.{name}"])


@pytest.mark.parametrize("level_norm", ["shared", "per_level"])
def test_statistics_are_of_one_level_or_of_all_as_asked(level_norm):
    head = DetectionHead(16, A, C, SoftmaxCE(), depth=1, norm="batch", level_norm=level_norm, levels=2)
    features = [scale * one + shift for one, scale, shift in zip(maps(), (1, 9), (0, 5), strict=True)]
    head(features)
    means = [head.tower[0][0](one).mean(dim=(0, 2, 3)).detach() for one in features]
    norms = head.tower[0][1]
    if level_norm == "shared":  # running means start at 0 and move by a tenth at each map
        torch.testing.assert_close(norms.running_mean, 0.9 * 0.1 * means[0] + 0.1 * means[1])
    else:
        for norm, mean in zip(norms, means, strict=True):
            torch.testing.assert_close(norm.running_mean, 0.1 * mean)


def test_the_norm_of_a_level_changes_the_anchors_of_that_level_alone():
    head, features = head_of(level_norm="per_level"), doubles()
    before = head(features).raw
    with torch.no_grad():
        head.tower[0][1][1].weight.mul_(2)
    changed = (head(features).raw != before).any(dim=2).any(dim=0)
    first = A * LEVELS[0][0] * LEVELS[0][1]
    assert not changed[:first].any()
    assert changed[first:].all()


@pytest.mark.parametrize("towers", ["shared", "decoupled"])
def test_factors_multiply_the_box_numbers_of_their_level_and_start_at_one(towers):
    head, features = DetectionHead(16, A, C, SoftmaxCE(), towers=towers, box_scale=True, levels=2), maps()
    before = head(features)
    assert head.box_factors.tolist() == [1, 1]
    with torch.no_grad():
        head.box_factors.copy_(torch.tensor([2.0, 3.0]))
    after = head(features)
    first = A * LEVELS[0][0] * LEVELS[0][1]
    factors = torch.cat([torch.full((first, 1), 2.0), torch.full((after.raw.shape[1] - first, 1), 3.0)])
    torch.testing.assert_close(after.box_deltas, factors * before.box_deltas)
    torch.testing.assert_close(after.raw[..., :-4], before.raw[..., :-4])


def test_a_batch_without_images_gives_none_of_two_towers():
    head = DetectionHead(16, A, C, SoftmaxCE(), **BASE, **OPTIONS[-1])
    assert head(maps(batch=0)).raw.shape == (0, A * (24 + 6), C + 5)


def test_two_towers_under_autocast_give_what_one_does():
    head = DetectionHead(16, A, C, SoftmaxCE(), **BASE, **OPTIONS[-1])
    wanted = head(maps())
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = head(maps()).raw
    assert (raw.dtype, raw.shape) == (torch.bfloat16, wanted.raw.shape)


@pytest.mark.parametrize("options", OPTIONS[1:], ids=lambda options: "-".join(map(str, options.values())))
def test_the_loss_in_one_pass_sends_the_gradient_of_plain_autograd(options):
    head, features = head_of(**options), doubles()
    gradients = []
    for one_pass in (True, False):
        head.zero_grad()
        _loss(head(features), one_pass).backward()
        gradients.append([one.grad.clone() for one in head.parameters()])
    torch.testing.assert_close(*gradients)
    assert all(one.abs().sum() > 0 for one in gradients[0])


def _loss(output, one_pass):
    count = output.raw.shape[1]
    corners = 20.0 * torch.arange(count)[:, None].expand(count, 2)
    anchors = Anchors(torch.cat([corners, corners + 16], 1), (slice(0, count),), (8,), ((1, count),))
    # the first and the last anchor, so that both levels have a positive one
    truth = [
        GroundTruth.from_labels(anchors.boxes[[0, count - 1]] + 1, torch.tensor([label, 2]), C)
        for label in (0, 1)
    ]
    matched = torch.full((2, count), BACKGROUND)
    matched[:, [0, -1]] = torch.tensor([0, 1])
    assignment = Assignment(matched, torch.zeros(matched.shape))
    scheme, codec = Focal(alpha=0.25, gamma=2.0), BoxCodec()
    loss = DetectionLoss(scheme, giou_loss, codec, class_on="all", one_pass=one_pass)
    return loss(output, assignment, truth, anchors).total


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"towers": "two"}, "towers must be 'shared' or 'decoupled', got 'two'"),
        ({"towers": "decoupled", "depth": 0}, "towers 'decoupled' needs a depth of at least 1, got 0"),
        ({"level_norm": "own"}, "level_norm must be 'shared' or 'per_level', got 'own'"),
        ({"level_norm": "per_level", "norm": "none"}, "'group', 'batch' or 'sync' .* got norm 'none'"),
        ({"level_norm": "per_level", "depth": 0}, "a depth of at least 1, got norm 'group' and depth 0"),
        ({"level_norm": "per_level", "levels": None}, "need levels, at least 1, got None"),
        ({"box_scale": True, "levels": 0}, "need levels, at least 1, got 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DetectionHead(16, A, C, SoftmaxCE(), **(BASE | options))


def test_another_number_of_maps_than_the_head_was_made_for_is_refused():
    head = DetectionHead(16, A, C, SoftmaxCE(), levels=3)
    with pytest.raises(ValueError, match="made for 3 levels, got 2 maps"):
        head(maps())
