"""Category id -> label: which categories of a COCO file are the C classes of a detector."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dethead.data.errors import DataError

ClassChoice = Sequence[str | Mapping[str, Sequence[str]]] | Mapping[str, Sequence[str]] | None
"""All categories (None), names in the order of their labels, or new names with the names they are made of."""

Hierarchy = Mapping[str, Sequence[str]]
"""Parent classes, each with the classes below it: ``{"vehicle": ["car", "bus"]}``."""


class Classes(NamedTuple):
    """The C classes and the only map between category ids and labels. One id may give several labels."""

    names: tuple[str, ...]
    """(C,) names, in the order of the labels."""
    category_ids: tuple[int, ...]
    """(C,) id that results are written with: of the first category the class is made of; a parent's own."""
    labels_of: dict[int, tuple[int, ...]]
    """Labels of a box of every category id of the file, ascending; empty if it was not chosen."""
    result_labels: dict[int, tuple[int, ...]]
    """Labels of a row of a results file: a detection of a car does not speak for the parent's class."""

    def labels(self, category_ids: Iterable[int]) -> tuple[int, ...]:
        """Give the labels in [0, C) of a box, ascending, each once.

        Example:
            >>> categories = [{"id": 3, "name": "car"}, {"id": 8, "name": "truck"}]
            >>> street = choose_classes(categories, ["truck", "car"])
            >>> street.labels([3]), street.labels([3, 8])
            ((1,), (0, 1))
        """
        return tuple(sorted({label for category in category_ids for label in self.labels_of[category]}))


def choose_classes(
    categories: Sequence[Mapping[str, Any]], classes: ClassChoice = None, hierarchy: Hierarchy | None = None
) -> Classes:
    """Choose, order, rename and merge the categories of a file, and put parents above them.

    Args:
        categories: records with a unique ``id`` and a unique ``name``, as in a COCO file; ids may have gaps.
        classes: None for all categories by ascending id. A list gives choice and order of the labels; an
            entry is a name, or ``{new name: [names of the file]}``. A mapping is a list of such entries. A
            category may be part of several classes: its boxes then carry several labels.
        hierarchy: parent -> names of ``classes`` or of parents before it. A parent is one more class, after
            the chosen ones in the order given; boxes of the classes below it carry its label, too. Results
            are written with ids that the file does not use: from its largest one on.

    Raises:
        DataError: a name that the file does not have (with the nearest one), no class, a class named twice,
            a hierarchy that is none.

    Example:
        >>> categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 8, "name": "truck"}]
        >>> merged = choose_classes(categories, [{"vehicle": ["car", "truck"]}, "person"])
        >>> merged.names, merged.category_ids, merged.labels_of
        (('vehicle', 'person'), (3, 1), {1: (1,), 3: (0,), 8: (0,)})
        >>> both = choose_classes(categories, ["car", "truck"], {"vehicle": ["car", "truck"]})
        >>> both.names, both.category_ids, both.labels_of
        (('car', 'truck', 'vehicle'), (3, 8, 9), {1: (), 3: (0, 2), 8: (1, 2)})
    """
    ids = {str(category["name"]): int(category["id"]) for category in categories}
    by_id = sorted(ids, key=lambda name: ids[name])
    parts = _parts(by_id if classes is None else classes)
    if not parts:
        raise DataError(f"classes must name at least one of the categories {[*ids]}")
    labels_of: dict[int, list[int]] = {category: [] for category in sorted(ids.values())}
    for label, (_, sources) in enumerate(parts):
        for source in dict.fromkeys(sources):
            labels_of[ids[_known(source, ids, "the annotation file has no category")]].append(label)
    chosen = {category: tuple(labels) for category, labels in labels_of.items()}
    flat = Classes(
        names=tuple(name for name, _ in parts),
        category_ids=tuple(ids[sources[0]] for _, sources in parts),
        labels_of=chosen,
        result_labels=chosen,
    )
    return _with_parents(flat, hierarchy) if hierarchy else flat


def _with_parents(classes: Classes, hierarchy: Hierarchy) -> Classes:
    carried = _carried_labels(classes.names, hierarchy)
    first_label, first_id = len(classes.names), max(classes.labels_of) + 1
    parent_ids = range(first_id, first_id + len(hierarchy))
    return Classes(
        names=(*classes.names, *hierarchy),
        category_ids=(*classes.category_ids, *parent_ids),
        labels_of={
            category: tuple(sorted({label for own in labels for label in carried[own]}))
            for category, labels in classes.labels_of.items()
        },
        result_labels=classes.result_labels
        | {category: (first_label + place,) for place, category in enumerate(parent_ids)},
    )


def _carried_labels(names: Sequence[str], hierarchy: Hierarchy) -> list[set[int]]:
    """Give the labels that a box of each class carries, its own and those of all parents above it."""
    labels = {name: label for label, name in enumerate(names)}
    carried = [{label} for label in range(len(names))]
    for parent, children in hierarchy.items():
        if parent in labels:
            raise DataError(f"hierarchy: parent {parent!r} is a class already; give it another name")
        below = {labels[_child(child, parent, labels, hierarchy)] for child in _sources(parent, children)}
        label = labels[parent] = len(carried)
        for one in carried:
            if one & below:  # a class below the child carries the child's label, and is below the parent
                one.add(label)
        carried.append({label})
    return carried


def _child(name: str, parent: str, labels: Collection[str], hierarchy: Hierarchy) -> str:
    if name in hierarchy and name not in labels:
        raise DataError(
            f"hierarchy: {name!r}, below {parent!r}, must be written before it: levels are built from the "
            "classes up, and none can be below itself"
        )
    return _known(name, labels, f"hierarchy: parent {parent!r} has a child that is no class of the run:")


def _parts(classes: Sequence[str | Mapping[str, Sequence[str]]] | Mapping[str, Sequence[str]]) -> list[Any]:
    """Write every form of a choice as a list of (class name, names of the file)."""
    parts: list[tuple[str, list[str]]] = []
    for entry in [classes] if isinstance(classes, Mapping | str) else classes:
        parts += (
            [(entry, [entry])] if isinstance(entry, str) else [(n, _sources(n, s)) for n, s in entry.items()]
        )
    names = [name for name, _ in parts]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"class {name!r} is named {names.count(name)} times; every class must be named once"
            )
    return parts


def _sources(name: str, sources: Sequence[str]) -> list[str]:
    # A lone string would be read as a list of letters.
    if isinstance(sources, str) or not sources:
        raise DataError(f"class {name!r} must be made of a list of category names, got {sources!r}")
    return [*sources]


def _known(name: str, names: Collection[str], complaint: str) -> str:
    if name in names:
        return name
    by_lower_case = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    hint = f"did you mean {by_lower_case[close[0]]!r}?" if close else f"it has {[*names]}"
    raise DataError(f"{complaint} {name!r}; {hint}")
