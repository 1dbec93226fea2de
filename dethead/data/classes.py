"""Category id -> label: which categories of a COCO file are the C classes of a detector."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dethead.data.errors import DataError

ClassChoice = Sequence[str | Mapping[str, Sequence[str]]] | Mapping[str, Sequence[str]] | None
"""All categories (None), names in the order of their labels, or new names with the names they are made of."""


class Classes(NamedTuple):
    """The C classes and the only map between category ids and labels. One id may give several labels."""

    names: tuple[str, ...]
    """(C,) names, in the order of the labels."""
    category_ids: tuple[int, ...]
    """(C,) id that results are written with: the one of the first category the class is made of."""
    labels_of: dict[int, tuple[int, ...]]
    """Labels of every category id of the file, ascending; empty for a category that was not chosen."""

    def labels(self, category_ids: Iterable[int]) -> tuple[int, ...]:
        """Give the labels in [0, C) of a box, ascending, each once.

        Example:
            >>> categories = [{"id": 3, "name": "car"}, {"id": 8, "name": "truck"}]
            >>> street = choose_classes(categories, ["truck", "car"])
            >>> street.labels([3]), street.labels([3, 8])
            ((1,), (0, 1))
        """
        return tuple(sorted({label for category in category_ids for label in self.labels_of[category]}))


def choose_classes(categories: Sequence[Mapping[str, Any]], classes: ClassChoice = None) -> Classes:
    """Choose, order, rename and merge the categories of a file.

    Args:
        categories: records with a unique ``id`` and a unique ``name``, as in a COCO file; ids may have gaps.
        classes: None for all categories by ascending id. A list gives choice and order of the labels; an
            entry is a name, or ``{new name: [names of the file]}``. A mapping is a list of such entries. A
            category may be part of several classes: its boxes then carry several labels.

    Raises:
        DataError: a name that the file does not have (with the nearest one), no class, a class named twice.

    Example:
        >>> categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 8, "name": "truck"}]
        >>> merged = choose_classes(categories, [{"vehicle": ["car", "truck"]}, "person"])
        >>> merged.names, merged.category_ids, merged.labels_of
        (('vehicle', 'person'), (3, 1), {1: (1,), 3: (0,), 8: (0,)})
    """
    ids = {str(category["name"]): int(category["id"]) for category in categories}
    by_id = sorted(ids, key=lambda name: ids[name])
    parts = _parts(by_id if classes is None else classes)
    if not parts:
        raise DataError(f"classes must name at least one of the categories {[*ids]}")
    labels_of: dict[int, list[int]] = {category: [] for category in sorted(ids.values())}
    for label, (_, sources) in enumerate(parts):
        for source in dict.fromkeys(sources):
            labels_of[ids[_known(source, ids)]].append(label)
    return Classes(
        names=tuple(name for name, _ in parts),
        category_ids=tuple(ids[sources[0]] for _, sources in parts),
        labels_of={category: tuple(labels) for category, labels in labels_of.items()},
    )


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


def _known(name: str, ids: Mapping[str, int]) -> str:
    if name in ids:
        return name
    by_lower_case = {known.lower(): known for known in ids}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    hint = f"did you mean {by_lower_case[close[0]]!r}?" if close else f"it has {[*ids]}"
    raise DataError(f"the annotation file has no category {name!r}; {hint}")
