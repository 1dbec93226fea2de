"""Plans of ablations: read from a file and checked whole, written down and read back.

A plan names a base config, its variants (a grid of factors, or one by one), the baseline and the seeds:

    base: road_traffic_softmax_ce
    variants:
      softmax_ce: {}
      sigmoid_bce: {class_scheme: {name: sigmoid_bce}}
    baseline: softmax_ce
    seeds: 5

A changed key may be a single value (``training.epochs``) or a whole section, which is replaced, not merged.
Shorter keys are laid down first: ``class_scheme.class_weights`` of one factor goes into the ``class_scheme``
of another, in whichever order they stand.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from dethead.ablation.plan_checks import PlanError, check_plan, check_stated
from dethead.ablation.plan_file import Change, PlanFile, PlanRecord
from dethead.ablation.variants import ABSENT, Difference, Plan, PlannedRun, Variant, differences
from dethead.config import (
    ConfigError,
    Run,
    check,
    check_section,
    find,
    find_ablation,
    override_with,
    parse_yaml,
    read_yaml,
    set_key,
)

__all__ = [
    "ABSENT",
    "Difference",
    "Plan",
    "PlanError",
    "PlannedRun",
    "Variant",
    "differences",
    "dump_plan",
    "load_plan",
    "parse_plan",
]


def load_plan(source: str | Path, overrides: Sequence[str] = (), seeds: int | None = None) -> Plan:
    """Read an ablation and check it whole, as far as that needs no data.

    Args:
        source: a YAML file, or the name of a shipped ablation such as "ce_vs_bce".
        overrides: ``key.sub=value``, changes to the base.
        seeds: S, takes the place of the file's seeds: 0 to S - 1.

    Raises:
        PlanError: naming file, variant, key and what would be right.
    """
    with _as_plan_error():
        path = find_ablation(source)
        stated = _read(path)
    with _as_plan_error(f"{path}: "):
        base = _base_values(path.parent, stated, overrides)
        plan = Plan(
            name=path.stem,
            base=stated.base,
            variants=tuple(_variants(stated, base)),
            baseline=stated.baseline,
            seeds=stated.all_seeds() if seeds is None else _first_seeds(seeds),
            overrides=tuple(overrides),
        )
        check_plan(plan)
    return plan


def dump_plan(plan: Plan) -> str:
    """Give the YAML of a plan, complete in itself: ``parse_plan`` needs neither its file nor its base."""
    run = plan.variant(plan.baseline).run.model_dump(mode="json")
    values = {
        "name": plan.name,
        "base": plan.base,
        "overrides": [*plan.overrides],
        "baseline": plan.baseline,
        "seeds": [*plan.seeds],
        "variants": {one.name: _record(one, run) for one in plan.variants},
        "run": run,
    }
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)


def parse_plan(text: str, source: str = "plan.yaml") -> Plan:
    """Read what ``dump_plan`` wrote.

    Args:
        text: the YAML.
        source: named in errors.

    Raises:
        PlanError: not a plan, or one that this version of dethead cannot read.
    """
    with _as_plan_error():
        record = check_section(PlanRecord, parse_yaml(text, source), source)
        run = record.run.model_dump(mode="json")
        variants = tuple(
            Variant(
                name=name,
                run=check({**run, **one.sections}, f"{source}: variant {name!r}"),
                changes=one.changes,
                same_as=one.same_as,
                seed_offset=one.seed_offset,
            )
            for name, one in record.variants.items()
        )
    with _as_plan_error(f"{source}: "):
        check_stated({one.name: Change({}, one.same_as) for one in variants}, record.baseline)
    return Plan(
        record.name, record.base, variants, record.baseline, tuple(record.seeds), tuple(record.overrides)
    )


def _read(path: Path) -> PlanFile:
    values = read_yaml(path)
    if "base" not in values and values.keys() & Run.model_fields.keys():
        raise PlanError(f"{path}: is the config of one run; an ablation has a base and variants of it")
    return check_section(PlanFile, values, str(path))


def _base_values(folder: Path, stated: PlanFile, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the base, with the changes that all variants share; by itself it must be a good config."""
    beside = folder / stated.base
    with _as_plan_error("base: "):
        values = read_yaml(find(beside if beside.is_file() else stated.base))
    if "base" in values:
        raise PlanError(f"base: {stated.base} is itself an ablation; name the config of one run")
    _refuse_seed(stated.changes, "changes")
    with _as_plan_error("changes: "):
        _lay(values, stated.changes)
    for override in overrides:
        _refuse_seed({override.partition("=")[0]: None}, repr(override))
        override_with(values, override)
    check(values, f"base {stated.base}")
    return values


def _variants(stated: PlanFile, base: Mapping[str, Any]) -> Iterator[Variant]:
    """Resolve every variant; the mistakes of all of them are told at once."""
    changes = stated.stated()
    check_stated(changes, stated.baseline)
    mistakes: dict[str, list[str]] = {}  # what is wrong -> the variants; in a grid one level is in many
    for name, own in changes.items():
        source = f"variant {name!r}"
        inherited = changes[own.same_as].changes if own.same_as is not None else {}
        try:
            _refuse_seed(own.changes, source)
            run = _resolve(base, inherited | own.changes, source)
            _refuse_idle_keys(base, inherited, own.changes, run, source)
        except ConfigError as error:
            for line in str(error).splitlines():
                mistakes.setdefault(line.removeprefix(f"{source}: "), []).append(source)
        else:
            yield Variant(name, run, inherited | own.changes, own.same_as, own.seed_offset)
    if mistakes:
        raise PlanError("\n".join(f"{', '.join(sources)}: {what}" for what, sources in mistakes.items()))


def _resolve(base: Mapping[str, Any], changes: Mapping[str, Any], source: str) -> Run:
    values = deepcopy(dict(base))
    with _as_plan_error(f"{source}: "):
        _lay(values, changes)
    return check(values, source)


def _lay(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Lay changes over the values of a config, whole sections before the keys in them."""
    for key in sorted(changes, key=lambda one: one.count(".")):
        set_key(values, key, deepcopy(changes[key]))


def _refuse_idle_keys(
    base: Mapping[str, Any],
    inherited: Mapping[str, Any],
    changes: Mapping[str, Any],
    run: Run,
    source: str,
) -> None:
    """A change that changes nothing is a mistake: the variant is not what its author takes it for."""
    for key, value in changes.items():
        others = {name: one for name, one in changes.items() if name != key}
        try:
            without = _resolve(base, {**inherited, **others}, source)
        except ConfigError:  # then it is needed
            continue
        if without == run:
            raise PlanError(
                f"{source}: {key} {value!r} changes nothing: the base says so already; {{}} is 'as the base'"
            )


def _refuse_seed(changes: Mapping[str, Any], source: str) -> None:
    if "seed" in changes:
        raise PlanError(
            f"{source}: seed is no matter of a config here; give seeds, or same_as and seed_offset"
        )


def _first_seeds(count: int) -> tuple[int, ...]:
    if count < 1:
        raise PlanError(f"seeds must be at least 1, got {count}")
    return tuple(range(count))


def _record(variant: Variant, baseline: Mapping[str, Any]) -> dict[str, Any]:
    sections = variant.run.model_dump(mode="json")
    # A copy: what two variants share would be written once, and referred to by an alias.
    record: dict[str, Any] = {"changes": deepcopy(dict(variant.changes))}
    if variant.same_as is not None:
        record |= {"same_as": variant.same_as, "seed_offset": variant.seed_offset}
    record["sections"] = {key: value for key, value in sections.items() if value != baseline[key]}
    return record


@contextmanager
def _as_plan_error(prefix: str = "") -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        lines = (f"{prefix}{line}" for line in str(error).splitlines())
        raise PlanError("\n".join(lines)) from None
