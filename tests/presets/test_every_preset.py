"""What every preset promises: parts that fit each other, and the settings of the system it is named after."""

import inspect

import pytest
import torch

from dethead import presets
from dethead.assigners import CenterAssigner, MaxIoUAssigner, SimOTAAssigner
from dethead.heads import DetectionHead
from dethead.postprocess import class_only, geometric_mean, product
from dethead.structures import IGNORE, GroundTruth, Resize

SIZE = (64, 96)
MAKERS = [f for name, f in vars(presets).items() if inspect.isfunction(f)]
every_preset = pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)

# fusion, score threshold, suppression, kept, class prior, confidence prior, anchors per cell
SETTINGS = {
    "retinanet_torchvision": (class_only, 0.05, 0.5, 300, 0.01, 0.5, 9),
    "retinanet_torchvision_v2": (class_only, 0.05, 0.5, 300, 0.01, 0.5, 9),
    "fcos_torchvision": (geometric_mean, 0.2, 0.6, 100, 0.01, 0.5, 1),
    "detectron2_retinanet": (class_only, 0.05, 0.5, 100, 0.01, 0.5, 9),
    "efficientdet": (class_only, 0.0, 0.5, 100, 0.01, 0.5, 9),
    "yolox": (product, 0.01, 0.65, 8400, 0.01, 0.01, 1),
    "yolov3": (product, 0.05 * 0.005, 0.45, 100, 0.01, 0.01, 3),
}
ASSIGNERS = {
    "retinanet_torchvision": MaxIoUAssigner(0.5, 0.4, low_quality=True),
    "retinanet_torchvision_v2": MaxIoUAssigner(0.5, 0.4, low_quality=True),
    "fcos_torchvision": CenterAssigner(1.5),
    "detectron2_retinanet": MaxIoUAssigner(0.5, 0.4, low_quality=True),
    "efficientdet": MaxIoUAssigner(0.5, 0.5, low_quality=True),
    "yolox": SimOTAAssigner("sigmoid", 1.5, 3.0, 10, center_only=True),
    "yolov3": presets.yolov3().assigner,
}


def head_of(preset):
    return DetectionHead(8, preset.grid.anchors_per_cell, 3, preset.scheme, depth=1, **preset.head)


def step(preset, head, features, truth):
    """One forward pass: the terms, the assignment, and the output."""
    output, anchors = head(features), preset.grid.place(SIZE)
    predictions = preset.postprocessor.predictions(output, anchors)
    assignment = preset.assigner(anchors, truth, predictions)
    return preset.criterion(output, assignment, truth, anchors), assignment, output


def features_of(preset):
    return [torch.randn(2, 8, *cells) for cells in preset.grid.cells(SIZE)]


def some_truth():
    boxes = torch.tensor([[4.0, 6, 40, 50], [30, 20, 90, 60]])
    several = GroundTruth.from_labels(boxes, torch.tensor([0, 2]), num_classes=3)
    return [several, GroundTruth.from_labels(boxes[:0], torch.tensor([], dtype=torch.int64), num_classes=3)]


@every_preset
def test_settings_are_the_systems(make):
    preset = make()
    post, head = preset.postprocessor, preset.head
    values = (post.fusion, post.score_threshold, post.nms_iou, post.max_detections)
    values += (head["class_prior"], head["confidence_prior"], preset.grid.anchors_per_cell)
    assert values == SETTINGS[make.__name__]
    assert preset.assigner == ASSIGNERS[make.__name__]


@every_preset
def test_all_parts_share_one_scheme_and_one_codec(make):
    preset = make()
    assert preset.criterion.scheme is preset.postprocessor.scheme is preset.scheme
    assert preset.criterion.codec is preset.postprocessor.codec is preset.codec


@every_preset
def test_it_trains_a_head_and_decodes_its_output(make):
    preset = make()
    head, features, truth = head_of(preset), features_of(preset), some_truth()
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-4)
    first, assignment, _ = step(preset, head, features, truth)
    assert (assignment.matched[0] >= 0).any()
    first.total.backward()
    assert all(weight.grad.isfinite().all() for weight in head.parameters())
    optimizer.step()
    output, anchors = head(features), preset.grid.place(SIZE)
    # of the same assignment, whose quality YOLOX teaches: a new one would be another target
    assert preset.criterion(output, assignment, truth, anchors).total < first.total
    found = preset.postprocessor(output, anchors, [Resize(SIZE, (1.0, 1.0))] * 2)
    assert all(one.boxes.isfinite().all() for one in found)


@every_preset
def test_without_objects_the_loss_is_finite_and_class_or_confidence_still_learn(make):
    preset = make()
    head, truth = head_of(preset), some_truth()[1:] * 2
    terms, _, output = step(preset, head, features_of(preset), truth)
    (gradient,) = torch.autograd.grad(terms.total, output.raw)
    assert terms.total.isfinite()
    assert terms.box == 0
    assert gradient[..., :4].any()


@every_preset
def test_ignore_regions_are_respected(make):
    preset, truth = make(), some_truth()
    everywhere = truth[1]._replace(ignore_boxes=torch.tensor([[-1e4, -1e4, 1e4, 1e4]]))
    terms, assignment, _ = step(preset, head_of(preset), features_of(preset), [everywhere] * 2)
    assert (assignment.matched == IGNORE).all()
    assert terms.total == 0


@every_preset
def test_it_says_what_it_cannot_do(make):
    assert all(line.endswith(".") for line in make().differs)
    assert make().differs


def test_every_preset_is_exported():
    assert {f.__name__ for f in MAKERS} == SETTINGS.keys() <= set(presets.__all__)


def test_anchor_shapes_by_hand():
    def shapes(make, level):
        return [pytest.approx(shape) for shape in make().grid.shapes[level]]

    third = 2 ** (1 / 3)
    wide, high = (1.4 * 32, 0.7 * 32), (0.7 * 32, 1.4 * 32)
    grown = [[(w * s, h * s) for w, h in [(32, 32), wide, high]] for s in (1, third, third**2)]
    assert shapes(presets.efficientdet, 0) == [shape for octave in grown for shape in octave]
    assert shapes(presets.efficientdet, 4)[0] == (512, 512)  # 4 strides of 128
    # ratio 0.5 (height / width) of 64^2 px^2: 64 sqrt 2 wide
    assert shapes(presets.detectron2_retinanet, 1)[0] == (64 * 2**0.5, 64 / 2**0.5)
    assert shapes(presets.detectron2_retinanet, 1)[4] == (64 * third, 64 * third)
    assert [shapes(presets.yolox, level) for level in range(3)] == [[(8, 8)], [(16, 16)], [(32, 32)]]
    assert [shapes(presets.fcos_torchvision, n) for n in (0, 4)] == [[(8, 8)], [(128, 128)]]
    assert shapes(presets.yolov3, 0)[0] == (10, 13)
    assert shapes(presets.yolov3, 2)[2] == (373, 326)
