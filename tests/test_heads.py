"""The head: what it starts from, and in which order it answers."""

import math

import pytest
import torch
from head_maps import LEVELS, NewStorages, maps

from dethead.anchors import AnchorGrid
from dethead.boxes import BoxCodec, LTRBCodec, PointExpCodec, anchor_code
from dethead.heads import DetectionHead
from dethead.schemes import SigmoidBCE, SoftmaxCE


def copying_head(in_channels, num_classes, anchors_per_cell):
    """A head without tower and with all weights zero, to be set by the test."""
    head = DetectionHead(in_channels, anchors_per_cell, num_classes, SigmoidBCE(), depth=0)
    with torch.no_grad():
        head.prediction.weight.zero_()
        head.prediction.bias.zero_()
    return head


def test_order_along_anchors_is_level_row_column_shape():
    head = copying_head(1, num_classes=2, anchors_per_cell=2)
    with torch.no_grad():  # prediction = feature value + 100 * output channel
        head.prediction.weight.fill_(1.0)
        head.prediction.bias.copy_(100.0 * torch.arange(2 * 7))
    fine = torch.tensor([[0.0, 1.0], [2.0, 3.0]])[None, None]
    coarse = torch.tensor([[4.0]])[None, None]
    output = head([fine, coarse])
    assert output.class_logits[0, :, 0].tolist() == [0, 700, 1, 701, 2, 702, 3, 703, 4, 704]
    assert output.class_logits[0, 0].tolist() == [0, 100]
    assert output.confidence_logits[0, :2].tolist() == [200, 900]
    assert output.box_deltas[0, 1].tolist() == [1000, 1100, 1200, 1300]


def test_a_head_that_answers_with_its_cell_and_shape_lists_the_anchors_of_the_grid():
    grid = AnchorGrid((8, 16), (((8.0, 4.0), (6.0, 20.0)), ((30.0, 10.0), (16.0, 18.0))))
    height, width = 32, 48
    head = copying_head(4, num_classes=1, anchors_per_cell=2)
    with torch.no_grad():  # outputs of a shape: class, confidence, dx dy dw dh
        for shape in range(2):
            head.prediction.weight[6 * shape + 2, 0] = 1.0  # dx = channel 0: the cell's x
            head.prediction.weight[6 * shape + 3, 1] = 1.0  # dy = channel 1: the cell's y
            head.prediction.weight[6 * shape + 4, 2] = 1.0  # dw = channel 2: the level
            head.prediction.bias[6 * shape + 5] = shape  # dh: the anchor shape
    features = []
    for level, stride in enumerate(grid.strides):
        rows, columns = height // stride, width // stride
        x = (torch.arange(columns) * stride + stride / 2).expand(rows, columns)
        y = (torch.arange(rows) * stride + stride / 2)[:, None].expand(rows, columns)
        features.append(torch.stack([x, y, torch.full_like(x, level), torch.zeros_like(x)])[None])
    x, y, level, shape = head(features).box_deltas[0].unbind(dim=1)
    boxes = grid.place((height, width)).boxes
    assert torch.equal(torch.stack([x, y], dim=1), (boxes[:, :2] + boxes[:, 2:]) / 2)
    sizes = torch.tensor(grid.shapes)[level.long(), shape.long()]
    assert torch.equal(sizes, boxes[:, 2:] - boxes[:, :2])


def test_images_of_a_batch_stay_apart():
    head = DetectionHead(16, 2, 3, SoftmaxCE())
    features = maps()
    alone = [head([feature[i : i + 1] for feature in features]).raw[0] for i in range(2)]
    torch.testing.assert_close(head(features).raw, torch.stack(alone))


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("norm", ["group", "batch", "sync", "none"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_every_kind_of_tower_gives_all_numbers_and_trains_all_parameters(separable, norm, depth):
    head = DetectionHead(16, 2, 3, SoftmaxCE(), width=24, depth=depth, separable=separable, norm=norm)
    output = head(maps())
    assert output.raw.shape == (2, 2 * (24 + 6), 3 + 5)
    output.raw.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


def test_statistics_over_all_processes_are_those_of_the_batch_where_there_is_one_process():
    features, outputs = maps(), []
    for norm in ("batch", "sync"):
        torch.manual_seed(3)
        head = DetectionHead(16, 2, 3, SoftmaxCE(), norm=norm, level_norm="per_level", levels=len(features))
        norms = [one for one in head.modules() if isinstance(one, torch.nn.SyncBatchNorm)]
        assert len(norms) == (0 if norm == "batch" else 2 * len(features))
        outputs.append(head(features).raw)
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("separable", "weights"),
    [
        (False, 9 * 16 * 24 + 9 * 24 * 24),
        (True, 9 * 16 + 16 * 24 + 9 * 24 + 24 * 24),
    ],
)
def test_the_tower_has_the_convolutions_it_names(separable, weights):
    head = DetectionHead(16, 2, 3, SoftmaxCE(), width=24, depth=2, separable=separable)
    assert sum(p.numel() for p in head.tower.parameters() if p.ndim == 4) == weights


def test_of_two_heads_with_the_same_seed_all_layers_of_the_same_shape_start_alike():
    def start(classes, **options):
        torch.manual_seed(3)
        return DetectionHead(16, 2, classes, SoftmaxCE(), **options).state_dict()

    base = start(3)
    for other in (start(5), start(3, depth=3), start(3, norm="batch")):
        shared = [name for name in base if name in other and base[name].shape == other[name].shape]
        assert "tower.1.0.weight" in shared
        assert all(torch.equal(base[name], other[name]) for name in shared)


def test_two_heads_of_one_model_start_differently():
    torch.manual_seed(3)
    one, two = (DetectionHead(16, 2, 3, SoftmaxCE()).state_dict() for _ in range(2))
    for name in ("tower.0.0.weight", "tower.1.0.weight", "prediction.weight"):
        assert not torch.equal(one[name], two[name])
    assert not torch.equal(one["tower.0.0.weight"], one["tower.1.0.weight"])


def test_the_width_is_the_input_unless_given():
    assert DetectionHead(16, 2, 3, SoftmaxCE()).prediction.weight.shape == (2 * (3 + 5), 16, 1, 1)
    assert DetectionHead(16, 2, 3, SoftmaxCE(), width=40).prediction.weight.shape[1] == 40


@pytest.mark.parametrize("scheme", [SoftmaxCE(), SigmoidBCE()], ids=repr)
def test_without_features_every_anchor_says_what_the_priors_say(scheme):
    head = DetectionHead(16, 2, 3, scheme, class_prior=(0.7, 0.2, 0.1), confidence_prior=0.02)
    with torch.no_grad():
        head.prediction.weight.zero_()
    output = head(maps())
    probabilities = scheme.probabilities(output.class_logits)
    torch.testing.assert_close(probabilities, torch.tensor([0.7, 0.2, 0.1]).expand_as(probabilities))
    confidence = output.confidence_logits.sigmoid()
    torch.testing.assert_close(confidence, torch.full_like(confidence, 0.02))
    assert not output.box_deltas.any()


@pytest.mark.parametrize("codec", [BoxCodec(), LTRBCodec(), PointExpCodec()], ids=repr)
def test_with_the_codecs_bias_and_without_features_every_box_is_the_anchor(codec):
    head = DetectionHead(16, 2, 3, SoftmaxCE(), box_bias=anchor_code(codec))
    with torch.no_grad():
        head.prediction.weight.zero_()
    anchors = torch.tensor([[8.0, 0.0, 16.0, 8.0], [4.0, 2.0, 40.0, 10.0]]).repeat(30, 1)
    decoded = codec.decode(head(maps()).box_deltas, anchors)
    torch.testing.assert_close(decoded, anchors.expand(2, 60, 4))


def test_the_scheme_decides_the_bias_of_the_class_logits_and_nothing_else():
    heads = []
    for scheme in (SoftmaxCE(), SigmoidBCE()):
        torch.manual_seed(3)
        heads.append(DetectionHead(16, 2, 3, scheme).state_dict())
    for name, value in heads[0].items():
        if name == "prediction.bias":
            per_anchor = [head[name].reshape(2, 8) for head in heads]
            assert not torch.equal(per_anchor[0][:, :3], per_anchor[1][:, :3])
            assert torch.equal(per_anchor[0][:, 3:], per_anchor[1][:, 3:])
        else:
            assert torch.equal(value, heads[1][name]), name


def test_first_outputs_stay_near_the_priors():
    # weights of 0.01 on inputs of about 1: std sqrt(16) * 0.01 = 0.04 at most
    output = DetectionHead(16, 2, 3, SigmoidBCE())([10 * feature for feature in maps()])
    prior = math.log(0.01 / 0.99)
    assert (output.confidence_logits - prior).abs().max() < 0.3
    assert output.box_deltas.abs().max() < 0.3


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_maps_are_copied_once_and_nothing_else_of_the_outputs_size_is_made(layout):
    head = DetectionHead(16, 2, 3, SoftmaxCE(), depth=0).to(memory_format=layout)
    features = [feature.contiguous(memory_format=layout) for feature in maps()]
    cells = LEVELS[0][0] * LEVELS[0][1]
    with torch.no_grad(), NewStorages(2 * cells * 2 * 8) as new:
        raw = head(features).raw
    # the larger level's convolution, and the tensor that joins the levels
    assert len(new.kept) == 2
    assert raw.untyped_storage().data_ptr() in new.kept


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_reaches_the_convolutions_as_views_of_the_outputs(layout):
    head = DetectionHead(16, 2, 3, SoftmaxCE(), depth=0)
    given = []
    head.prediction.register_forward_hook(
        lambda module, args, made: made.register_hook(given.append) and None
    )
    raw = head([feature.contiguous(memory_format=layout) for feature in maps()]).raw
    gradient = torch.randn_like(raw)
    raw.backward(gradient)
    assert [tuple(one.shape) for one in given] == [(2, 16, 2, 3), (2, 16, 4, 6)]  # the last level first
    storage = gradient.untyped_storage().data_ptr()
    assert all(one.untyped_storage().data_ptr() == storage for one in given)


def test_the_output_is_the_same_in_both_memory_formats_and_so_is_the_gradient():
    head = DetectionHead(16, 2, 3, SoftmaxCE(), depth=0).double()
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(1)
        features = [feature.double().contiguous(memory_format=layout) for feature in maps()]
        head.zero_grad()
        raw = head(features).raw
        raw.square().sum().backward()
        found.append((raw.detach(), head.prediction.weight.grad.clone()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_head_can_be_exported_and_gives_the_same():
    head = DetectionHead(16, 2, 3, SoftmaxCE(), width=24, separable=True, embedding_channels=6).eval()
    features = maps()
    exported = torch.export.export(head, (features,)).module()(features)
    for one, other in zip(exported, head(features), strict=True):
        torch.testing.assert_close(one, other)


def test_the_named_branches_share_the_storage_of_raw():
    output = DetectionHead(16, 2, 3, SoftmaxCE())(maps())
    storage = output.raw.untyped_storage().data_ptr()
    for branch in (output.class_logits, output.confidence_logits, output.box_deltas):
        assert branch.untyped_storage().data_ptr() == storage


def test_the_embedding_branch_leaves_everything_else_as_it_was():
    states, after = [], []
    for channels in (0, 6):
        torch.manual_seed(3)
        states.append(DetectionHead(16, 2, 3, SoftmaxCE(), embedding_channels=channels).state_dict())
        after.append(torch.rand(5))
    assert set(states[1]) - set(states[0]) == {"embedding.weight", "embedding.bias"}
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert torch.equal(*after)


def test_the_start_of_the_embedding_branch_follows_the_seed():
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        weights.append(DetectionHead(16, 2, 3, SoftmaxCE(), embedding_channels=6).embedding.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_embeddings_have_length_1_and_the_order_of_the_anchors():
    head = DetectionHead(16, 2, 3, SoftmaxCE(), depth=0, embedding_channels=6)
    features = maps()
    embeddings = head(features).embeddings
    assert embeddings.shape == (2, 2 * (24 + 6), 6)
    torch.testing.assert_close(embeddings.norm(dim=2), torch.ones(2, 60))
    # image 1, level 1, row 1, column 2, shape 1
    weight, bias = head.embedding.weight[6:, :, 0, 0], head.embedding.bias[6:]
    wanted = weight @ features[1][1, :, 1, 2] + bias
    torch.testing.assert_close(embeddings[1, 48 + 2 * (3 + 2) + 1], wanted / wanted.norm())


def test_embeddings_train_the_tower_and_their_own_layer():
    head = DetectionHead(16, 2, 3, SoftmaxCE(), embedding_channels=6)
    head(maps()).embeddings[..., 0].sum().backward()
    trained = {name for name, value in head.named_parameters() if value.grad is not None}
    assert trained == {name for name, _ in head.named_parameters()} - {"prediction.weight", "prediction.bias"}
    assert head.embedding.weight.grad.abs().sum() > 0


def test_embeddings_are_float32_under_autocast():
    head = DetectionHead(16, 2, 3, SoftmaxCE(), embedding_channels=6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(maps()).embeddings.dtype == torch.float32


def test_there_are_no_embeddings_unless_asked_for():
    assert DetectionHead(16, 2, 3, SoftmaxCE())(maps()).embeddings is None


def test_class_rows_are_the_weights_of_the_class_logits_and_of_nothing_else():
    head = DetectionHead(16, 2, 3, SoftmaxCE(), depth=0)
    with torch.no_grad():
        head.prediction.bias.zero_()
    features = maps(batch=1)
    logits = head.class_rows @ features[0][0, :, 0, 0]
    torch.testing.assert_close(logits.view(2, 3), head(features).class_logits[0, :2])
    head.class_rows.sum().backward()
    grad = head.prediction.weight.grad.view(2, 8, 16)
    assert (grad[:, :3] == 1).all()
    assert not grad[:, 3:].any()


def test_a_batch_without_images_gives_none():
    head = DetectionHead(16, 2, 3, SoftmaxCE())
    assert head(maps(batch=0)).raw.shape == (0, 2 * (24 + 6), 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes and anchors_per_cell must be at least 1"),
        ({"anchors_per_cell": 0}, "num_classes and anchors_per_cell must be at least 1"),
        ({"depth": -1}, "depth at least 0"),
        ({"width": 0}, "in_channels and width must be at least 1, got 16 and 0"),
        ({"in_channels": 0}, "in_channels and width must be at least 1, got 0 and 0"),
        ({"embedding_channels": -1}, "embedding_channels must be at least 0, got -1"),
        ({"confidence_prior": 0.0}, r"confidence_prior must be in \(0, 1\), got 0.0"),
        ({"confidence_prior": 1.0}, r"confidence_prior must be in \(0, 1\), got 1.0"),
        ({"width": 25}, "a width of 25 does not divide"),
        ({"norm": "layer"}, "'group', 'batch', 'sync' or 'none', got 'layer'"),
        ({"class_prior": (0.5, 0.4, 0.3)}, "sum to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    defaults = {"in_channels": 16, "anchors_per_cell": 2, "num_classes": 3, "scheme": SoftmaxCE()}
    with pytest.raises(ValueError, match=message):
        DetectionHead(**(defaults | options))
