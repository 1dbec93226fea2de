"""The training objective: terms by hand, what has no gradient, and any split of a step gives one gradient."""

import math
from functools import partial

import pytest
import torch

from dethead.anchors import AnchorGrid
from dethead.boxes import BoxCodec, iou
from dethead.criterion import DetectionLoss, Term
from dethead.heads import DetectionHead
from dethead.losses import smooth_l1
from dethead.normalisers import (
    Constant,
    Counts,
    add_counts,
    by_anchors,
    by_positives,
    by_positives_per_image,
    by_positives_plus_one,
    by_running_positives,
    count,
)
from dethead.running import RunningState, add_seen
from dethead.schemes import SigmoidBCE, SoftmaxCE
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

ANCHORS = Anchors(
    torch.tensor([[0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0], [0.0, 10.0, 10.0, 20.0]]),
    (slice(0, 3),),
    (10,),
    ((1, 3),),
)
NONE = torch.zeros(0, dtype=torch.int64)
OBJECT = GroundTruth.from_labels(ANCHORS.boxes[1:2] + 1, torch.tensor([2]), num_classes=3)
UNKNOWN = GroundTruth.from_labels(ANCHORS.boxes[1:2] + 1, torch.tensor([UNKNOWN_CLASS]), num_classes=3)
NOTHING = GroundTruth.from_labels(torch.zeros(0, 4), NONE, num_classes=3)
L1 = partial(smooth_l1, beta=0.0)
TERMS = ("class_term", "confidence_term", "box_term")
SCHEMES = [SoftmaxCE(), SigmoidBCE()]
NORMALISERS = [by_positives, by_positives_plus_one, by_positives_per_image, by_anchors, Constant(7)]
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
every_normaliser = pytest.mark.parametrize(
    "normaliser", NORMALISERS, ids=lambda n: getattr(n, "__name__", repr(n))
)


def make_loss(scheme=SCHEMES[0], **options):
    return DetectionLoss(scheme, L1, BoxCodec(), **options)


def with_all(normaliser, scheme=SCHEMES[0], **options):
    return make_loss(scheme, **dict.fromkeys(TERMS, Term(1.0, normaliser)), **options)


def assign(*rows):
    matched = torch.tensor(rows)
    return Assignment(matched, torch.zeros(matched.shape))


def zeros(batch):
    return HeadOutput(torch.zeros(batch, 3, 3 + 5, requires_grad=True))


def backward(loss, output, assignment, truth, **options):
    loss(output, assignment, truth, ANCHORS, **options).total.backward()
    return HeadOutput(output.raw.grad)


def test_terms_by_hand_and_the_truth_of_the_second_image():
    # ln 3 for the class; 5 anchors not ignored, ln 2 each; the box is off by 0.1 of its size, twice
    kinds = [Term(2.0), Term(1.0, by_anchors), Term(1.0, Constant(10))]
    loss = make_loss(**dict(zip(TERMS, kinds, strict=True)))
    matched = assign([BACKGROUND] * 3, [IGNORE, 0, BACKGROUND])
    unmatched = GroundTruth.from_labels(ANCHORS.boxes[:1], torch.tensor([0]), num_classes=3)
    terms = loss(zeros(2), matched, [unmatched, OBJECT], ANCHORS)
    wanted = [2 * math.log(3), math.log(2), 0.2 / 10]
    assert [t.item() for t in terms[1:4]] == pytest.approx(wanted, rel=1e-5)
    assert terms.total.item() == pytest.approx(sum(wanted), rel=1e-5)


def test_by_default_every_term_has_weight_one_and_is_divided_by_the_positives():
    truth = GroundTruth.from_labels(ANCHORS.boxes[:2], torch.tensor([0, 1]), num_classes=3)
    terms = make_loss()(zeros(1), assign([0, 1, BACKGROUND]), [truth], ANCHORS)
    wanted = [2 * math.log(3) / 2, 3 * math.log(2) / 2, 0]
    assert [t.item() for t in terms[1:4]] == pytest.approx(wanted)


def test_each_positive_learns_its_own_truth_in_every_image():
    # Labels 0, 1, 2 over two images in an order that no shortcut gives.
    boxes, codec = ANCHORS.boxes + 2, BoxCodec()
    first = GroundTruth.from_labels(boxes[[2, 0]], torch.tensor([1, 0]), num_classes=3)
    second = GroundTruth.from_labels(boxes[[1, 0, 2]], torch.tensor([2, 1, 0]), num_classes=3)
    matched = assign([1, BACKGROUND, 0], [1, 0, 2])
    labels = torch.tensor([[0, 0, 1], [1, 2, 0]])
    raw = torch.zeros(2, 3, 8)
    raw[..., :3] = 50.0 * torch.nn.functional.one_hot(labels, 3)
    raw[..., -4:] = codec.encode(boxes, ANCHORS.boxes)
    terms = make_loss()(HeadOutput(raw), matched, [first, second], ANCHORS)
    assert terms.classification.item() == terms.box.item() == 0
    # and the wrong way round it costs 50 for the class of each of 5 positives
    swapped = make_loss()(HeadOutput(raw.flip(0)), matched, [first, second], ANCHORS)
    assert swapped.classification.item() > 10


@pytest.mark.parametrize("weights", [(2.0, 1.0, 1.0), (1.0, 3.0, 1.0), (1.0, 1.0, 0.0)])
def test_term_weights_multiply_their_term_alone(weights):
    arguments = zeros(1), assign([IGNORE, 0, BACKGROUND]), [OBJECT], ANCHORS
    plain = make_loss()(*arguments)
    weighted = make_loss(**{t: Term(w) for t, w in zip(TERMS, weights, strict=True)})(*arguments)
    wanted = [w * term.item() for w, term in zip(weights, plain[1:4], strict=True)]
    assert [term.item() for term in weighted[1:4]] == pytest.approx(wanted)
    assert weighted.total.item() == pytest.approx(sum(wanted))


def test_an_image_divided_by_its_own_positives_weighs_as_much_as_any_other():
    # image 1: 3 anchors, 3 positives; image 2: 1 positive, 2 anchors in all; torchvision's RetinaNet
    matched = assign([0, 0, 0], [IGNORE, 0, BACKGROUND])
    terms = with_all(by_positives_per_image)(zeros(2), matched, [OBJECT, OBJECT], ANCHORS)
    assert terms.classification.item() == pytest.approx((3 * math.log(3) / 3 + math.log(3)) / 2)
    assert terms.confidence.item() == pytest.approx((3 * math.log(2) / 3 + 2 * math.log(2)) / 2)


@pytest.mark.parametrize(("scheme", "wanted"), [(SCHEMES[0], 1.0986), (SCHEMES[1], 1.9095)], ids=repr)
def test_a_head_with_zero_weights_starts_from_the_stated_losses(scheme, wanted):
    grid = AnchorGrid.from_sizes([8], [8], ratios=[1, 2])
    anchors = grid.place((16, 24))
    head = DetectionHead(4, 2, 3, scheme, confidence_prior=0.01)
    with torch.no_grad():
        head.prediction.weight.zero_()
    output = head([torch.randn(2, 4, 2, 3)])
    matched = torch.full((2, 12), BACKGROUND)
    matched[0, 3], matched[1, 5], matched[1, 0] = 0, 1, 0
    truth = [
        GroundTruth.from_labels(anchors.boxes[[3]], torch.tensor([2]), 3),
        GroundTruth.from_labels(anchors.boxes[[0, 5]], torch.tensor([0, 1]), 3),
    ]
    loss = DetectionLoss(scheme, L1, BoxCodec())
    terms = loss(output, Assignment(matched, torch.zeros(2, 12)), truth, anchors)
    probabilities = scheme.probabilities(output.class_logits)
    torch.testing.assert_close(probabilities, torch.full_like(probabilities, 1 / 3))
    assert terms.classification.item() == pytest.approx(wanted, abs=5e-5)
    # 3 positives at -ln 0.01, 21 background anchors at -ln 0.99
    confidence = (-3 * math.log(0.01) - 21 * math.log(0.99)) / 3
    assert terms.confidence.item() == pytest.approx(confidence, rel=1e-5)
    assert terms.box.item() == 0


def test_exchanging_the_scheme_changes_the_class_term_and_nothing_else():
    raw = torch.randn(2, 3, 8)
    matched = assign([0, BACKGROUND, IGNORE], [IGNORE, 0, BACKGROUND])
    results = []
    for scheme in SCHEMES:
        output = HeadOutput(raw.clone().requires_grad_())
        terms = make_loss(scheme, confidence_target="iou")(output, matched, [OBJECT, OBJECT], ANCHORS)
        terms.total.backward()
        results.append((terms, HeadOutput(output.raw.grad)))
    (ce, ce_grad), (bce, bce_grad) = results
    assert torch.equal(ce.confidence, bce.confidence)
    assert torch.equal(ce.box, bce.box)
    assert torch.equal(ce_grad.confidence_logits, bce_grad.confidence_logits)
    assert torch.equal(ce_grad.box_deltas, bce_grad.box_deltas)
    assert not torch.equal(ce.classification, bce.classification)


@every_scheme
def test_class_weights_multiply_the_class_term_of_their_class(scheme):
    weighted = type(scheme)(class_weights=(1.0, 1.0, 4.0))
    arguments = zeros(1), assign([IGNORE, 0, BACKGROUND]), [OBJECT], ANCHORS
    plain, heavy = make_loss(scheme)(*arguments), make_loss(weighted)(*arguments)
    assert heavy.classification.item() == pytest.approx(4 * plain.classification.item())
    assert torch.equal(heavy.confidence, plain.confidence)


def test_the_iou_target_is_that_of_the_decoded_prediction():
    # predicted: the anchor [10, 0, 20, 10] itself; truth: 1 px further each way: IoU 81 / 119
    output, matched = zeros(1), assign([BACKGROUND, 0, IGNORE])
    with torch.no_grad():
        output.raw[0, :, 3] = torch.tensor([-1.0, 0.5, 2.0])
    terms = make_loss(confidence_target="iou")(output, matched, [OBJECT], ANCHORS)
    softplus = [math.log1p(math.exp(x)) for x in (-1.0, 0.5)]  # BCE is softplus(x) - t x
    assert terms.confidence.item() == pytest.approx(softplus[0] + softplus[1] - 81 / 119 * 0.5, rel=1e-6)


def test_the_iou_target_gives_the_box_no_gradient():
    raw = torch.randn(1, 3, 8)
    grads = []
    for target in ("one", "iou"):
        output = HeadOutput(raw.clone().requires_grad_())
        loss = make_loss(confidence_target=target)
        grads.append(backward(loss, output, assign([BACKGROUND, 0, IGNORE]), [OBJECT]).box_deltas)
    assert torch.equal(*grads)


def test_another_confidence_target_is_refused():
    with pytest.raises(ValueError, match="'one', 'iou' or 'quality', got 'giou'"):
        make_loss(confidence_target="giou")


@every_scheme
@pytest.mark.parametrize("target", ["one", "iou"])
def test_ignored_anchors_have_no_gradient(scheme, target):
    output = HeadOutput(torch.randn(1, 3, 8, requires_grad=True))
    loss = make_loss(scheme, confidence_target=target)
    grad = backward(loss, output, assign([IGNORE, 0, BACKGROUND]), [OBJECT])
    assert [bool(g) for g in grad.confidence_logits[0]] == [False, True, True]
    assert [bool(g.any()) for g in grad.class_logits[0]] == [False, True, False]
    assert [bool(g.any()) for g in grad.box_deltas[0]] == [False, True, False]


@every_scheme
def test_an_object_of_unknown_class_trains_confidence_and_box_but_not_the_class(scheme):
    output = zeros(1)
    terms = make_loss(scheme)(output, assign([BACKGROUND, 0, IGNORE]), [UNKNOWN], ANCHORS)
    terms.total.backward()
    grad = HeadOutput(output.raw.grad)
    assert terms.classification.item() == 0
    assert not grad.class_logits.any()
    assert terms.confidence.item() == pytest.approx(2 * math.log(2))
    assert terms.box.item() == pytest.approx(0.2, rel=1e-5)
    assert grad.confidence_logits[0, 1] < 0
    assert grad.box_deltas[0, 1].any()


def test_an_object_of_unknown_class_counts_as_a_positive_of_its_own_image():
    output, matched = zeros(2), assign([BACKGROUND, 0, IGNORE], [BACKGROUND, 0, IGNORE])
    # sigmoids, which ask something of a row without labels: 3 answers of ln 2, for one object of two
    terms = make_loss(SigmoidBCE())(output, matched, [OBJECT, UNKNOWN], ANCHORS)
    assert terms.classification.item() == pytest.approx(3 * math.log(2) / 2)
    terms.classification.backward()
    assert [bool(row.any()) for row in HeadOutput(output.raw.grad).class_logits] == [True, False]


@every_scheme
@every_normaliser
@pytest.mark.parametrize("value", [BACKGROUND, IGNORE])
@pytest.mark.parametrize("target", ["one", "iou"])
def test_a_batch_without_objects_is_finite_and_attached(scheme, normaliser, value, target):
    output = HeadOutput(torch.randn(2, 3, 8, requires_grad=True))
    loss = with_all(normaliser, scheme, confidence_target=target)
    terms = loss(output, assign([value] * 3, [value] * 3), [NOTHING, NOTHING], ANCHORS)
    assert all(term.requires_grad for term in terms.scalars().values())
    terms.total.backward()
    assert terms.classification.item() == terms.box.item() == 0
    assert bool(terms.confidence == 0) == (value == IGNORE)
    assert torch.isfinite(terms.total)
    assert torch.isfinite(output.raw.grad).all()


@every_scheme
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_give_float32_terms(scheme, dtype):
    raw = torch.randn(1, 3, 8).to(dtype)
    arguments = assign([IGNORE, 0, BACKGROUND]), [OBJECT], ANCHORS
    half, whole = (make_loss(scheme)(HeadOutput(one), *arguments) for one in (raw, raw.float()))
    for a, b in zip(half.scalars().values(), whole.scalars().values(), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b)


def test_several_boxes_of_several_labels_are_taught_to_sigmoids_and_refused_by_softmax():
    targets = torch.tensor([[1.0, 0.0, 1.0]])
    truth = GroundTruth(ANCHORS.boxes[:1], targets, torch.zeros(0, 4), torch.tensor([True]))
    output = zeros(1)
    grad = backward(make_loss(SigmoidBCE()), output, assign([0, IGNORE, IGNORE]), [truth])
    assert grad.class_logits[0, 0].tolist() == [-0.5, 0.5, -0.5]
    with pytest.raises(ValueError, match="several labels"):
        make_loss(SoftmaxCE())(output, assign([0, IGNORE, IGNORE]), [truth], ANCHORS)


def a_step(images):
    """A linear model, its inputs, and images with 0 to 3 positives; float64, so that 1e-12 can be asked."""
    model = torch.nn.Linear(4, 3 * 8).double()
    matched, truth = [], []
    for index in range(images):
        objects = index % 4
        row = [BACKGROUND, IGNORE, BACKGROUND] if index % 3 else [BACKGROUND] * 3
        row[:objects] = range(objects)
        labels = (torch.arange(objects) + index) % 3
        boxes = ANCHORS.boxes[:objects] + index % 5
        matched.append(row)
        truth.append(GroundTruth.from_labels(boxes, labels, num_classes=3))
    return model, torch.randn(images, 4, dtype=torch.float64), assign(*matched), truth


def part_of(assignment, rows):
    return Assignment(assignment.matched[rows], assignment.overlaps[rows])


def gradient(model, inputs, loss, assignment, truth, rows, counts=None):
    """Gradient of the images in ``rows`` alone."""
    model.zero_grad()
    output = HeadOutput(model(inputs[rows]).reshape(-1, 3, 8))
    terms = loss(output, part_of(assignment, rows), truth[rows], ANCHORS, counts=counts)
    terms.total.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@every_scheme
@every_normaliser
def test_two_times_four_accumulated_images_give_the_gradient_of_eight(scheme, normaliser):
    step = a_step(8)
    model, inputs, assignment, truth = step
    loss = with_all(normaliser, scheme, confidence_target="iou")
    whole = gradient(model, inputs, loss, assignment, truth, slice(0, 8))
    halves = [slice(0, 4), slice(4, 8)]
    counts = add_counts(*(count(part_of(assignment, rows)) for rows in halves))
    parts = [gradient(model, inputs, loss, assignment, truth, rows, counts) for rows in halves]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-6, atol=1e-9)


def mean_over_processes(counts):
    """What the training loop does: all counts averaged, and the number of processes set."""
    mean = Counts(*(torch.stack(values).mean() for values in [*zip(*counts, strict=True)][:4]))
    return mean._replace(processes=torch.tensor(float(len(counts))))


@every_scheme
@every_normaliser
@pytest.mark.parametrize("split", [(slice(0, 4), slice(4, 8)), (slice(0, 1), slice(1, 2))], ids=str)
def test_two_processes_give_the_gradient_of_one(scheme, normaliser, split):
    # The second split is 1 positive on 2 processes: its mean count is 0.5.
    images = split[1].stop
    model, inputs, assignment, truth = a_step(images)
    loss = with_all(normaliser, scheme, confidence_target="iou")
    whole = gradient(model, inputs, loss, assignment, truth, slice(0, images))
    mean = mean_over_processes([count(part_of(assignment, rows)) for rows in split])
    parts = [gradient(model, inputs, loss, assignment, truth, rows, mean) for rows in split]
    assert whole.abs().max() > 0.01
    torch.testing.assert_close(sum(parts) / 2, whole, rtol=1e-6, atol=1e-9)


@every_normaliser
def test_two_processes_that_accumulate_twice_give_the_gradient_of_one(normaliser):
    model, inputs, assignment, truth = a_step(8)
    loss = with_all(normaliser)
    whole = gradient(model, inputs, loss, assignment, truth, slice(0, 8))
    processes = [[slice(0, 2), slice(2, 4)], [slice(4, 6), slice(6, 8)]]
    counts = [add_counts(*(count(part_of(assignment, rows)) for rows in one)) for one in processes]
    mean = mean_over_processes(counts)
    parts = [
        gradient(model, inputs, loss, assignment, truth, rows, mean) for one in processes for rows in one
    ]
    torch.testing.assert_close(sum(parts) / 2, whole, rtol=1e-6, atol=1e-9)


@every_scheme
def test_permuted_images_give_permuted_gradients(scheme):
    raw, order = torch.randn(4, 3, 8), [2, 0, 3, 1]
    _, _, assignment, truth = a_step(4)
    outputs = [HeadOutput(raw.clone().requires_grad_()), HeadOutput(raw[order].requires_grad_())]
    straight = backward(make_loss(scheme), outputs[0], assignment, truth)
    shuffled = backward(make_loss(scheme), outputs[1], part_of(assignment, order), [truth[i] for i in order])
    torch.testing.assert_close(shuffled.raw, straight.raw[order])


def test_the_iou_target_is_exact_for_boxes_off_the_anchor():
    """In a loop over positives, with torch's BCE, for random predictions."""
    raw, (_, _, assignment, truth) = torch.randn(4, 3, 8) * 0.3, a_step(4)
    output = HeadOutput(raw)
    targets = torch.zeros(4, 3)
    for image, anchor in (assignment.matched >= 0).nonzero().tolist():
        box = BoxCodec().decode(output.box_deltas[image, anchor], ANCHORS.boxes[anchor])
        targets[image, anchor] = iou(box, truth[image].boxes[assignment.matched[image, anchor]])
    used = assignment.matched != IGNORE
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        output.confidence_logits[used], targets[used], reduction="sum"
    )
    terms = with_all(Constant(1), confidence_target="iou")(output, assignment, truth, ANCHORS)
    torch.testing.assert_close(terms.confidence, wanted)


@pytest.mark.parametrize(
    ("raw", "matched", "truth"),
    [
        ((1, 4, 8), (1, 3), [OBJECT]),
        ((1, 3, 8), (1, 4), [OBJECT]),
        ((2, 3, 8), (1, 3), [OBJECT]),
        ((1, 3, 8), (1, 3), [OBJECT, OBJECT]),
    ],
)
def test_outputs_assignments_and_truth_of_different_sizes_are_refused(raw, matched, truth):
    assignment = Assignment(torch.full(matched, BACKGROUND), torch.zeros(matched))
    with pytest.raises(
        ValueError, match=rf"{len(truth)} truths and 3 anchors need .* got \({raw[0]}, {raw[1]}"
    ):
        make_loss()(HeadOutput(torch.zeros(raw)), assignment, truth, ANCHORS)


def test_truth_of_another_number_of_classes_is_refused_by_its_image():
    four = GroundTruth.from_labels(ANCHORS.boxes[:1], torch.tensor([3]), num_classes=4)
    with pytest.raises(ValueError, match=r"truth 1 has targets \(1, 4\) for 1 boxes and 3 classes"):
        make_loss()(zeros(2), assign([BACKGROUND] * 3, [0, BACKGROUND, IGNORE]), [NOTHING, four], ANCHORS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("weights", torch.ones(2)), ("weights", torch.ones(1, 1)), ("class_known", torch.ones(0) > 0)],
)
def test_truth_whose_parts_differ_in_length_is_refused_by_its_image(field, value):
    # Put end to end, a surplus weight would be that of the next image's first box.
    wrong = OBJECT._replace(**{field: value})
    with pytest.raises(ValueError, match=rf"truth 1 has {field} \({value.shape[0]}, ?1?\) for 1 boxes"):
        make_loss()(
            zeros(2), assign([0, BACKGROUND, IGNORE], [0, BACKGROUND, IGNORE]), [OBJECT, wrong], ANCHORS
        )


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_term_has_a_weight_that_is_finite_and_not_negative(weight):
    with pytest.raises(ValueError, match="weight of a term must be finite and in"):
        Term(weight=weight)
    with pytest.raises(ValueError, match="class_l2 must be finite and in"):
        make_loss(class_l2=weight)


def test_weights_of_no_for_another_number_of_classes_are_refused():
    loss = make_loss(SigmoidBCE(neg_weight=[1.0, 2.0]), class_on="all")
    with pytest.raises(ValueError, match=r"neg_weight \(2,\) for 3 classes"):
        loss(zeros(1), assign([0, BACKGROUND, IGNORE]), [OBJECT], ANCHORS)


# --- the other settings


def test_over_all_anchors_background_is_taught_no_and_ignored_anchors_nothing():
    # 2 anchors not ignored, 3 classes: 6 answers at ln 2, divided by one positive
    loss = make_loss(SigmoidBCE(), class_on="all")
    output = zeros(1)
    terms = loss(output, assign([IGNORE, 0, BACKGROUND]), [OBJECT], ANCHORS)
    assert terms.classification.item() == pytest.approx(6 * math.log(2), rel=1e-6)
    terms.total.backward()
    gradient = HeadOutput(output.raw.grad).class_logits[0]
    assert gradient.tolist() == [[0, 0, 0], [0.5, 0.5, -0.5], [0.5, 0.5, 0.5]]


def test_over_all_anchors_an_object_of_unknown_class_is_taught_nothing():
    output = zeros(1)
    arguments = assign([BACKGROUND, 0, BACKGROUND]), [UNKNOWN], ANCHORS
    make_loss(SigmoidBCE(), class_on="all")(output, *arguments).total.backward()
    assert HeadOutput(output.raw.grad).class_logits[0, 1].tolist() == [0, 0, 0]


def test_a_softmax_over_all_anchors_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"needs a scheme that can answer 'none of them'.*sum to 1"):
        make_loss(SoftmaxCE(), class_on="all")


def test_the_quality_of_the_assigner_is_what_confidence_and_class_are_taught():
    assignment = assign([IGNORE, 0, BACKGROUND])
    assignment = assignment._replace(quality=torch.tensor([[0.0, 0.25, 0.0]]))
    loss = make_loss(SigmoidBCE(quality_target=True), confidence_target="quality")
    output = zeros(1)
    loss(output, assignment, [OBJECT], ANCHORS).total.backward()
    gradient = HeadOutput(output.raw.grad)
    assert gradient.class_logits[0, 1].tolist() == [0.5, 0.5, 0.25]
    assert gradient.confidence_logits[0].tolist() == [0, 0.25, 0.5]


def test_on_positives_alone_background_is_taught_no_confidence():
    # 2 positives, taught 1 at logit 0: -1/2 each over 2 positives; the others nothing
    loss = make_loss(confidence_on="positives")
    output = zeros(2)
    terms = loss(output, assign([IGNORE, 0, BACKGROUND], [0, BACKGROUND, IGNORE]), [OBJECT] * 2, ANCHORS)
    assert terms.confidence.item() == pytest.approx(math.log(2))
    terms.confidence.backward()
    assert HeadOutput(output.raw.grad).confidence_logits.tolist() == [[0, -0.25, 0], [-0.25, 0, 0]]


def test_mining_background_for_a_confidence_that_has_none_is_refused():
    with pytest.raises(ValueError, match="hard_negatives 3 chooses background anchors"):
        make_loss(confidence_on="positives", hard_negatives=3)


def test_another_confidence_on_is_refused():
    with pytest.raises(ValueError, match="confidence_on must be 'all' or 'positives', got 'none'"):
        make_loss(confidence_on="none")


def test_confidence_target_quality_needs_an_assigner_that_gives_one():
    loss = make_loss(confidence_target="quality")
    with pytest.raises(ValueError, match="needs an assigner that gives one"):
        loss(zeros(1), assign([IGNORE, 0, BACKGROUND]), [OBJECT], ANCHORS)


@pytest.mark.parametrize(
    "options", [{}, {"confidence_target": "iou"}, {"confidence_term": Term(0.0)}], ids=str
)
def test_what_the_class_is_taught_hangs_on_no_setting_of_the_confidence(options):
    # the IoU is 0.68, the assigner says 0.25
    assignment = assign([IGNORE, 0, BACKGROUND])._replace(quality=torch.tensor([[0.0, 0.25, 0.0]]))
    output = zeros(1)
    loss = make_loss(SigmoidBCE(quality_target=True), **options)
    loss(output, assignment, [OBJECT], ANCHORS).total.backward()
    assert HeadOutput(output.raw.grad).class_logits[0, 1].tolist() == [0.5, 0.5, 0.25]


def test_a_quality_scheme_is_taught_the_iou_of_the_decoded_box_where_the_assigner_gives_none():
    output = zeros(1)
    loss = make_loss(SigmoidBCE(quality_target=True))
    loss(output, assign([IGNORE, 0, BACKGROUND]), [OBJECT], ANCHORS).total.backward()
    wanted = 0.5 - iou(ANCHORS.boxes[1], OBJECT.boxes[0]).item()
    assert HeadOutput(output.raw.grad).class_logits[0, 1, 2].item() == pytest.approx(wanted)


def test_hard_negatives_keeps_the_hardest_background_of_the_batch_also_in_images_without_objects():
    raw = torch.zeros(2, 3, 8)
    raw[..., 3] = torch.tensor([[1.0, 0.0, -1.0], [3.0, 2.0, -2.0]])  # confidence logits
    output = HeadOutput(raw.requires_grad_())
    loss = make_loss(hard_negatives=2)
    loss(
        output, assign([BACKGROUND, 0, BACKGROUND], [BACKGROUND] * 3), [OBJECT, NOTHING], ANCHORS
    ).total.backward()
    kept = HeadOutput(raw.grad).confidence_logits != 0
    assert kept.tolist() == [[False, True, False], [True, True, False]]


def test_sample_weights_multiply_all_that_a_box_is_taught_and_no_background():
    arguments = zeros(1), assign([BACKGROUND, 0, BACKGROUND])
    plain = make_loss()(*arguments, [OBJECT], ANCHORS)
    terms = make_loss()(*arguments, [OBJECT._replace(weights=torch.tensor([3.0]))], ANCHORS)
    assert terms.classification.item() == pytest.approx(3 * plain.classification.item())
    assert terms.box.item() == pytest.approx(3 * plain.box.item())
    assert terms.confidence.item() == pytest.approx((3 + 2) * math.log(2))


def test_sample_weights_multiply_further_losses_of_their_box():
    extra = {"size": (Term(), lambda positives: positives.boxes[:, 2] - positives.boxes[:, 0])}
    truth = OBJECT._replace(weights=torch.tensor([3.0]))
    terms = make_loss(extra=extra)(zeros(1), assign([0, BACKGROUND, BACKGROUND]), [truth], ANCHORS)
    assert terms.extra["size"].item() == pytest.approx(3 * 10)


@pytest.mark.parametrize("class_on", ["positives", "all"])
def test_sample_weights_of_one_change_nothing(class_on):
    raw, assignment = torch.randn(1, 3, 8), assign([BACKGROUND, 0, BACKGROUND])
    loss = make_loss(SigmoidBCE(), class_on=class_on)
    plain = loss(HeadOutput(raw), assignment, [OBJECT], ANCHORS)
    ones = loss(HeadOutput(raw), assignment, [OBJECT._replace(weights=torch.ones(1))], ANCHORS)
    assert [t.item() for t in ones[:4]] == [t.item() for t in plain[:4]]


def test_the_penalty_of_the_class_rows_enters_once_however_the_step_is_cut():
    rows = torch.tensor([[1.0, -2.0], [0.5, 0.0]], requires_grad=True)
    loss = make_loss(class_l2=0.1)
    arguments = zeros(1), assign([BACKGROUND] * 3), [NOTHING], ANCHORS
    terms = loss(*arguments, class_rows=rows)
    assert terms.extra["class_l2"].item() == pytest.approx(0.1 * 5.25)
    counts = count(assign([BACKGROUND] * 3, [BACKGROUND] * 3))
    half = loss(*arguments, counts=counts, class_rows=rows)
    assert half.extra["class_l2"].item() == pytest.approx(0.1 * 5.25 / 2)
    assert half.total.item() == pytest.approx(
        sum(t.item() for n, t in half.scalars().items() if n != "total")
    )
    half.total.backward()
    torch.testing.assert_close(rows.grad, 0.1 * rows.detach())


def test_a_penalty_without_the_weights_is_refused():
    with pytest.raises(ValueError, match="class_l2 needs class_rows"):
        make_loss(class_l2=0.1)(zeros(1), assign([BACKGROUND] * 3), [NOTHING], ANCHORS)


def test_further_losses_of_the_positives_are_terms_of_their_own():
    extra = {"size": (Term(0.5), lambda positives: positives.boxes[:, 2] - positives.boxes[:, 0])}
    terms = make_loss(extra=extra)(zeros(1), assign([0, 0, BACKGROUND]), [OBJECT], ANCHORS)
    assert terms.extra["size"].item() == pytest.approx(0.5 * 2 * 10 / 2)
    assert terms.scalars()["size"] is terms.extra["size"]


@every_scheme
@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_what_each_class_got_is_the_gradient_of_the_class_term(scheme, weight):
    output = HeadOutput(torch.randn(1, 3, 8).requires_grad_())
    loss = make_loss(scheme, class_term=Term(weight), observe=True)
    first = GroundTruth.from_labels(ANCHORS.boxes[:2] + 1, torch.tensor([2, 0]), num_classes=3)
    terms = loss(output, assign([0, 1, BACKGROUND]), [first], ANCHORS)
    terms.total.backward()
    gradient = HeadOutput(output.raw.grad).class_logits[0, :2]
    yes = torch.tensor([[False, False, True], [True, False, False]])
    assert terms.seen.positives.tolist() == [1, 0, 1]
    torch.testing.assert_close(terms.seen.yes_gradient, (gradient.abs() * yes).sum(dim=0))
    torch.testing.assert_close(terms.seen.no_gradient, (gradient.abs() * ~yes).sum(dim=0))


def test_nothing_is_observed_unless_asked_for_or_without_gradient():
    arguments = assign([0, 0, BACKGROUND]), [OBJECT], ANCHORS
    assert make_loss()(zeros(1), *arguments).seen is None
    with torch.no_grad():
        assert make_loss(observe=True)(zeros(1), *arguments).seen is None


def test_positives_plus_one_and_the_running_mean_by_hand():
    counts, assignment = count(assign([0, 0, BACKGROUND])), assign([0, 0, BACKGROUND])
    assert by_positives_plus_one(counts, assignment).item() == 3
    state = RunningState(3)
    # 0.9 * 100 + 0.1 * 2 = 90.2, then 0.9 * 90.2 + 0.2 = 81.38
    assert by_running_positives(state.with_mean(counts), assignment).item() == pytest.approx(90.2)
    assert by_running_positives(state.with_mean(counts), assignment).item() == pytest.approx(81.38)
    assert by_running_positives(counts, assignment).item() == 2


def test_the_running_mean_of_two_processes_divides_by_half_of_that_of_one():
    # Gradients are averaged over processes: half the divisor on each is the same gradient.
    step = count(assign([0, 0, BACKGROUND]))
    share = mean_over_processes([count(assign([0, BACKGROUND, BACKGROUND]))] * 2)
    one, two = RunningState(3), RunningState(3)
    for _ in range(2):
        alone, shared = one.with_mean(step), two.with_mean(share)
        assert shared.running_positives.item() == pytest.approx(alone.running_positives.item() / 2)


def test_the_running_state_adds_what_steps_saw():
    state = RunningState(2)
    step = ClassesSeen(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), torch.tensor([0.0, 4.0]))
    state.add(step)
    state.add(add_seen(step, step))
    for got, one in zip(state.classes(), step, strict=True):
        torch.testing.assert_close(got, 3 * one)
    again = RunningState(2)
    again.load_state_dict(state.state_dict())
    assert torch.equal(again.classes().no_gradient, torch.tensor([0.0, 12.0]))
