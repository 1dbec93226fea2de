"""Coverage of boxes by anchors, against plain loops and by hand."""

import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from dethead.anchors import AnchorGrid
from dethead.assigners import (
    ATSSAssigner,
    CenterAssigner,
    MaxIoUAssigner,
    SimOTAAssigner,
    TaskAlignedAssigner,
)
from dethead.boxes import iou
from dethead.data.seen_boxes import SeenBoxes
from dethead.evaluation.recall_ceiling import recall_ceiling
from dethead.structures import GroundTruth

GRID = AnchorGrid.from_sizes([8, 16], [12, 30], ratios=[0.5, 1.0, 2.0])
SIZE = (64, 96)
NAMES = ("car", "truck")


def image(boxes, labels, scale=1.0):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    truth = GroundTruth.from_labels(boxes, torch.tensor(labels, dtype=torch.int64), len(NAMES))
    sides = (boxes[:, 2:] - boxes[:, :2]).double() / scale
    return SeenBoxes(truth, sides.prod(dim=1))


def drawn(images=11, seed=0):
    draw = np.random.default_rng(seed)
    seen = []
    for _ in range(images):
        count = int(draw.integers(0, 4))
        corner, side = draw.uniform(0, 40, (count, 2)), draw.uniform(4, 40, (count, 2))
        seen.append(
            image(np.concatenate([corner, corner + side], axis=1), draw.integers(0, 2, count).tolist())
        )
    return seen


def measure(seen, assigner=None, grid=GRID):
    found = recall_ceiling(seen, grid, SIZE, assigner or MaxIoUAssigner(), NAMES)
    return {group.name: group for group in found.groups}


def test_every_number_is_that_of_plain_loops():
    seen, anchors = drawn(), GRID.place(SIZE)
    shapes = [shape for level in GRID.shapes for shape in level]
    rows = []
    for one in seen:
        matched = MaxIoUAssigner()(anchors, [one.truth]).matched[0]
        strict = MaxIoUAssigner(low_quality=False)(anchors, [one.truth]).matched[0]
        for row, box in enumerate(one.truth.boxes.double()):
            width, height = (box[2:] - box[:2]).tolist()
            inner = [min(width, w) * min(height, h) for w, h in shapes]
            centred = max(i / (width * height + w * h - i) for i, (w, h) in zip(inner, shapes, strict=True))
            best = float(iou(box, anchors.boxes.double()).max())
            numbers = int((matched == row).sum()), int((strict == row).sum())
            rows.append((centred, best, *numbers, float(one.areas[row]), int(one.truth.targets[row, 1])))
    rows = np.array(rows)
    found = measure(seen)
    chosen = {"all": rows[:, 0] > 0, "car": rows[:, 5] == 0, "truck": rows[:, 5] == 1}
    chosen |= {"small": rows[:, 4] <= 32**2, "medium": rows[:, 4] >= 32**2, "large": rows[:, 4] >= 96**2}
    for name, mask in chosen.items():
        some, group = rows[mask], found[name]
        assert group.boxes == len(some)
        if not len(some):
            continue
        wanted = [some[:, 0].mean(), (some[:, 1] >= 0.5).mean(), (some[:, 1] >= 0.7).mean()]
        wanted += [
            (some[:, 2] > 0).mean(),
            (some[:, 3] > 0).mean(),
            *np.quantile(some[:, 2], (0.05, 0.5, 0.95)),
        ]
        numbers = [group.shape_iou, group.above_50, group.above_70, group.answered]
        numbers += [group.answered_without_low_quality, *group.positives]
        assert numbers == pytest.approx(wanted, abs=1e-6), name
    assert {"small", "medium"} <= {name for name, group in found.items() if group.boxes}
    assert found["all"].answered > found["all"].answered_without_low_quality  # what low quality saves


def test_an_anchor_in_its_own_place_covers_a_box_fully():
    found = measure([image([[6.0, 6, 18, 18]], [0])])["all"]  # the square anchor of the second cell
    assert found.shape_iou == pytest.approx(1.0)
    assert (found.above_50, found.boxes) == (1.0, 1)


def test_sizes_are_those_of_the_original_image_and_a_limit_belongs_to_both():
    # 16 x 16 px of the network are 32 x 32 of the original
    found = measure([image([[0.0, 0, 16, 16]], [0], scale=0.5)])
    assert (found["small"].boxes, found["medium"].boxes, found["large"].boxes) == (1, 1, 0)


def test_a_box_with_two_labels_counts_for_both_and_one_of_unknown_class_for_none():
    one = image([[0.0, 0, 16, 16], [20, 20, 40, 40]], [0, -100])
    one.truth.targets[0] = 1.0
    found = measure([one])
    assert (found["all"].boxes, found["car"].boxes, found["truck"].boxes) == (2, 1, 1)


def test_boxes_between_all_centres_have_no_anchor_by_centre():
    tiny = image([[4.5, 4.5, 7.5, 7.5], [30, 20, 70, 50]], [0, 0])  # between the centres (4, 4) and (8, 8)
    found = measure([tiny], CenterAssigner())["all"]
    assert found.answered == 0.5
    assert math.isnan(found.answered_without_low_quality)


@pytest.mark.parametrize(
    "assigner", [ATSSAssigner(), SimOTAAssigner("softmax"), SimOTAAssigner("sigmoid"), TaskAlignedAssigner()]
)
def test_every_assigner_can_be_asked(assigner):
    found = recall_ceiling(drawn(), GRID, SIZE, assigner, NAMES)
    assert found.guessed == assigner.needs_predictions
    assert found.groups[0].answered > 0.8


def test_empty_groups_are_undefined_in_json_and_a_dash_in_the_table():
    found = recall_ceiling([image([], [])], GRID, SIZE, MaxIoUAssigner(), NAMES)
    assert all(group.boxes == 0 and math.isnan(group.answered) for group in found.groups)
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert values["groups"][0]["answered"] is None
    assert values["groups"][0]["positives"] == [None, None, None]
    console = Console(width=140)
    with console.capture() as captured:
        console.print(found.as_table("anchors"))
    assert "nan" not in captured.get()
    assert "-" in captured.get()


def test_without_low_quality_is_no_column_where_there_is_no_such_rule():
    for assigner, there in ((MaxIoUAssigner(), True), (ATSSAssigner(), False)):
        table = recall_ceiling(drawn(), GRID, SIZE, assigner, NAMES).as_table("anchors")
        heads = [column.header for column in table.columns]
        assert ("without low quality, %" in heads) == there
