import pytest

from dethead.data.classes import choose_classes
from dethead.data.errors import DataError

CATEGORIES = [{"id": 8, "name": "truck"}, {"id": 1, "name": "person"}, {"id": 3, "name": "car"}]


def test_all_categories_run_by_ascending_id() -> None:
    classes = choose_classes(CATEGORIES)

    assert classes.names == ("person", "car", "truck")
    assert classes.category_ids == (1, 3, 8)


def test_names_in_another_order_give_labels_in_that_order() -> None:
    classes = choose_classes(CATEGORIES, ["truck", "person"])

    assert classes.category_ids == (8, 1)
    assert classes.labels_of == {1: (1,), 3: (), 8: (0,)}


def test_a_new_name_may_stand_for_one_category_or_several() -> None:
    classes = choose_classes(CATEGORIES, [{"pedestrian": ["person"]}, {"vehicle": ["truck", "car"]}])

    assert classes.names == ("pedestrian", "vehicle")
    assert classes.category_ids == (1, 8)
    assert classes.labels_of == {1: (0,), 3: (1,), 8: (1,)}


def test_a_mapping_is_a_list_of_its_entries() -> None:
    sources = {"pedestrian": ["person"], "vehicle": ["car", "truck"]}

    assert choose_classes(CATEGORIES, sources) == choose_classes(
        CATEGORIES, [{name: names} for name, names in sources.items()]
    )


def test_a_category_of_two_classes_gives_two_labels() -> None:
    classes = choose_classes(CATEGORIES, ["car", {"vehicle": ["car", "truck"]}])

    assert classes.labels([3]) == (0, 1)
    assert classes.labels([8]) == (1,)


def test_labels_of_a_box_are_ascending_and_each_once() -> None:
    classes = choose_classes(CATEGORIES, ["person", {"vehicle": ["truck", "car"]}])

    assert classes.labels([8, 3, 1]) == (0, 1)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["Car"], "no category 'Car'; did you mean 'car'"),
        ([{"a": ["persn"]}], "no category 'persn'; did you mean 'person'"),
        (["zebra"], r"no category 'zebra'; it has \['truck', 'person', 'car'\]"),
        (["car", "car"], "class 'car' is named 2 times"),
        (["car", {"car": ["truck"]}], "class 'car' is named 2 times"),
        ({"a": "car"}, "class 'a' must be made of a list of category names, got 'car'"),
        ({"a": []}, r"class 'a' must be made of a list of category names, got \[\]"),
        ([], "at least one"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(classes: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_classes(CATEGORIES, classes)  # type: ignore[arg-type]
