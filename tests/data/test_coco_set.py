import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_files import annotation, image
from torch import Tensor

from dethead.data.coco import CocoSet, CocoTruth
from dethead.data.errors import DataError

Write = Callable[..., Path]


def rows(truth: CocoTruth) -> list[tuple[list[float], int, bool]]:
    return [*zip(truth.boxes.tolist(), truth.labels.tolist(), truth.crowd.tolist(), strict=True)]


def test_a_box_becomes_corners_in_original_pixels(write_coco: Write) -> None:
    truth = CocoSet.read(write_coco([annotation(1, box=(1, 2, 10, 5), category=3)])).truth(0)

    assert truth.boxes.tolist() == [[1, 2, 11, 7]]
    assert truth.targets.tolist() == [[0, 1, 0]]
    assert truth.boxes.dtype == truth.targets.dtype == torch.float32
    assert truth.class_known.tolist() == [True]
    assert truth.ignore_boxes.shape == (0, 4)


def test_sparse_ids_and_another_order_reach_the_chosen_labels(write_coco: Write) -> None:
    path = write_coco([annotation(1, category=8), annotation(2, category=1), annotation(3, category=3)])

    coco = CocoSet.read(path, ["truck", {"pedestrian": ["person"]}])

    assert coco.truth(0).targets.tolist() == [[1, 0], [0, 1]]
    assert coco.classes.category_ids == (8, 1)


def test_images_without_boxes_are_kept_and_counted(write_coco: Write) -> None:
    coco = CocoSet.read(write_coco([annotation(1, image_id=9)], images=[image(9), image(4), image(6)]))

    assert len(coco) == 3
    assert [len(coco.truth(index).boxes) for index in range(3)] == [0, 0, 1]


def test_images_run_by_ascending_id_and_boxes_as_in_the_file(write_coco: Write) -> None:
    boxes = [annotation(5, 9, (1, 0, 2, 2)), annotation(4, 2, (2, 0, 2, 2)), annotation(1, 9, (3, 0, 2, 2))]

    coco = CocoSet.read(write_coco(boxes, images=[image(9, 30, 10), image(2, 50, 60, file_name="ä/2.png")]))

    assert coco.image_ids.tolist() == [2, 9]
    assert coco.sizes.tolist() == [[60, 50], [10, 30]]
    assert [coco.file_name(0), coco.file_name(1)] == ["ä/2.png", "9.png"]
    assert coco.truth(1).boxes[:, 0].tolist() == [1, 3]


def test_a_crowd_is_an_ignore_region_in_training_and_a_crowd_in_evaluation(write_coco: Write) -> None:
    coco = CocoSet.read(write_coco([annotation(1), annotation(2, box=(5, 5, 9, 9), iscrowd=1)]))

    assert coco.truth(0).ignore_boxes.tolist() == [[5, 5, 14, 14]]
    assert len(coco.truth(0).boxes) == 1
    assert rows(coco.evaluation_truth(0)) == [([1, 2, 10, 5], 1, False), ([5, 5, 9, 9], 1, True)]


def test_other_categories_are_background_unless_told(write_coco: Write) -> None:
    path = write_coco([annotation(1, category=3), annotation(2, box=(5, 5, 9, 9), category=1)])

    coco = CocoSet.read(path, ["car"])

    assert len(coco.truth(0).ignore_boxes) == 0
    assert len(coco.evaluation_truth(0).boxes) == 1


def test_other_categories_may_be_ignored_in_every_class(write_coco: Write) -> None:
    path = write_coco([annotation(1, box=(5, 5, 9, 9), category=1), annotation(2, category=3)])

    coco = CocoSet.read(path, ["car", "truck"], other_categories="ignore")

    assert coco.truth(0).boxes.tolist() == [[1, 2, 11, 7]]
    assert coco.truth(0).ignore_boxes.tolist() == [[5, 5, 14, 14]]
    assert rows(coco.evaluation_truth(0)) == [
        ([5, 5, 9, 9], 0, True),
        ([5, 5, 9, 9], 1, True),
        ([1, 2, 10, 5], 0, False),
    ]


@pytest.mark.parametrize("category", [None, -5])
def test_an_object_of_unknown_class_trains_no_class_and_is_a_crowd_of_every_class(
    write_coco: Write, category: int | None
) -> None:
    coco = CocoSet.read(write_coco([annotation(1, category=category)]), ["car", "truck"], ignore_index=-5)

    truth = coco.truth(0)
    assert truth.class_known.tolist() == [False]
    assert truth.boxes.tolist() == [[1, 2, 11, 7]]
    assert truth.targets.tolist() == [[0, 0]]
    assert rows(coco.evaluation_truth(0)) == [([1, 2, 10, 5], 0, True), ([1, 2, 10, 5], 1, True)]


def test_category_ids_give_a_box_several_labels(write_coco: Write) -> None:
    boxes = [annotation(1, category_ids=[8, 1], area=7.5), annotation(2, box=(5, 5, 9, 9))]

    coco = CocoSet.read(write_coco(boxes))

    assert coco.truth(0).targets.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert rows(coco.evaluation_truth(0)) == [
        ([1, 2, 10, 5], 0, False),
        ([1, 2, 10, 5], 2, False),
        ([5, 5, 9, 9], 1, False),
    ]
    assert coco.evaluation_truth(0).areas.tolist() == [7.5, 7.5, 81]


def test_equal_boxes_are_merged_only_when_told(write_coco: Write) -> None:
    boxes = [annotation(1, category=3), annotation(2, category=8), annotation(3, category=1, iscrowd=1)]
    path = write_coco(boxes)

    assert CocoSet.read(path).truth(0).targets.tolist() == [[0, 1, 0], [0, 0, 1]]
    merged = CocoSet.read(path, merge_equal_boxes=True).truth(0)
    assert merged.targets.tolist() == [[0, 1, 1]]
    assert len(merged.ignore_boxes) == 1


def test_merged_categories_count_as_one_class_and_crowds_as_none(write_coco: Write) -> None:
    boxes = [
        annotation(1, category=3),
        annotation(2, category=8),
        annotation(3, category=1),
        annotation(4, category=3, iscrowd=1),
        annotation(5, category=None),
    ]

    coco = CocoSet.read(write_coco(boxes), [{"vehicle": ["car", "truck"]}, "person"])

    assert coco.class_counts().tolist() == [2, 1]


def test_a_parent_is_learned_counted_and_evaluated_beside_its_children(write_coco: Write) -> None:
    boxes = [annotation(1, category=3), annotation(2, box=(5, 5, 9, 9), category=1)]

    coco = CocoSet.read(write_coco(boxes), ["car", "person"], hierarchy={"vehicle": ["car"]})

    assert coco.truth(0).targets.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert coco.class_counts().tolist() == [1, 1, 1]
    assert rows(coco.evaluation_truth(0)) == [
        ([1, 2, 10, 5], 0, False),
        ([1, 2, 10, 5], 2, False),
        ([5, 5, 9, 9], 1, False),
    ]


def test_a_crowd_of_a_child_is_one_of_its_parent(write_coco: Write) -> None:
    path = write_coco([annotation(1, iscrowd=1)])

    coco = CocoSet.read(path, ["car", "person"], hierarchy={"vehicle": ["car"]})

    assert rows(coco.evaluation_truth(0)) == [([1, 2, 10, 5], 0, True), ([1, 2, 10, 5], 2, True)]


def test_label_images_are_pairs_of_objects_that_are_trained_on(write_coco: Write) -> None:
    boxes = [
        annotation(1, image_id=9, category_ids=[3, 8]),
        annotation(2, image_id=9, category=3),
        annotation(3, image_id=4, category=3),
        annotation(4, image_id=4, category=1, iscrowd=1),
        annotation(5, image_id=6, category=None),
        annotation(6, image_id=6, category=1, box=(0, 0, 0, 5)),
    ]
    path = write_coco(boxes, images=[image(4), image(6), image(9)])

    coco = CocoSet.read(path, invalid_boxes="drop")

    # person, car, truck are the labels 0, 1, 2; images 4, 6, 9 have the places 0, 1, 2.
    assert coco.label_images().tolist() == [[1, 0], [1, 2], [2, 2]]


def test_weights_stay_with_their_boxes(write_coco: Write) -> None:
    boxes = [
        annotation(1, image_id=9, weight=0.5),
        annotation(2, image_id=9, iscrowd=1, weight=7),
        annotation(3, image_id=4, weight=0),
        annotation(4, image_id=9),
    ]

    coco = CocoSet.read(write_coco(boxes, images=[image(9), image(4)]))

    weights = [coco.truth(index).weights for index in (0, 1)]
    assert [None if one is None else one.tolist() for one in weights] == [[0.0], [0.5, 1.0]]
    assert coco.class_counts().tolist() == [0, 3, 0]  # of boxes, not of their weights


def test_weights_of_1_throughout_are_no_weights(write_coco: Write) -> None:
    plain = CocoSet.read(write_coco([annotation(1)]))
    ones = CocoSet.read(write_coco([annotation(1, weight=1)]))

    assert ones.truth(0).weights is None
    assert ones.fingerprint() == plain.fingerprint()
    assert CocoSet.read(write_coco([annotation(1, weight=2)])).fingerprint() != plain.fingerprint()


def test_equal_boxes_of_different_weights_are_not_merged_in_silence(write_coco: Write) -> None:
    boxes = [annotation(1, category=3, weight=2), annotation(2, category=8, weight=2)]
    merged = CocoSet.read(write_coco(boxes), merge_equal_boxes=True).truth(0)
    assert merged.weights is not None
    assert merged.weights.tolist() == [2]

    path = write_coco([*boxes, annotation(3, category=1)])
    with pytest.raises(DataError, match=r"json: annotations 1 and 3 of image 7 are one box.* 2 and 1;"):
        CocoSet.read(path, merge_equal_boxes=True)


def test_boxes_that_reach_out_are_cut_off_for_training_only_and_counted(
    write_coco: Write, caplog: pytest.LogCaptureFixture
) -> None:
    # The image is 40 x 20. The first box is out by rounding, the second by 3 px.
    boxes = [annotation(1, box=(-0.5, 0, 10, 10)), annotation(2, box=(30, 15, 13, 5))]

    coco = CocoSet.read(write_coco(boxes))

    assert coco.truth(0).boxes.tolist() == [[0, 0, 9.5, 10], [30, 15, 40, 20]]
    assert coco.evaluation_truth(0).boxes.tolist() == [[-0.5, 0, 10, 10], [30, 15, 13, 5]]
    assert coco.clipped == 1
    assert "1 boxes reach out" in caplog.text


def test_invalid_boxes_can_be_left_out_of_the_training_and_are_counted(write_coco: Write) -> None:
    boxes = [
        annotation(1),
        annotation(2, box=(5, 5, 0, 4)),
        annotation(3, box=(5, 5, 4, -1)),
        annotation(4, box=(41, 3, 5, 5)),
        annotation(5, box=(float("nan"), 3, 5, 5)),
        annotation(6, box=(1, 3, float("inf"), 5), iscrowd=1),
        annotation(7, box=(5, 5, 0, 4), iscrowd=1),
    ]

    coco = CocoSet.read(write_coco(boxes), invalid_boxes="drop")

    assert coco.truth(0).boxes.tolist() == [[1, 2, 11, 7]]
    assert len(coco.truth(0).ignore_boxes) == 0
    assert coco.dropped == {"not finite": 2, "no size": 3, "outside the image": 1}
    assert coco.class_counts().tolist() == [0, 1, 0]
    # pycocotools counts a box without size as an object that is never found.
    assert len(coco.evaluation_truth(0).boxes) == 5


def test_evaluation_truth_is_the_file_bit_for_bit(shared_folder: Path) -> None:
    path = shared_folder / "data" / "coco_eval_val2014_100" / "instances_val2014_100.json"
    content = json.loads(path.read_text())
    ids = sorted(category["id"] for category in content["categories"])

    coco = CocoSet.read(path)

    assert len(coco) == 100
    for index in range(100):
        truth = coco.evaluation_truth(index)
        expected = [entry for entry in content["annotations"] if entry["image_id"] == truth.image_id]
        assert truth.boxes.tolist() == [entry["bbox"] for entry in expected]
        assert truth.areas.tolist() == [entry["area"] for entry in expected]
        assert truth.crowd.tolist() == [bool(entry["iscrowd"]) for entry in expected]
        assert [ids[label] for label in truth.labels] == [entry["category_id"] for entry in expected]


def test_the_road_set_has_the_counts_it_is_published_with(shared_folder: Path) -> None:
    coco = CocoSet.read(shared_folder / "data" / "road" / "annotations" / "instances_train.json")

    assert len(coco) == 900
    assert coco.class_counts().tolist() == [264, 657, 337, 764, 404]
    assert sum(len(coco.truth(index).boxes) == 0 for index in range(900)) == 17


def test_kitti_classes_are_renamed_and_counted(shared_folder: Path) -> None:
    path = shared_folder / "data" / "format_fixtures" / "annotations" / "kitti_as_coco.json"
    coco = CocoSet.read(path, [{"car": ["Car"]}, {"pedestrian": ["Pedestrian"]}, {"truck": ["Truck"]}])

    assert coco.class_counts().tolist() == [21, 2, 1]


def test_kitti_dont_care_regions_are_ignored_with_the_other_categories(shared_folder: Path) -> None:
    path = shared_folder / "data" / "format_fixtures" / "annotations" / "kitti_as_coco.json"

    coco = CocoSet.read(path, ["Car"], other_categories="ignore")

    # 52 annotations, 21 of them cars; the 25 DontCare regions are among the others.
    assert sum(len(coco.truth(index).ignore_boxes) for index in range(10)) == 31


def test_the_fingerprint_follows_the_content_and_not_the_place(write_coco: Write, tmp_path: Path) -> None:
    path = write_coco([annotation(1)])
    first = CocoSet.read(path).fingerprint()
    moved = tmp_path / "moved.json"
    moved.write_bytes(path.read_bytes())

    assert CocoSet.read(moved).fingerprint() == first
    assert CocoSet.read(path, ["car"]).fingerprint() != first
    for changed in ({"box": (1, 2, 10, 5.001)}, {"category": 1}, {"iscrowd": 1}, {"area": 3.0}):
        assert CocoSet.read(write_coco([annotation(1, **changed)])).fingerprint() != first
    assert CocoSet.read(write_coco([annotation(1)], images=[image(7, file_name="b")])).fingerprint() != first


def test_memory_is_tens_of_bytes_an_image_and_box_and_no_python_object(write_coco: Write) -> None:
    images = [image(id_) for id_ in range(2000)]
    boxes = [annotation(id_, image_id=id_ % 2000) for id_ in range(4000)]

    coco = CocoSet.read(write_coco(boxes, images=images))

    # An image: id, size, two starts, its name. A box: 4 coordinates, area, label and its start, 3 flags.
    assert len(pickle.dumps(coco)) < 2000 * 55 + 4000 * 60 + 10_000
    columns = [value for value in vars(coco).values() if isinstance(value, Tensor | np.ndarray)]
    assert len(columns) == 12
