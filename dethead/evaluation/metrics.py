"""The 12 COCO numbers, of a whole set and of each class, and how they are shown."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The 12 COCO numbers, each in [0, 1], ``nan`` where there is no object to measure.

    AP is the mean over the IoU thresholds 0.50, 0.55, ..., 0.95 (and classes) of the precision averaged
    over 101 recall points, with at most 100 detections per image and class; AR is the recall reached.

    Source: https://cocodataset.org/#detection-eval
    """

    AP: float
    """Mean over the ten IoU thresholds."""
    AP50: float
    """At IoU 0.50."""
    AP75: float
    """At IoU 0.75."""
    APs: float
    """Objects up to 32 x 32 square pixels."""
    APm: float
    """Objects from 32 x 32 to 96 x 96 square pixels."""
    APl: float
    """Objects from 96 x 96 square pixels on."""
    AR1: float
    """Recall with 1 detection per image and class."""
    AR10: float
    """Recall with 10 detections per image and class."""
    AR100: float
    """Recall with 100 detections per image and class."""
    ARs: float
    """AR100 of small objects."""
    ARm: float
    """AR100 of medium objects."""
    ARl: float
    """AR100 of large objects."""

    def numbers(self) -> dict[str, float]:
        """Give the 12 numbers by name, in COCO's order."""
        return {name: getattr(self, name) for name in NUMBER_NAMES}


NUMBER_NAMES: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Numbers))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMetrics(Numbers):
    """The 12 numbers of one class."""

    name: str
    objects: int
    """How many objects of this class there are, crowds not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoMetrics(Numbers):
    """The 12 numbers: means over the classes for which they are defined."""

    per_class: tuple[ClassMetrics, ...]
    """One for each of the C classes, in the order of the labels."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None, in the file ``null``."""
        classes = [{"name": c.name, "objects": c.objects, **_plain(c)} for c in self.per_class]
        return {**_plain(self), "per_class": classes}

    def as_markdown(self) -> str:
        """Give a table in percent with one decimal, ``-`` where undefined: all classes, then each."""
        head = ["class", "objects", *NUMBER_NAMES]
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *self._rows()]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def as_table(self) -> "Table":
        """Give the same as a table for the terminal."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        # No frame and a space between columns: all of it fits into 80 characters.
        table = Table(title="COCO metrics, %", box=box.SIMPLE, show_edge=False, pad_edge=False, padding=0)
        table.add_column("class", overflow="fold")
        for name in ("objects", *NUMBER_NAMES):
            table.add_column(name, justify="right", no_wrap=True)
        for name, *values in self._rows():
            table.add_row(Text(name), *values)  # as plain text: "[car]" is a name, and no markup
        return table

    def _rows(self) -> list[list[str]]:
        together = ["all", str(sum(c.objects for c in self.per_class)), *_percents(self)]
        return [together, *([c.name, str(c.objects), *_percents(c)] for c in self.per_class)]


def _plain(numbers: Numbers) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in numbers.numbers().items()}


def _percents(numbers: Numbers) -> list[str]:
    return ["-" if math.isnan(value) else f"{100 * value:.1f}" for value in numbers.numbers().values()]
