"""Every mistake an annotation file can have is refused, and the message names it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_files import CATEGORIES, annotation, image

from dethead.data.coco import CocoSet
from dethead.data.errors import DataError

NAN, INF = float("nan"), float("inf")


def without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            annotation(5, box=(1, 2, 0, 5)),
            "annotation 5 of image 7 (7.png, 40 px wide, 20 px high): box [1.0, 2.0, 0.0",
        ),
        (annotation(5, box=(1, 2, 3, -5)), "no size"),
        (annotation(5, box=(40, 2, 3, 5)), "outside the image"),
        (annotation(5, box=(1, -9, 3, 5)), "outside the image"),
        (annotation(5, box=(NAN, 2, 3, 5)), "not finite"),
        (annotation(5, box=(1, 2, INF, 5)), "not finite"),
        (
            annotation(5, box=(1, 2, 3)),
            "annotation 5: bbox must be 4 numbers x, y, width, height, is [1, 2, 3]",
        ),
        (annotation(5, box=("1", 2, 3, 4)), "annotation 5: bbox must be 4 numbers"),
        (annotation(5, box=(True, 2, 3, 4)), "annotation 5: bbox must be 4 numbers"),
        (annotation(5, box=(10**400, 2, 3, 4)), "annotation 5: bbox must be 4 numbers"),
        (
            without(annotation(5), "bbox"),
            "annotation 5: bbox must be 4 numbers x, y, width, height, is missing",
        ),
        (without(annotation(5), "id"), "annotation without id: id must be a whole number, is missing"),
        (without(annotation(5), "image_id"), "annotation 5: image_id must be a whole number, is missing"),
        (without(annotation(5), "category_id"), "annotation 5: category_id must be ids of categories"),
        (annotation("a"), "annotation a: id must be a whole number, is 'a'"),
        (annotation(5, image_id=99), "annotation 5 is of image 99, which is not in 'images'"),
        (
            annotation(5, category=2),
            "annotation 5: category_id must be one of the ids in 'categories', [1, 3, 8], is 2",
        ),
        (annotation(5, category_ids=[3, 2]), "annotation 5: category_ids must be one of the ids"),
        (annotation(5, category_ids=[]), "annotation 5: category_ids must be ids of categories, or null"),
        (annotation(5, category_ids=3), "annotation 5: category_ids must be ids of categories"),
        (annotation(5, iscrowd=2), "annotation 5: iscrowd must be 0 or 1, is 2"),
        (annotation(5, area=-1), "annotation 5: area must be a number of px^2 >= 0, is -1"),
        (annotation(5, area=NAN), "annotation 5: area must be a number"),
        (annotation(5, area="9"), "annotation 5: area must be a number"),
        (annotation(5, weight=-0.5), "annotation 5: weight must be a number in [0, 2**63), is -0.5"),
        (annotation(5, weight=NAN), "annotation 5: weight must be a number"),
        (annotation(5, weight=INF), "annotation 5: weight must be a number"),
        (annotation(5, weight=1e300), "annotation 5: weight must be a number"),
        (annotation(5, weight="2"), "annotation 5: weight must be a number"),
        (annotation(5, weight=True), "annotation 5: weight must be a number"),
        (annotation(5, weight=None), "annotation 5: weight must be a number in [0, 2**63), is None"),
    ],
)
def test_a_bad_annotation_is_named(write_coco: Callable[..., Path], entry: Any, message: str) -> None:
    path = write_coco([annotation(1), entry])

    with pytest.raises(DataError, match=re.escape(message)) as error:
        CocoSet.read(path)

    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [image(7), image(7)]}, "image id 7 is used twice"),
        ({"images": [without(image(7), "height")]}, "image 7: height must be a whole number, is missing"),
        ({"images": [without(image(7), "file_name")]}, "image 7: file_name must be text, is missing"),
        ({"images": [image(7, height=0)]}, "image 7: size must be at least 1 x 1"),
        ({"images": [image(7, width=1.5)]}, "image 7: width must be a whole number, is 1.5"),
        ({"images": []}, "'images' is empty"),
        ({"images": {}}, "'images' must be a list of objects, is dict"),
        ({"annotations": "none"}, "'annotations' must be a list of objects, is str"),
        ({"annotations": [3]}, "'annotations' must be a list of objects"),
        ({"annotations": [annotation(1), annotation(1)]}, "annotation id 1 is used twice"),
        ({"categories": [*CATEGORIES, {"id": 3, "name": "bus"}]}, "category id 3 is used twice"),
        ({"categories": [*CATEGORIES, {"id": 4, "name": "car"}]}, "category name 'car' is used twice"),
        ({"categories": [{"id": 4}]}, "category 4: name must be text, is missing"),
        ({"categories": [{"id": -100, "name": "x"}]}, "category 'x' has the id -100 of unknown classes"),
    ],
)
def test_a_bad_file_is_named(write_coco: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        CocoSet.read(write_coco(**changes))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_missing_part_is_named(tmp_path: Path, key: str) -> None:
    parts = {"images": [], "annotations": [], "categories": []}
    del parts[key]
    path = tmp_path / "a.json"
    path.write_text(str(parts).replace("'", '"'))

    with pytest.raises(DataError, match=f"'{key}' must be a list of objects, is missing"):
        CocoSet.read(path)


def test_malformed_json_is_placed_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images": [],\n "annotations": [,]}')

    with pytest.raises(DataError, match=re.escape(f"{path}: line 2, column 18: not JSON")):
        CocoSet.read(path)


def test_a_result_file_a_missing_file_and_a_picture_are_refused(tmp_path: Path) -> None:
    results, picture = tmp_path / "results.json", tmp_path / "picture.json"
    results.write_text("[]")
    picture.write_bytes(b"\xff\xd8\xff\xe0")

    with pytest.raises(
        DataError, match="must hold an object with images, annotations and categories, holds a list"
    ):
        CocoSet.read(results)
    with pytest.raises(DataError, match=r"absent\.json: cannot be read: No such file"):
        CocoSet.read(tmp_path / "absent.json")
    with pytest.raises(DataError, match="is not UTF-8 text at byte 0"):
        CocoSet.read(picture)


def test_a_byte_order_mark_is_no_mistake(write_coco: Callable[..., Path]) -> None:
    path = write_coco([annotation(1)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert len(CocoSet.read(path)) == 1


def test_the_number_of_invalid_boxes_is_given(write_coco: Callable[..., Path]) -> None:
    path = write_coco([annotation(id_, box=(1, 2, 0, 5)) for id_ in (1, 2, 3)])

    with pytest.raises(DataError, match="3 invalid boxes in all"):
        CocoSet.read(path)
