"""The typed way through an annotation file: ordinary files take it, and it decides as record by record."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest
from coco_files import CATEGORIES, annotation, image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dethead.data import records
from dethead.data.coco import CocoSet
from dethead.data.errors import DataError
from dethead.data.records import read_records
from dethead.data.typed_records import decode_records

UNKNOWN = -100


def text(annotations: Any = (), **changes: Any) -> str:
    content = {"images": [image(7), image(9)], "annotations": [*annotations], "categories": CATEGORIES}
    return json.dumps(content | changes)


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text([annotation(1, area=12.5, iscrowd=1, segmentation={"counts": [1, 2], "size": [3, 4]})]),
        text([annotation(1, segmentation=[[1, 2, 3, 4]], attributes={"occluded": False})]),
        text([annotation(1, category=None), annotation(2, category=UNKNOWN), annotation(3, area=None)]),
        text([annotation(1, category_ids=[3, 8])], info={"year": 2017}, licenses=[]),
        text(images=[image(7, file_name="straße/7.png", coco_url="x")]),
    ],
)
def test_ordinary_files_are_decoded_in_one_go(content: str) -> None:
    assert decode_records(content, UNKNOWN) is not None


NUMBERS = st.floats(-1e6, 1e6) | st.integers(-(2**60), 2**60)
GOOD_BOXES = st.fixed_dictionaries(
    {"image_id": st.sampled_from([7, 9]), "bbox": st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)},
    optional={
        "category_id": st.sampled_from([1, 3, 8, None, UNKNOWN]),
        "category_ids": st.lists(st.sampled_from([1, 3, 8]), min_size=1, max_size=3) | st.just([UNKNOWN]),
        "area": st.floats(0, 1e6) | st.integers(0, 2**60) | st.none(),
        "iscrowd": st.sampled_from([0, 1]),
        "weight": st.floats(0, 10) | st.integers(0, 3),
    },
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([0, 1, 3, 7, 7.0, 3.0, 1.0, 2**63, 2**63 - 1, UNKNOWN]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)
BOX_KEYS = ["id", "image_id", "bbox", "area", "iscrowd", "category_id", "category_ids", "weight"]
BAD_BOXES = st.builds(
    lambda box, key, value: box | {key: value}, GOOD_BOXES, st.sampled_from(BOX_KEYS), ANYTHING
)


def verdict(path: Path) -> Any:
    try:
        return read_records(path, UNKNOWN)
    except DataError as error:
        return str(error)


def assert_same_verdict(path: Path) -> None:
    both = verdict(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "decode_records", lambda *_: None)
        careful = verdict(path)
    assert repr(both) == repr(careful)  # also 1 and 1.0 and True apart


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(boxes=st.lists(GOOD_BOXES | BAD_BOXES, max_size=3))
def test_boxes_are_read_as_record_by_record(tmp_path: Path, boxes: list[Any]) -> None:
    path = tmp_path / "a.json"
    path.write_text(text([{"id": i} | box for i, box in enumerate(boxes)]))
    assert_same_verdict(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    part=st.sampled_from(["images", "categories"]),
    key=st.sampled_from(["id", "file_name", "height", "width", "name"]),
    value=ANYTHING,
)
def test_images_and_categories_are_read_as_record_by_record(
    tmp_path: Path, part: str, key: str, value: Any
) -> None:
    parts: dict[str, list[dict[str, Any]]] = {"images": [image(7), image(9)], "categories": CATEGORIES}
    first, *others = parts[part]
    path = tmp_path / "a.json"
    path.write_text(text([annotation(1)], **{part: [first | {key: value}, *others]}))
    assert_same_verdict(path)


@pytest.mark.parametrize(
    "content",
    [
        text([annotation(1), annotation(1)]),
        text([annotation(1, image_id=8)]),
        text([annotation(1, category=2)]),
        text(images=[image(7), image(7)]),
        text(images=[]),
        text(categories=[*CATEGORIES, {"id": 3, "name": "bus"}]),
        text(categories=[*CATEGORIES, {"id": 4, "name": "car"}]),
        text(categories=[{"id": UNKNOWN, "name": "car"}]),
    ],
)
def test_ids_that_do_not_fit_together_are_left_to_the_careful_way(content: str) -> None:
    assert decode_records(content, UNKNOWN) is None


def test_images_come_by_ascending_id() -> None:
    found = decode_records(text(images=[image(9), image(7)]), UNKNOWN)
    assert found is not None
    assert [one.id for one in found.images] == [7, 9]


def test_the_garbage_collector_is_on_again_after_a_fault(tmp_path: Path) -> None:
    assert gc.isenabled()
    with pytest.raises(DataError):
        CocoSet.read(tmp_path / "absent.json")
    assert gc.isenabled()
