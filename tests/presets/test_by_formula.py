"""Presets of systems that are not installed, against their formulas in float64 NumPy, written out here.

The gradients are compared with central differences of the formulas.
"""

import numpy as np
import pytest
import torch

from dethead.criterion import Term
from dethead.losses import giou_loss, l1
from dethead.normalisers import Constant, by_anchors, by_positives, count
from dethead.presets import detectron2_retinanet, efficientdet, yolov3, yolox
from dethead.running import RunningState
from dethead.schemes import Focal, SigmoidBCE
from dethead.structures import IGNORE, GroundTruth, HeadOutput

C = 3
SIZE = (64, 64)
BOXES = [
    torch.tensor([[3.0, 5, 36, 40], [20, 10, 45, 61], [40, 38, 63, 62]], dtype=torch.float64),
    torch.tensor([[10.0, 12, 52, 50]], dtype=torch.float64),
]
LABELS = [torch.tensor([2, 0, 1]), torch.tensor([1])]


def bce(logit, target):
    return np.logaddexp(0, logit) - target * logit


def focal(logit, target, gamma):
    yes = 1 / (1 + np.exp(-logit))
    alpha_t = np.where(target == 1, 0.25, 0.75)
    return alpha_t * np.where(target == 1, 1 - yes, yes) ** gamma * bce(logit, target)


def center_size(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def deltas_of(boxes, anchors):
    (center, size), (middle, sides) = center_size(boxes), center_size(anchors)
    return np.concatenate([(center - middle) / sides, np.log(size / sides)], axis=1)


def huber(error, delta):
    size = np.abs(error)
    return np.where(size <= delta, error**2 / 2, delta * (size - delta / 2))


def iou(first, second):
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    inner = np.clip(sides, 0, None).prod(axis=1)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (first, second)]
    return inner / (areas[0] + areas[1] - inner)


class Case:
    """Two images, and what a formula needs of them in NumPy."""

    def __init__(self, preset, size=SIZE):
        self.preset = preset
        placed = preset.grid.place(size)
        self.anchors = placed._replace(boxes=placed.boxes.double())
        shape = (2, len(placed.boxes), C + 5)
        self.raw = (0.7 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
        pairs = zip(BOXES, LABELS, strict=True)
        self.truth = [GroundTruth.from_labels(boxes, labels, num_classes=C) for boxes, labels in pairs]
        predictions = preset.postprocessor.predictions(HeadOutput(self.raw), self.anchors)
        self.assignment = preset.assigner(self.anchors, self.truth, predictions)
        self.counts = count(self.assignment)
        matched = self.assignment.matched.numpy()
        self.image, self.anchor = (matched >= 0).nonzero()
        self.kept = matched != IGNORE
        row = matched[self.image, self.anchor]
        self.boxes = np.stack([BOXES[i].numpy()[r] for i, r in zip(self.image, row, strict=True)])
        self.labels = np.array([LABELS[i][r] for i, r in zip(self.image, row, strict=True)])
        self.at = self.anchors.boxes.numpy()[self.anchor]

    def terms(self):
        terms = self.preset.criterion(
            HeadOutput(self.raw), self.assignment, self.truth, self.anchors, counts=self.counts
        )
        return {name: value for name, value in terms.scalars().items() if name != "total"}

    def one_hot(self):
        """(B, A, C)"""
        target = np.zeros((*self.kept.shape, C))
        target[self.image, self.anchor, self.labels] = 1
        return target

    def at_positives(self, values):
        return values[self.image, self.anchor]

    def check(self, formula):
        """The terms, and the gradient of their sum at 4 numbers of every positive and at 20 others."""
        start = self.raw.detach().numpy()
        ours, wanted = self.terms(), formula(start)
        assert ours.keys() == wanted.keys()
        for name, value in wanted.items():
            assert ours[name].item() == pytest.approx(value, rel=1e-6, abs=1e-12), name
        (gradient,) = torch.autograd.grad(sum(ours.values()), self.raw)
        random = np.random.default_rng(0)
        places = [(i, a, int(n)) for i, a in zip(self.image, self.anchor, strict=True) for n in (1, 3, 5, 7)]
        places = places[:40] + [tuple(random.integers(start.shape)) for _ in range(20)]
        for place in places:
            step = np.zeros_like(start)
            step[place] = 1e-5
            difference = sum(formula(start + step).values()) - sum(formula(start - step).values())
            # the quotient is good to 1e-16 of the sum over 2e-5
            assert gradient[place].item() == pytest.approx(difference / 2e-5, rel=1e-5, abs=1e-6), place


def focal_formula(case, gamma, divisor, box_loss, box_factor):
    target = case.one_hot()

    def formula(raw):
        class_loss = focal(raw[..., :C], target, gamma)[case.kept].sum()
        error = case.at_positives(raw)[:, -4:] - deltas_of(case.boxes, case.at)
        return {
            "classification": class_loss / divisor,
            "confidence": 0,
            "box": box_factor * box_loss(error).sum() / divisor,
        }

    return formula


@pytest.mark.parametrize(
    ("beta", "box_loss"), [(0.1, lambda error: huber(error, 0.1) / 0.1), (0.0, np.abs)], ids=["0.1", "0"]
)
def test_detectron2_retinanet_divides_by_a_running_mean_of_positives(beta, box_loss):
    case, running = Case(detectron2_retinanet(beta)), RunningState(C)
    positives, mean = len(case.image), 100.0
    assert positives not in (0, 100)
    assert not case.kept.all()
    for _ in range(2):  # the second step, so that the mean has moved by its own rule
        case.counts = running.with_mean(count(case.assignment))
        mean = 0.9 * mean + 0.1 * positives
    case.check(focal_formula(case, 2.0, mean, box_loss, 1.0))


def test_efficientdet_divides_by_one_more_than_the_positives_and_its_hubers_loss_by_four_times_that():
    case = Case(efficientdet())
    case.check(focal_formula(case, 1.5, len(case.image) + 1, lambda error: huber(error, 0.1), 50 / 4))


def yolox_formula(case, with_l1):
    sides = case.anchors.boxes.numpy()[:, 2:] - case.anchors.boxes.numpy()[:, :2]
    stride = sides[case.anchor]
    cell = case.at[:, :2] / stride  # column and row
    positives = len(case.image)

    def decoded(raw):
        code = case.at_positives(raw)[:, -4:]
        center, size = (code[:, :2] + cell) * stride, np.exp(code[:, 2:]) * stride
        return np.concatenate([center - size / 2, center + size / 2], axis=1)

    target = case.at_positives(case.one_hot())
    target = target * iou(decoded(case.raw.detach().numpy()), case.boxes)[:, None]  # no gradient through it
    objects = np.zeros(case.kept.shape)
    objects[case.image, case.anchor] = 1

    def formula(raw):
        terms = {
            "classification": bce(case.at_positives(raw)[:, :C], target).sum() / positives,
            "confidence": bce(raw[..., C], objects).sum() / positives,
            "box": 5 * (1 - iou(decoded(raw), case.boxes) ** 2).sum() / positives,
        }
        if with_l1:
            center, size = center_size(case.boxes)
            wanted = np.concatenate([center / stride - cell, np.log(size / stride)], axis=1)
            terms["l1"] = np.abs(case.at_positives(raw)[:, -4:] - wanted).sum() / positives
        return terms

    return formula


@pytest.mark.parametrize("with_l1", [False, True])
def test_yolox_teaches_the_iou_to_the_class_and_weighs_one_minus_iou_squared_five_times(with_l1):
    case = Case(yolox(with_l1=with_l1))
    assert len(case.image) >= 3  # untrained predictions overlap too little for more
    case.check(yolox_formula(case, with_l1))


def yolov3_formula(case):
    strides = np.concatenate(
        [
            np.full(level.stop - level.start, stride)
            for level, stride in zip(case.anchors.levels, case.anchors.strides, strict=True)
        ]
    )[case.anchor, None]
    center, size = center_size(case.boxes)
    place = center / strides - np.floor(center / strides)
    log_size = np.log(size / center_size(case.at)[1])
    target = case.at_positives(case.one_hot())
    objects = np.zeros(case.kept.shape)
    objects[case.image, case.anchor] = 1

    def formula(raw):
        positive = case.at_positives(raw)
        xy, wh = positive[:, -4:-2], positive[:, -2:]
        return {
            "classification": bce(positive[:, :C], target).sum(),
            "confidence": bce(raw[..., C], objects)[case.kept].sum(),
            "box": 2 * bce(xy, place).sum() + 2 * ((wh - log_size) ** 2).sum(),
        }

    return formula


def test_yolov3_divides_by_nothing_and_learns_where_in_its_cell_a_centre_is():
    case = Case(yolov3())
    assert len(case.image) >= 4
    assert not case.kept.all()
    case.check(yolov3_formula(case))


CHANGES = {
    "detectron2 gamma": (detectron2_retinanet, "scheme", Focal(alpha=0.25, gamma=1.5)),
    "detectron2 divisor": (detectron2_retinanet, "class_term", Term(1.0, by_positives)),
    "detectron2 beta": (detectron2_retinanet, "box_loss", l1),
    "efficientdet gamma": (efficientdet, "scheme", Focal(alpha=0.25, gamma=2.0)),
    "efficientdet alpha": (efficientdet, "scheme", Focal(alpha=0.3, gamma=1.5)),
    "efficientdet divisor": (efficientdet, "class_term", Term(1.0, by_positives)),
    "efficientdet box divisor": (efficientdet, "box_term", Term(1.25, by_positives)),
    "efficientdet box weight": (efficientdet, "box_term", Term(50.0, by_positives)),
    "yolox target": (yolox, "scheme", SigmoidBCE()),
    "yolox box loss": (yolox, "box_loss", giou_loss),
    "yolox box weight": (yolox, "box_term", Term(1.0)),
    "yolox confidence divisor": (yolox, "confidence_term", Term(1.0, by_anchors)),
    "yolox confidence target": (yolox, "confidence_target", "iou"),
    "yolov3 divisor": (yolov3, "confidence_term", Term(1.0, by_positives)),
    "yolov3 box weight": (yolov3, "box_term", Term(2.0, Constant(1.0))),
}


@pytest.mark.parametrize(("preset", "name", "value"), CHANGES.values(), ids=CHANGES)
def test_with_one_setting_changed_the_formula_no_longer_holds(preset, name, value):
    case = Case(preset())
    case.counts = case.counts._replace(running_positives=torch.tensor(90.0))
    positives = len(case.image)
    formula = {
        detectron2_retinanet: lambda: focal_formula(case, 2.0, 90, lambda e: huber(e, 0.1) / 0.1, 1.0),
        efficientdet: lambda: focal_formula(case, 1.5, positives + 1, lambda e: huber(e, 0.1), 50 / 4),
        yolox: lambda: yolox_formula(case, False),
        yolov3: lambda: yolov3_formula(case),
    }[preset]()
    wanted = formula(case.raw.detach().numpy())

    def worst():
        ours = case.terms()
        return max(abs(ours[term].item() - value) / max(value, 1) for term, value in wanted.items())

    assert worst() < 1e-6
    setattr(case.preset.criterion, name, value)
    assert worst() > 1e-3
