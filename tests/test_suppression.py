"""NMS, Soft-NMS and box voting against plain loops in float64, and by hand."""

import math

import pytest
import torch

from dethead.boxes import BoxCodec
from dethead.postprocess import NMS, BoxVoting, Candidates, Postprocessor, SoftNMS
from dethead.schemes import SigmoidBCE
from dethead.structures import Anchors, HeadOutput, Resize

SIZE = (100, 100)


def overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inner = width * height
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def nms_by_loops(boxes, labels, limit):
    kept = []
    for row, box in enumerate(boxes):
        better = [other for other in kept if labels[other] == labels[row]]
        if all(overlap(box, boxes[other]) <= limit for other in better):
            kept.append(row)
    return kept


def soft_nms_by_loops(boxes, scores, labels, lowest, sigma, wanted):
    """Figure 2 of the paper: take the best, let the others of its class decay, drop what falls too low."""
    left, taken = dict(enumerate(scores)), []
    while left and len(taken) < wanted:
        best = max(left, key=lambda row: (left[row], -row))
        taken.append((best, left.pop(best)))
        for row in [*left]:
            if labels[row] == labels[best]:
                left[row] *= math.exp(-(overlap(boxes[best], boxes[row]) ** 2) / sigma)
            if left[row] < lowest[row]:
                del left[row]
    return taken


def voted_by_loops(boxes, scores, labels, row, least, iou_weighted):
    votes = []
    for other, box in enumerate(boxes):
        shared = overlap(boxes[row], box)
        if labels[other] == labels[row] and shared >= least:
            votes.append((scores[other] * (shared if iou_weighted else 1.0), box))
    total = sum(weight for weight, _ in votes)
    return [sum(weight * box[side] for weight, box in votes) / total for side in range(4)]


def judged_by_loops(boxes, scores, labels, row, moved, least, half):
    """The score of a survivor that has moved: geometric mean of its own and of how far its class agrees."""
    near = [(s, overlap(moved, b)) for s, b, c in zip(scores, boxes, labels, strict=True) if c == labels[row]]
    votes = sum(score for score, shared in near if shared >= least)
    around = [(score, shared) for score, shared in near if shared >= 0.5]
    mean = sum(score * shared for score, shared in around) / sum(score for score, _ in around)
    return math.sqrt(scores[row] * mean * votes / (votes + half))


def candidates(seed, count, classes=3, tied=False, lowest=0.0):
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=draw) * 40
    boxes = torch.cat([corner, corner + 15 + 30 * torch.rand(count, 2, generator=draw)], dim=1)
    scores = torch.rand(count, generator=draw) * 0.9 + 0.05
    if tied:
        scores = (scores * 4).ceil() / 4
        boxes = (boxes / 10).round() * 10
    labels = torch.randint(classes, (count,), generator=draw)
    return Candidates(boxes, scores.sort(descending=True).values, labels, torch.full((count,), lowest), SIZE)


def plain(found):
    return found.boxes.double().tolist(), found.scores.double().tolist(), found.labels.tolist()


CASES = [(seed, count, tied) for seed, count in enumerate((1, 2, 10, 60)) for tied in (False, True)]


@pytest.mark.parametrize(("seed", "count", "tied"), CASES)
def test_nms_keeps_what_plain_loops_keep(seed, count, tied):
    found = candidates(seed, count, tied=tied)
    kept = NMS()(found, 0.45, 5)
    assert kept.rows.tolist() == nms_by_loops(found.boxes.double().tolist(), found.labels.tolist(), 0.45)
    assert torch.equal(kept.boxes, found.boxes[kept.rows])
    assert torch.equal(kept.scores, found.scores[kept.rows])


@pytest.mark.parametrize(("seed", "count", "tied"), CASES)
@pytest.mark.parametrize(("sigma", "lowest", "wanted"), [(0.5, 0.0, 100), (0.1, 0.2, 100), (0.5, 0.0, 7)])
def test_soft_nms_takes_and_scores_as_plain_loops_do(seed, count, tied, sigma, lowest, wanted):
    found = candidates(seed, count, tied=tied, lowest=lowest)
    boxes, scores, labels = plain(found)
    taken = soft_nms_by_loops(boxes, scores, labels, found.lowest.double().tolist(), sigma, wanted)
    kept = SoftNMS(sigma)(found, 0.6, wanted)
    assert kept.rows.tolist() == [row for row, _ in taken]
    assert kept.scores.tolist() == pytest.approx([score for _, score in taken], rel=1e-6)
    assert torch.equal(kept.boxes, found.boxes[kept.rows])


def test_soft_nms_by_hand():
    # the second box shares half of its area with the first: IoU 1/3, factor exp(-(1/9) / 0.5)
    boxes = torch.tensor([[0.0, 0, 20, 20], [10, 0, 30, 20], [50, 0, 70, 20]])
    found = Candidates(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3).long(), torch.zeros(3), SIZE)
    kept = SoftNMS()(found, 0.6, 3)
    assert kept.rows.tolist() == [0, 2, 1]
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7, 0.8 * math.exp(-2 / 9)])


def test_of_scores_that_tie_after_decay_soft_nms_takes_the_first():
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 10], [0, 10, 20, 20]])  # the halves of the first
    found = Candidates(boxes, torch.tensor([0.9, 0.8, 0.8]), torch.zeros(3).long(), torch.zeros(3), SIZE)
    assert SoftNMS()(found, 0.6, 3).rows.tolist() == [0, 1, 2]


def test_a_class_that_asks_for_more_does_not_take_the_place_of_another_in_soft_nms():
    boxes = torch.tensor([[0.0, 0, 20, 20]] * 3 + [[50.0, 0, 70, 20]])
    labels, lowest = torch.tensor([0, 0, 0, 1]), torch.tensor([0.5, 0.5, 0.5, 0.0])
    found = Candidates(boxes, torch.tensor([0.9, 0.8, 0.7, 0.1]), labels, lowest, SIZE)
    assert SoftNMS()(found, 0.6, 2).rows.tolist() == [0, 3]


@pytest.mark.parametrize(("seed", "count", "tied"), CASES)
@pytest.mark.parametrize("iou_weighted", [False, True])
@pytest.mark.parametrize("least", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("pairs", [1, 100, 2**16])
def test_survivors_move_to_the_weighted_mean_of_plain_loops(
    seed, count, tied, iou_weighted, least, pairs, monkeypatch
):
    monkeypatch.setattr("dethead.postprocess.suppression._PAIRS", pairs)  # of a piece; at the end: all in one
    found = candidates(seed, count, tied=tied)
    boxes, scores, labels = plain(found)
    kept = BoxVoting(least, iou_weighted)(found, 0.45, 100)
    assert kept.rows.tolist() == nms_by_loops(boxes, labels, 0.45)
    wanted = [voted_by_loops(boxes, scores, labels, row, least, iou_weighted) for row in kept.rows.tolist()]
    torch.testing.assert_close(kept.boxes.double(), torch.tensor(wanted).double(), rtol=0, atol=1e-5)
    assert torch.equal(kept.scores, found.scores[kept.rows])


@pytest.mark.parametrize(("seed", "count", "tied"), CASES)
@pytest.mark.parametrize(("least", "half"), [(0.5, 3.0), (0.7, 0.5)])
@pytest.mark.parametrize("pairs", [1, 100, 2**16])
def test_scores_are_judged_by_agreement_as_in_plain_loops(seed, count, tied, least, half, pairs, monkeypatch):
    monkeypatch.setattr("dethead.postprocess.suppression._PAIRS", pairs)
    found = candidates(seed, count, tied=tied)
    boxes, scores, labels = plain(found)
    rows = nms_by_loops(boxes, labels, 0.45)
    moved = {row: voted_by_loops(boxes, scores, labels, row, least, True) for row in rows}
    judged = {row: judged_by_loops(boxes, scores, labels, row, moved[row], least, half) for row in rows}
    kept = BoxVoting(least, True, half)(found, 0.45, 100)
    assert sorted(kept.rows.tolist()) == rows
    for row, box, score in zip(kept.rows.tolist(), kept.boxes.tolist(), kept.scores.tolist(), strict=True):
        assert box == pytest.approx(moved[row], abs=1e-5)
        assert score == pytest.approx(judged[row], rel=1e-5)
    assert kept.scores.tolist() == sorted(kept.scores.tolist(), reverse=True)


def test_agreement_by_hand():
    # three on one object, one of them with IoU 0.5, and one alone that scores as high
    boxes = torch.tensor([[0.0, 0, 20, 20], [50, 0, 70, 20], [0, 0, 20, 20], [0, 0, 20, 10]])
    found = Candidates(boxes, torch.tensor([0.8, 0.8, 0.4, 0.2]), torch.zeros(4).long(), torch.zeros(4), SIZE)
    kept = BoxVoting(0.7, False, 2.0)(found, 0.4, 4)
    assert kept.rows.tolist() == [0, 1]
    assert kept.boxes.tolist() == [[0, 0, 20, 20], [50, 0, 70, 20]]
    mean = (0.8 + 0.4 + 0.2 * 0.5) / 1.4
    assert kept.scores.tolist() == pytest.approx(
        [math.sqrt(0.8 * mean * 1.2 / (1.2 + 2.0)), math.sqrt(0.8 * 0.8 / (0.8 + 2.0))]
    )
    assert BoxVoting(0.7)(found, 0.4, 4).scores.tolist() == pytest.approx([0.8, 0.8])


def test_those_that_others_agree_with_come_first_and_are_wanted():
    boxes = torch.tensor([[50.0, 0, 70, 20], *[[0.0, 0, 20, 20]] * 5])
    found = Candidates(boxes, torch.tensor([0.9, *[0.8] * 5]), torch.zeros(6).long(), torch.zeros(6), SIZE)
    assert BoxVoting(0.7)(found, 0.4, 1).rows.tolist() == [0]
    assert BoxVoting(0.7, agreement=3.0)(found, 0.4, 1).rows.tolist() == [1]


@pytest.mark.parametrize("agreement", [0.0, 3.0])
def test_what_is_below_its_threshold_votes_and_is_no_survivor(agreement):
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 10], [50, 0, 70, 20]])
    scores, lowest = torch.tensor([0.9, 0.3, 0.2]), torch.tensor([0.4, 0.4, 0.4])
    low = Candidates(boxes, scores, torch.zeros(3).long(), lowest, SIZE)
    free = low._replace(lowest=torch.zeros(3))
    kept, every = (BoxVoting(0.5, agreement=agreement)(one, 0.4, 3) for one in (low, free))
    assert (kept.rows.tolist(), every.rows.tolist()) == ([0], [0, 2])
    assert torch.equal(kept.boxes, every.boxes[:1])
    assert torch.equal(kept.scores, every.scores[:1])


def test_box_voting_by_hand():
    # IoU 0.5 with the survivor; weights 0.9 and 0.3
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 10]])
    found = Candidates(boxes, torch.tensor([0.9, 0.3]), torch.zeros(2).long(), torch.zeros(2), SIZE)
    assert BoxVoting()(found, 0.4, 2).boxes.tolist() == [[0, 0, 20, pytest.approx(17.5)]]
    weighted = (0.9 * 20 + 0.3 * 0.5 * 10) / (0.9 + 0.3 * 0.5)
    assert BoxVoting(iou_weighted=True)(found, 0.4, 2).boxes.tolist() == [[0, 0, 20, pytest.approx(weighted)]]


def test_votes_of_score_0_move_nothing():
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 10]])
    found = Candidates(boxes, torch.zeros(2), torch.zeros(2).long(), torch.zeros(2), SIZE)
    assert BoxVoting()(found, 0.4, 2).boxes.tolist() == [[0, 0, 20, 20]]
    assert BoxVoting(agreement=3.0)(found, 0.4, 2).scores.tolist() == [0.0]


@pytest.mark.parametrize("suppression", [NMS(), SoftNMS(), BoxVoting(), BoxVoting(agreement=3.0)], ids=repr)
def test_no_candidates_are_no_survivors(suppression):
    kept = suppression(candidates(0, 0), 0.6, 5)
    assert [tuple(part.shape) for part in kept] == [(0,), (0, 4), (0,)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftNMS(0.0), "sigma must be above 0 and finite, got 0.0"),
        (lambda: SoftNMS(math.inf), "sigma must be above 0 and finite, got inf"),
        (lambda: BoxVoting(0.0), r"overlap must be in \(0, 1\], got 0.0"),
        (lambda: BoxVoting(1.1), r"overlap must be in \(0, 1\], got 1.1"),
        (lambda: BoxVoting(agreement=-1.0), "agreement must be at least 0 and finite, got -1.0"),
        (lambda: BoxVoting(agreement=math.inf), "agreement must be at least 0 and finite, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# In the post-processor


def scene(anchors=80, classes=3):
    corner = torch.rand(anchors, 2) * 50
    boxes = torch.cat([corner, corner + 15 + 30 * torch.rand(anchors, 2)], dim=1)
    raw = torch.randn(1, anchors, classes + 5)
    raw[..., -4:] = 0.0
    return HeadOutput(raw), Anchors(boxes, (slice(0, anchors),), (1,), ((1, anchors),))


def detect(output, anchors, **options):
    post = Postprocessor(SigmoidBCE(), BoxCodec(), **options)
    return post(output, anchors, [Resize(SIZE, (1.0, 1.0))])[0]


def pairs_of(output, anchors, threshold, top_k):
    """(K,) best pairs in plain loops: score, label, box; boxes inside the image."""
    raw = output.raw[0].double()
    scores = raw[:, :-5].sigmoid() * raw[:, -5:-4].sigmoid()
    found = [
        (score, label, [min(max(side, 0.0), 100.0) for side in anchors.boxes[row].double().tolist()])
        for row, line in enumerate(scores.tolist())
        for label, score in enumerate(line)
        if score >= threshold
    ]
    return [*zip(*sorted(found, key=lambda pair: -pair[0])[:top_k], strict=True)]


@pytest.mark.parametrize("options", [{"max_detections": 300}, {"max_detections": 9}, {"pre_nms_top_k": 50}])
def test_detections_with_soft_nms_are_those_of_plain_loops(options):
    output, anchors = scene()
    found = detect(output, anchors, suppression=SoftNMS(), score_threshold=0.1, **options)
    scores, labels, boxes = pairs_of(output, anchors, 0.1, options.get("pre_nms_top_k", 1000))
    wanted = options.get("max_detections", 300)
    taken = soft_nms_by_loops(boxes, scores, labels, [0.1] * len(scores), 0.5, wanted)
    assert found.labels.tolist() == [labels[row] for row, _ in taken]
    assert found.scores.tolist() == pytest.approx([score for _, score in taken], rel=1e-5)
    assert found.boxes.tolist() == [pytest.approx(boxes[row], abs=1e-4) for row, _ in taken]
    assert (found.scores >= 0.1).all()


def test_probability_and_confidence_are_those_of_the_pair_whatever_became_of_its_score():
    output, anchors = scene()
    found = detect(output, anchors, suppression=SoftNMS())
    pure = found.class_probabilities * found.confidence
    assert (found.scores <= pure + 1e-6).all()
    assert (found.scores < 0.9 * pure).any()


def test_all_pairs_vote_also_where_few_detections_are_wanted():
    # 500 equal boxes and, far behind them in score, one that is half as high
    output = HeadOutput(torch.zeros(1, 501, 1 + 5))
    output.raw[0, -1, 0] = -1.0
    boxes = torch.tensor([[0.0, 0, 20, 20]] * 500 + [[0.0, 0, 20, 10]])
    anchors = Anchors(boxes, (slice(0, 501),), (1,), ((1, 501),))
    found = detect(output, anchors, suppression=BoxVoting(0.5), max_detections=1)
    low = torch.tensor(-1.0).sigmoid().item()
    assert found.boxes.tolist() == [[0, 0, 20, pytest.approx((250 * 20 + low * 10) / (250 + low))]]


@pytest.mark.parametrize("suppression", [NMS(), BoxVoting(0.5), BoxVoting(0.5, True, 1.0)], ids=repr)
@pytest.mark.parametrize("own", [(), (0.0, 0.3, 0.9)])
def test_a_higher_threshold_leaves_what_reaches_it_as_it_is(suppression, own):
    output, anchors = scene(300)
    options = {"suppression": suppression, "max_detections": 900}
    every = detect(output, anchors, **options, score_threshold=0.001)
    some = detect(output, anchors, **options, score_threshold=0.25, class_thresholds=own)
    lowest = torch.tensor(own or (0.0,) * 3).clamp(min=0.25)[every.labels]
    wanted = every.select(every.scores >= lowest)
    assert 0 < len(wanted.scores) < len(every.scores)
    for one, two in zip(some, wanted, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("suppression", [NMS(), SoftNMS(), BoxVoting(), BoxVoting(agreement=0.5)], ids=repr)
def test_a_class_below_its_own_threshold_is_dropped_and_the_others_stay(suppression):
    output, anchors = scene()
    every = detect(output, anchors, suppression=suppression, score_threshold=0.01)
    some = detect(
        output, anchors, suppression=suppression, score_threshold=0.01, class_thresholds=(0.0, 0.3, 1.0)
    )
    others, lost = every.select(every.labels == 0), every.labels == 1
    for one, two in zip(some.select(some.labels == 0), others, strict=True):
        assert torch.equal(one, two)
    assert 0 < (some.labels == 1).sum() < lost.sum()
    assert some.scores[some.labels == 1].min() >= 0.3
    assert not (some.labels == 2).any()


def test_a_class_threshold_below_the_common_one_changes_nothing():
    output, anchors = scene()
    for one, two in zip(
        detect(output, anchors, score_threshold=0.2, class_thresholds=(0.1, 0.0, 0.2)),
        detect(output, anchors, score_threshold=0.2),
        strict=True,
    ):
        assert torch.equal(one, two)


def test_class_thresholds_of_other_classes_are_refused():
    output, anchors = scene()
    with pytest.raises(ValueError, match="2 class_thresholds for 3 classes"):
        detect(output, anchors, class_thresholds=(0.1, 0.2))
    with pytest.raises(ValueError, match=r"class_thresholds must be in \[0, 1\], got \(0.1, 1.2, 0.0\)"):
        detect(output, anchors, class_thresholds=(0.1, 1.2, 0.0))
