"""What an ablation consists of: variants of a config, each trained with the same seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dethead.config import Run, flat

ABSENT = "-"
"""In a difference: the key that the other side does not have."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the configs that are compared."""

    name: str
    """Good for a folder's name."""
    run: Run
    """The whole config; its seed is the base's, and no run's."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What it changes of the base: dotted key -> value; empty for the base itself."""
    same_as: str | None = None
    """The variant that it is expected to equal."""
    seed_offset: int = 0
    """Added to the seeds of the plan. Above 0 its runs share no random numbers with those of the others."""


class PlannedRun(NamedTuple):
    """One training of an ablation."""

    variant: Variant
    seed: int
    """The plan's: runs of one seed are compared as a pair."""
    run: Run
    """The config to train, with its own seed: ``seed + variant.seed_offset``."""

    @property
    def name(self) -> str:
        """``<variant>-seed<seed>``, as its folder's begins."""
        return f"{self.variant.name}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole ablation, checked: V variants, S seeds."""

    name: str
    base: str
    """The config that all variants change, as the plan's file names it."""
    variants: tuple[Variant, ...]
    baseline: str
    """Name of the variant that the others are compared with."""
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()
    """Changes to the base from the command line."""

    def runs(self) -> tuple[PlannedRun, ...]:
        """Give all V * S runs, seed by seed and the baseline first, so that pairs are complete early."""
        order = sorted(self.variants, key=lambda one: one.name != self.baseline)
        return tuple(
            PlannedRun(one, seed, one.run.model_copy(update={"seed": seed + one.seed_offset}))
            for seed in self.seeds
            for one in order
        )

    def variant(self, name: str) -> Variant:
        """Give the variant of a name.

        Raises:
            KeyError: there is none.
        """
        for one in self.variants:
            if one.name == name:
                return one
        raise KeyError(f"no variant {name!r} in {self.name}: {', '.join(one.name for one in self.variants)}")


class Difference(NamedTuple):
    """A key in which a variant is not as the baseline."""

    key: str
    """Dotted, down to single values."""
    baseline: Any
    """Its value there, ``ABSENT`` where the baseline has no such key."""
    variant: Any
    """Its value in the variant."""


def differences(plan: Plan) -> dict[str, tuple[Difference, ...]]:
    """Say in which keys each variant is not as the baseline: every key of the whole configs is compared.

    Returns:
        A row for each key, by the name of the variant; none for the baseline, nor for a variant of equal
        config.
    """
    before = flat(plan.variant(plan.baseline).run.model_dump(mode="json"))
    return {one.name: _rows(before, flat(one.run.model_dump(mode="json"))) for one in plan.variants}


def _rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    keys = [*after, *(key for key in before if key not in after)]
    rows = (Difference(key, before.get(key, ABSENT), after.get(key, ABSENT)) for key in keys)
    return tuple(row for row in rows if row.baseline != row.variant)
