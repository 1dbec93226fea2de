"""How sure the numbers of one detector are: intervals over test images."""

from dataclasses import dataclass
from typing import Any

from dethead.evaluation.bootstrap import Progress, spread
from dethead.evaluation.intervals import Interval, check_level
from dethead.evaluation.matches import MatchTable
from dethead.evaluation.metrics import NUMBER_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreIntervals:
    """Intervals of the numbers of one set of detections, BCa over images."""

    numbers: dict[str, Interval]
    """The 12 numbers by name."""
    class_ap: tuple[Interval, ...]
    """(C,) of AP of each class."""
    resamples: int
    seed: int
    level: float
    """In (0, 1)."""

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; undefined is None."""
        return {
            "level": self.level,
            "resamples": self.resamples,
            "seed": self.seed,
            **{name: interval.as_list() for name, interval in self.numbers.items()},
            "per_class_AP": [interval.as_list() for interval in self.class_ap],
        }


def score_intervals(
    table: MatchTable,
    resamples: int = 2000,
    seed: int = 0,
    *,
    level: float = 0.95,
    progress: Progress | None = None,
) -> ScoreIntervals:
    """Give intervals of the 12 numbers and of the AP of each class.

    Of objects in fewer than 10 images nothing is known: such an interval is nan.

    Args:
        table: of I >= 2 images.
        resamples: S > 0.
        seed: of the resamples.
        level: in (0, 1).
        progress: is told of ``spread_size`` weightings in all.

    Raises:
        ValueError: fewer than 2 images, no resample, or a level outside (0, 1).
    """
    check_level(level)
    found = spread(table, resamples, seed, "bca", progress)
    numbers = {name: found.number(place).interval("bca", level) for place, name in enumerate(NUMBER_NAMES)}
    classes = [found.class_ap(label).interval("bca", level) for label in range(len(table.class_names))]
    return ScoreIntervals(
        numbers=numbers,
        class_ap=tuple(classes),
        resamples=resamples,
        seed=seed,
        level=level,
    )
