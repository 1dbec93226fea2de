"""Post-processing against a plain-loop NumPy oracle and hand-made scenes."""

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from dethead.anchors import AnchorGrid
from dethead.boxes import BoxCodec
from dethead.postprocess import (
    Postprocessor,
    PowersFusion,
    class_only,
    confidence_only,
    geometric_mean,
    product,
)
from dethead.schemes import SigmoidBCE, SoftmaxCE
from dethead.structures import Anchors, HeadOutput, Resize

GRID = AnchorGrid.from_sizes([8, 16], [20, 40], ratios=[0.5, 2]).place((48, 64))
INPUT = Resize((48, 64), (1.0, 1.0))
SMALLER = Resize((96, 160), (0.5, 0.4))
"""The original is larger, by another factor in each direction."""


def oracle_boxes(deltas, anchors, resize):
    """Decode, bring to original pixels, clip: one box at a time, in float64."""
    (dx, dy, dw, dh), (x1, y1, x2, y2) = deltas, anchors
    width, height = x2 - x1, y2 - y1
    x, y = (x1 + x2) / 2 + dx * width, (y1 + y2) / 2 + dy * height
    width, height = width * np.exp(dw), height * np.exp(dh)
    (rows, columns), (scale_y, scale_x) = resize.original_size, resize.scale
    corners = [(x - width / 2) / scale_x, (y - height / 2) / scale_y]
    corners += [(x + width / 2) / scale_x, (y + height / 2) / scale_y]
    limits = [columns, rows, columns, rows]
    return [min(max(c, 0), limit) for c, limit in zip(corners, limits, strict=True)]


def oracle_iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    inner = width * height
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def oracle(raw, anchors, resize, post):
    """The whole of it in plain loops, for sigmoids and the product: (score, label, box) of each detection."""
    raw = raw.double().numpy()
    sigmoid = 1 / (1 + np.exp(-raw))
    pairs = []
    for row, anchor in enumerate(anchors.double().numpy()):
        for label in range(raw.shape[1] - 5):
            score = sigmoid[row, label] * sigmoid[row, -5]
            if score >= post.score_threshold:
                pairs.append((score, label, oracle_boxes(raw[row, -4:], anchor, resize)))
    pairs.sort(key=lambda pair: -pair[0])
    kept = []
    for score, label, box in pairs[: post.pre_nms_top_k]:
        better = [other for _, name, other in kept if name == label]
        visible = box[2] > box[0] and box[3] > box[1]
        if visible and all(oracle_iou(box, other) <= post.nms_iou for other in better):
            kept.append((score, label, box))
    return kept[: post.max_detections]


def make(scheme=None, **options):
    return Postprocessor(scheme or SigmoidBCE(), BoxCodec(), **options)


def row(classes, confidence, deltas=(0.0, 0.0, 0.0, 0.0)):
    return [*classes, confidence, *deltas]


def anchors_of(boxes):
    boxes = torch.tensor(boxes, dtype=torch.float32)
    return Anchors(boxes, (slice(0, len(boxes)),), (1,), ((1, len(boxes)),))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"score_threshold": 0.3, "nms_iou": 0.3},
        {"pre_nms_top_k": 40, "nms_iou": 0.5},
        {"max_detections": 7},
        {"nms_iou": 0.0, "score_threshold": 0.0},
    ],
)
def test_detections_are_those_of_plain_loops(seed, options):
    torch.manual_seed(seed)
    raw = torch.randn(2, len(GRID.boxes), 3 + 5)
    raw[..., -4:] *= 0.3
    post = make(**options)
    resizes = [INPUT, SMALLER]
    for index, found in enumerate(post(HeadOutput(raw), GRID, resizes)):
        wanted = oracle(raw[index], GRID.boxes, resizes[index], post)
        assert found.labels.tolist() == [label for _, label, _ in wanted]
        assert found.scores.tolist() == pytest.approx([score for score, _, _ in wanted], rel=1e-5)
        boxes = torch.tensor(np.array([box for _, _, box in wanted]))
        torch.testing.assert_close(found.boxes.double(), boxes, rtol=0, atol=1e-4)  # px


def test_boxes_are_clipped_to_the_original_image_in_its_pixels():
    # input 50 x 80; the anchor reaches 10 px over each border; the original is twice as high, 4 x as wide
    raw = torch.tensor([[row([2.0], 2.0)]])
    found = make()(HeadOutput(raw), anchors_of([[-10, -10, 90, 60]]), [Resize((100, 320), (0.5, 0.25))])
    assert found[0].boxes.tolist() == [[0, 0, 320, 100]]


def test_a_box_inside_is_scaled_along_each_axis():
    raw = torch.tensor([[row([2.0], 2.0)]])
    found = make()(HeadOutput(raw), anchors_of([[10, 20, 30, 40]]), [Resize((100, 320), (0.5, 0.25))])
    assert found[0].boxes.tolist() == [[40, 40, 120, 80]]


def test_boxes_outside_the_image_are_dropped_and_do_not_push_others_out():
    raw = torch.tensor([[row([5.0], 5.0), row([5.0], 4.0), row([5.0], 0.0)]])
    outside = [[70, 0, 90, 20], [0, -30, 20, -5], [0, 0, 20, 20]]
    found = make(max_detections=1)(HeadOutput(raw), anchors_of(outside), [INPUT])[0]
    assert found.boxes.tolist() == [[0, 0, 20, 20]]


def test_padding_is_not_part_of_the_image():
    # a 20 x 30 image padded to 48 x 64: a box that lies in the padding is not seen
    raw = torch.tensor([[row([2.0], 2.0), row([2.0], 1.0)]])
    boxes = anchors_of([[40, 25, 60, 45], [20, 10, 40, 30]])
    found = make()(HeadOutput(raw), boxes, [Resize((20, 30), (1.0, 1.0))])[0]
    assert found.boxes.tolist() == [[20, 10, 30, 20]]


def test_suppression_keeps_to_its_class():
    raw = torch.tensor([[row([3.0, 2.9], 2.0), row([2.0, 1.0], 2.0)]])
    same = anchors_of([[0, 0, 20, 20], [0, 0, 20, 20]])
    found = make()(HeadOutput(raw), same, [INPUT])[0]
    assert found.labels.tolist() == [0, 1]


def test_a_box_is_dropped_above_the_overlap_and_not_at_it():
    # IoU of [0, 0, 20, 20] and [0, 0, 20, 10]: 0.5
    raw = torch.tensor([[row([3.0], 2.0), row([2.0], 2.0)]])
    boxes = anchors_of([[0, 0, 20, 20], [0, 0, 20, 10]])
    counts = [len(make(nms_iou=limit)(HeadOutput(raw), boxes, [INPUT])[0].scores) for limit in (0.5, 0.49)]
    assert counts == [2, 1]


def test_scores_at_the_threshold_pass():
    raw = torch.tensor([[row([0.0], 0.0)]])  # 0.5 * 0.5, exact
    anchors = anchors_of([[0, 0, 20, 20]])
    assert make(score_threshold=0.25)(HeadOutput(raw), anchors, [INPUT])[0].scores.tolist() == [0.25]
    assert make(score_threshold=0.2501)(HeadOutput(raw), anchors, [INPUT])[0].scores.tolist() == []


@pytest.mark.parametrize("anchors", [50, 3000])
@pytest.mark.parametrize("threads", [1, 2])
def test_equal_scores_keep_the_order_of_the_anchors_and_classes(anchors, threads):
    # 3000 rows take torchvision's other path, one suppression per class
    boxes = anchors_of([[30.0 * i, 0.0, 30.0 * i + 20, 20.0] for i in range(anchors)])
    raw = torch.zeros(1, anchors, 2 + 5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        post = make(max_detections=2 * anchors, pre_nms_top_k=2 * anchors)
        found = post(HeadOutput(raw), boxes, [Resize((48, 30 * anchors), (1.0, 1.0))])[0]
    finally:
        torch.set_num_threads(before)
    pairs = list(zip((found.boxes[:, 0] / 30).long().tolist(), found.labels.tolist(), strict=True))
    assert pairs == [(anchor, label) for anchor in range(anchors) for label in (0, 1)]


def test_of_equal_scores_the_first_survives_suppression():
    raw = torch.zeros(1, 2, 1 + 5)
    found = make()(HeadOutput(raw), anchors_of([[0, 0, 20, 20], [0, 0, 20, 19]]), [INPUT])[0]
    assert found.boxes.tolist() == [[0, 0, 20, 20]]


def test_top_k_counts_pairs_of_anchor_and_class():
    raw = torch.tensor([[row([5.0, 4.0], 5.0), row([3.0, 2.0], 5.0)]])
    boxes = anchors_of([[0, 0, 20, 20], [30, 0, 50, 20]])
    found = make(pre_nms_top_k=3)(HeadOutput(raw), boxes, [INPUT])[0]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.boxes[:, 0].tolist() == [0, 0, 30]


def test_max_detections_are_the_best_of_all_classes_together():
    raw = torch.randn(1, len(GRID.boxes), 3 + 5)
    many, few = (make(max_detections=n)(HeadOutput(raw), GRID, [INPUT])[0] for n in (300, 5))
    assert len(many.scores) > 5
    for whole, part in zip(many, few, strict=True):
        assert torch.equal(whole[:5], part)


@pytest.mark.parametrize("scheme", [SoftmaxCE(), SigmoidBCE()], ids=repr)
def test_probability_and_confidence_are_reported_apart_and_the_score_is_their_product(scheme):
    raw = torch.tensor([[row([3.0, 1.0, -1.0], 0.5)]])
    found = make(scheme, score_threshold=0.0)(HeadOutput(raw), anchors_of([[0, 0, 20, 20]]), [INPUT])[0]
    logits = np.array([3.0, 1.0, -1.0])
    exp = np.exp(logits)
    wanted = exp / exp.sum() if scheme.exclusive else 1 / (1 + np.exp(-logits))
    confidence = 1 / (1 + np.exp(-0.5))
    assert found.labels.tolist() == [0, 1, 2]
    assert found.class_probabilities.tolist() == pytest.approx(wanted, rel=1e-5)
    assert found.confidence.tolist() == pytest.approx([confidence] * 3, rel=1e-5)
    assert found.scores.tolist() == pytest.approx(confidence * wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("fusion", "wanted"),
    [
        (product, [0.1, 0.2]),
        (geometric_mean, [0.1**0.5, 0.2**0.5]),
        (class_only, [0.25, 0.5]),
        (confidence_only, [0.4, 0.4]),
        (PowersFusion(0.5, 2.0), [0.4**0.5 * 0.0625, 0.4**0.5 * 0.25]),
    ],
)
def test_fusions_by_hand(fusion, wanted):
    scores = fusion(torch.tensor([[0.4]]), torch.tensor([[0.25, 0.5]]))
    assert scores[0].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("powers", "same"),
    [((1, 1), product), ((0.5, 0.5), geometric_mean), ((0, 1), class_only), ((1, 0), confidence_only)],
)
def test_powers_hold_the_other_fusions(powers, same):
    confidence, probabilities = torch.rand(50, 1), torch.rand(50, 3)
    torch.testing.assert_close(
        PowersFusion(*powers)(confidence, probabilities), same(confidence, probabilities)
    )


def test_a_branch_with_power_0_has_nothing_to_say_even_where_it_says_0():
    assert PowersFusion(0.0, 1.0)(torch.zeros(1, 1), torch.full((1, 1), 0.5)).tolist() == [[0.5]]


@pytest.mark.parametrize("powers", [(-0.1, 1.0), (0.0, 0.0), (1.0, float("inf")), (float("nan"), 1.0)])
def test_powers_that_rank_nothing_are_refused(powers):
    with pytest.raises(ValueError, match="finite, not negative and not both 0, got"):
        PowersFusion(*powers)


def test_selecting_from_the_predictions_of_an_output_gives_its_detections():
    output, post = (
        HeadOutput(torch.randn(2, len(GRID.boxes), 3 + 5)),
        make(SoftmaxCE(), fusion=geometric_mean),
    )
    wanted = post(output, GRID, [INPUT, SMALLER])
    found = post.select(post.predictions(output, GRID), [INPUT, SMALLER])
    for one, other in zip(found, wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_predictions_of_another_number_of_images_are_refused():
    post = make()
    with pytest.raises(ValueError, match="1 resizes for predictions of 2 images"):
        post.select(post.predictions(HeadOutput(torch.randn(2, len(GRID.boxes), 8)), GRID), [INPUT])


def test_the_fusion_makes_the_scores():
    raw = torch.tensor([[row([3.0, 1.0], 0.5)]])
    anchors = anchors_of([[0, 0, 20, 20]])
    found = make(fusion=class_only)(HeadOutput(raw), anchors, [INPUT])[0]
    assert torch.equal(found.scores, found.class_probabilities)
    found = make(fusion=confidence_only)(HeadOutput(raw), anchors, [INPUT])[0]
    assert torch.equal(found.scores, found.confidence)


def test_nothing_that_passes_is_no_detections():
    raw = torch.full((1, len(GRID.boxes), 3 + 5), -10.0)
    found = make()(HeadOutput(raw), GRID, [INPUT])[0]
    assert [tuple(value.shape) for value in found] == [(0, 4), (0,), (0,), (0,), (0,)]
    assert found.labels.dtype == torch.int64


def test_no_images_are_no_detections():
    assert make()(HeadOutput(torch.zeros(0, len(GRID.boxes), 8)), GRID, []) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_give_float32_detections(dtype):
    raw = torch.randn(1, len(GRID.boxes), 8).to(dtype)
    half, whole = (make()(HeadOutput(one), GRID, [INPUT])[0] for one in (raw, raw.float()))
    for a, b in zip(half, whole, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
    torch.testing.assert_close(half.scores, whole.scores)


def test_there_is_no_gradient():
    raw = torch.zeros(1, len(GRID.boxes), 8, requires_grad=True)
    assert not any(value.requires_grad for value in make()(HeadOutput(raw), GRID, [INPUT])[0])


@pytest.mark.parametrize(("anchors", "images"), [(1, 1), (3, 1), (2, 2), (2, 0)])
def test_an_output_that_does_not_fit_is_refused(anchors, images):
    output = HeadOutput(torch.zeros(1, anchors, 8))
    boxes = anchors_of([[0, 0, 20, 20], [30, 0, 50, 20]])
    with pytest.raises(ValueError, match=rf"got \(1, {anchors}, 8\)"):
        make()(output, boxes, [INPUT] * images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, r"in \[0, 1\], got 1.5 and 0.6"),
        ({"nms_iou": -0.1}, r"in \[0, 1\], got 0.01 and -0.1"),
        ({"pre_nms_top_k": 0}, "at least 1, got 0 and 300"),
        ({"max_detections": 0}, "at least 1, got 1000 and 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def all_at_once(post, output, anchors, resizes):
    """What the post-processor gives, the long way: all pairs activated, sorted, decoded, suppressed."""
    probabilities = post.scheme.probabilities(output.class_logits).float()
    confidence = output.confidence_logits.float().sigmoid()
    scores = post.fusion(confidence.unsqueeze(-1), probabilities)
    boxes = post.codec.decode(output.box_deltas.float(), anchors.boxes)
    found = []
    for image, (height, width) in enumerate(resize.original_size for resize in resizes):
        flat = scores[image].flatten()
        passed = (flat >= post.score_threshold).nonzero().squeeze(1)
        best = passed[flat[passed].argsort(descending=True, stable=True)[: post.pre_nms_top_k]]
        row, label = best // scores.shape[2], best % scores.shape[2]
        placed = resizes[image].to_original(boxes[image, row]).clamp(min=0)
        placed = placed.minimum(torch.tensor([width, height, width, height]))
        visible = ((placed[:, 2:] - placed[:, :2]) > 0).all(dim=1)
        row, label, placed = row[visible], label[visible], placed[visible]
        kept = batched_nms(placed.double(), flat[best[visible]].double(), label, post.nms_iou)
        kept = kept.sort().values[: post.max_detections]
        row, label = row[kept], label[kept]
        chosen = (scores[image, row, label], label, probabilities[image, row, label], confidence[image, row])
        found.append((placed[kept], *chosen))
    return found


def scene(seed, anchors, classes, crowded):
    """An output whose scores often tie, over anchors of which ``crowded`` overlap a great deal."""
    torch.manual_seed(seed)
    spread = 5.0 if crowded else 300.0
    corner = torch.rand(anchors, 2) * spread
    boxes = torch.cat([corner, corner + 10 + 40 * torch.rand(anchors, 2)], dim=1)
    raw = torch.randn(2, anchors, classes + 5) * 2
    raw[..., -4:] *= 0.1
    if seed % 2:
        raw[..., :-4] = raw[..., :-4].round()
    return HeadOutput(raw), Anchors(boxes, (slice(0, anchors),), (1,), ((1, anchors),))


def mean(confidence, probabilities):
    """A fusion of which nobody has said that it rises."""
    return (confidence + probabilities) / 2


@pytest.mark.parametrize("scheme", [SoftmaxCE(), SigmoidBCE()], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("fusion", [product, geometric_mean, class_only, confidence_only, mean])
@pytest.mark.parametrize("crowded", [False, True])
def test_lazily_found_detections_are_those_of_all_pairs_at_once_to_the_bit(scheme, fusion, crowded):
    settings = [
        {"max_detections": 5},
        {"max_detections": 20, "pre_nms_top_k": 100_000, "nms_iou": 0.3, "score_threshold": 0.001},
        {"max_detections": 3, "pre_nms_top_k": 7, "score_threshold": 0.0},
        {"max_detections": 50, "score_threshold": 0.3},
    ]
    for seed, options in enumerate(settings * 2):
        output, anchors = scene(seed, 400 if seed % 3 else 60, 7 if seed % 4 else 1, crowded)
        post = make(scheme, fusion=fusion, **options)
        resizes = [Resize((280, 300), (1.0, 1.0)), Resize((700, 500), (0.4, 0.5))]
        wanted = all_at_once(post, output, anchors, resizes)
        for one, other in zip(post(output, anchors, resizes), wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True)), (seed, options)


def test_a_crowd_of_equal_boxes_does_not_hide_what_scores_lower():
    # 500 boxes on one place are one detection: those of the other two are far behind the first few looked at
    raw = torch.zeros(1, 502, 1 + 5)
    raw[0, :, 0] = torch.linspace(4, 2, 502)
    boxes = anchors_of([[0, 0, 20, 20]] * 500 + [[30, 0, 50, 20], [60, 0, 80, 20]])
    found = make(max_detections=3, pre_nms_top_k=1000)(HeadOutput(raw), boxes, [Resize((48, 90), (1.0, 1.0))])
    assert found[0].boxes[:, 0].tolist() == [0, 30, 60]


def test_anchors_whose_confidence_cannot_reach_the_threshold_are_not_activated():
    class Counting(SigmoidBCE):
        rows = 0

        def probabilities(self, logits):
            Counting.rows += logits.shape[-2]
            return super().probabilities(logits)

    raw = torch.zeros(1, 100, 3 + 5)
    raw[0, 10:, -5] = -10.0
    boxes = anchors_of([[0, 0, 20, 20]] * 100)
    for fusion, rows in ((product, 10), (mean, 100)):
        Counting.rows = 0
        make(Counting(), fusion=fusion)(HeadOutput(raw), boxes, [INPUT])
        assert Counting.rows == rows


def test_a_logit_that_is_no_number_takes_only_its_own_pair_away():
    output, anchors = scene(4, 400, 7, False)
    post = make(max_detections=5)
    scores = output.class_logits[0].sigmoid() * output.confidence_logits[0].sigmoid()[:, None]
    row, label = divmod(int(scores.argmax()), 7)
    raw = output.raw.clone()
    raw[0, row, (label + 1) % 7] = float("nan")
    large = [Resize((400, 400), (1.0, 1.0))] * 2
    whole, broken = (post(one, anchors, large)[0] for one in (output, HeadOutput(raw)))
    assert whole.scores[0] == scores.max()
    assert broken.scores[0] == whole.scores[0]
    assert broken.labels[0] == label
