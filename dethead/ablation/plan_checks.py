"""What a plan must fulfil before anything trains; each mistake is refused by name."""

import difflib
from collections.abc import Collection
from itertools import combinations

from dethead.ablation.plan_file import MOST_CHARACTERS, Change
from dethead.ablation.variants import Plan, Variant
from dethead.config import ConfigError


class PlanError(ConfigError):
    """An ablation that cannot be meant."""


SCORED = (
    "classes",
    "hierarchy",
    "other_categories",
    "invalid_boxes",
    "merge_equal_boxes",
    "skip_unreadable",
)
"""Keys of ``data`` that decide what is scored: variants must agree in them to be compared."""


def check_stated(stated: dict[str, Change], baseline: str) -> None:
    """Check names and what they refer to, before any config is looked at.

    Raises:
        PlanError: names too long or equal on some disks, a baseline or ``same_as`` that is not there.
    """
    folders: dict[str, str] = {}
    for name in stated:
        if len(name) > MOST_CHARACTERS:
            raise PlanError(f"the variant's name {name!r} has {len(name)} characters, {MOST_CHARACTERS} fit")
        other = folders.setdefault(name.lower(), name)
        if other != name:
            raise PlanError(f"variants {other!r} and {name!r} are one folder where case does not count")
    if baseline not in stated:
        raise PlanError(f"baseline: {_unknown(baseline, stated)}")
    if stated[baseline].same_as is not None:
        raise PlanError(
            f"baseline {baseline!r} is marked same_as {stated[baseline].same_as!r}: that one is the baseline"
        )
    for name, change in stated.items():
        if change.same_as is not None:
            _check_same_as(name, change.same_as, stated)


def _check_same_as(name: str, other: str, stated: dict[str, Change]) -> None:
    if other not in stated:
        raise PlanError(f"variant {name!r}: same_as: {_unknown(other, stated)}")
    if other == name or stated[other].same_as is not None:
        kind = "itself" if other == name else f"{other!r}, which is same_as another"
        raise PlanError(f"variant {name!r}: same_as names {kind}; name a variant that stands for itself")


def check_plan(plan: Plan) -> None:
    """Check that the variants can be told apart and compared.

    Raises:
        PlanError: naming the variants.
    """
    baseline = plan.variant(plan.baseline)
    for one in plan.variants:
        _check_same_truth(one, baseline)
    for one, other in combinations(plan.variants, 2):
        equal = one.run == other.run
        if equal and not _expected_equal(one, other):
            raise PlanError(
                f"variants {one.name!r} and {other.name!r} are alike; if that is meant, mark one: "
                f"{{same_as: {one.name}}}"
            )
        if equal or _expected_equal(one, other):
            _check_offsets(one, other, plan.seeds)


def _check_same_truth(one: Variant, baseline: Variant) -> None:
    for key in SCORED:
        value, wanted = getattr(one.run.data, key), getattr(baseline.run.data, key)
        if value != wanted:
            raise PlanError(
                f"variant {one.name!r}: data.{key} {value} is not the baseline's {wanted}; it changes what "
                "is scored, so that APs cannot be compared. For all variants it may stand under changes"
            )


def _expected_equal(one: Variant, other: Variant) -> bool:
    return (one.same_as or one.name) == (other.same_as or other.name)


def _check_offsets(one: Variant, other: Variant, seeds: Collection[int]) -> None:
    """Equal variants share all seeds, and are compared in pairs, or none."""
    mine, theirs = ({seed + each.seed_offset for seed in seeds} for each in (one, other))
    shared = sorted(mine & theirs)
    if shared and mine != theirs:
        raise PlanError(
            f"variant {other.name!r}: seed_offset {other.seed_offset} gives it seed {shared[0]} of its equal "
            f"{one.name!r} (seed_offset {one.seed_offset}), but not all its seeds: offsets must be equal, or "
            f"at least {max(seeds) - min(seeds) + 1} apart"
        )


def _unknown(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
    return f"no variant {name!r}; {hint}"
