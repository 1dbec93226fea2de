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


def test_a_parent_is_one_more_class_whose_label_its_children_carry() -> None:
    classes = choose_classes(CATEGORIES, ["truck", "person", "car"], {"vehicle": ["car", "truck"]})

    assert classes.names == ("truck", "person", "car", "vehicle")
    assert [classes.labels([category]) for category in (8, 1, 3)] == [(0, 3), (1,), (2, 3)]


def test_results_of_a_parent_have_an_id_that_the_file_does_not_use() -> None:
    hierarchy = {"vehicle": ["car"], "mover": ["vehicle", "person"]}

    classes = choose_classes(CATEGORIES, ["person", "car"], hierarchy)

    assert classes.category_ids == (1, 3, 9, 10)
    # A row of a results file is of one class: the parent has rows of its own.
    assert classes.result_labels == {1: (0,), 3: (1,), 8: (), 9: (2,), 10: (3,)}


def test_a_parent_may_be_part_of_a_later_one() -> None:
    hierarchy = {"vehicle": ["car", "truck"], "mover": ["person", "vehicle"], "all": ["mover"]}

    classes = choose_classes(CATEGORIES, None, hierarchy)

    assert classes.names == ("person", "car", "truck", "vehicle", "mover", "all")
    assert [classes.labels([category]) for category in (1, 3, 8)] == [(0, 4, 5), (1, 3, 4, 5), (2, 3, 4, 5)]


def test_children_are_classes_of_the_run_after_renaming_and_merging() -> None:
    classes = choose_classes(
        CATEGORIES, [{"motor": ["car", "truck"]}, {"walker": ["person"]}], {"mover": ["walker", "motor"]}
    )

    assert classes.labels_of == {1: (1, 2), 3: (0, 2), 8: (0, 2)}


def test_a_child_of_two_parents_carries_both() -> None:
    classes = choose_classes(CATEGORIES, ["car", "truck"], {"a": ["car"], "b": ["car", "truck"]})

    assert classes.labels_of == {1: (), 3: (0, 2, 3), 8: (1, 3)}


def test_no_hierarchy_changes_nothing() -> None:
    assert choose_classes(CATEGORIES, ["car"], {}) == choose_classes(CATEGORIES, ["car"])
    assert choose_classes(CATEGORIES, ["car"]).result_labels == {1: (), 3: (0,), 8: ()}


@pytest.mark.parametrize(
    ("hierarchy", "message"),
    [
        (
            {"vehicle": ["Car"]},
            "parent 'vehicle' has a child that is no class of the run: 'Car'; did you",
        ),
        ({"vehicle": ["truck"]}, r"no class of the run: 'truck'; it has \['car', 'person'\]"),
        ({"car": ["person"]}, "parent 'car' is a class already"),
        ({"vehicle": []}, r"class 'vehicle' must be made of a list of category names, got \[\]"),
        ({"vehicle": "car"}, "class 'vehicle' must be made of a list of category names, got 'car'"),
        ({"vehicle": ["vehicle"]}, "'vehicle', below 'vehicle', must be written before it"),
        ({"a": ["b"], "b": ["car"]}, "'b', below 'a', must be written before it"),
        ({"a": ["car", "b"], "b": ["a"]}, "'b', below 'a', must be .* none can be below itself"),
    ],
)
def test_a_hierarchy_that_cannot_be_is_refused(hierarchy: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_classes(CATEGORIES, ["car", "person"], hierarchy)


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
