"""The file of an ablation, and the record that is left of it: keys, types and what is allowed."""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from dethead.config import Run
from dethead.config.sections import Section

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_JOINT = "+"
"""Between the levels in a variant's name; in no level's name, so that no two combinations are named alike."""
MOST_CHARACTERS = 100
"""In the name of a variant: with seed and hash it stays within the 255 of a file's name."""

Seed = Annotated[int, Field(ge=0)]


class Change(NamedTuple):
    """A variant as the file states it."""

    changes: dict[str, Any]
    same_as: str | None = None
    seed_offset: int = 0


class StatedVariant(Section):
    """``{key: value}``, or ``{changes: {key: value}, same_as: NAME, seed_offset: N}``."""

    changes: dict[str, Any] = Field(default_factory=dict)
    """Dotted key -> value."""
    same_as: str | None = None
    """The variant that this one is expected to equal; its changes count here, too, and need no repetition."""
    seed_offset: Seed = 0
    """Added to every seed, so that the runs share no random numbers with those of ``same_as``."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.keys() & cls.model_fields.keys():
            return {"changes": values}
        return values

    @model_validator(mode="after")
    def _offset_of_equals(self) -> Self:
        if self.seed_offset and self.same_as is None:
            raise ValueError(
                f"seed_offset {self.seed_offset} goes with same_as: other variants are compared seed by seed"
            )
        return self


class PlanFile(Section):
    """An ablation as a person writes it down."""

    base: str
    """Name of a shipped config, or a file beside this one."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """To the base, in all variants."""
    factors: dict[str, dict[str, dict[str, Any]]] | None = None
    """Factor -> level -> changes; every combination of levels becomes a variant. ``{}`` is as the base."""
    variants: dict[str, StatedVariant] | None = None
    """Or the variants one by one."""
    baseline: str
    """The variant that all others are compared with."""
    seeds: int | list[int]
    """How many (0, 1, 2, ...), or which."""

    @field_validator("variants", mode="before")
    @classmethod
    def _variant_names(cls, variants: Any) -> Any:
        for name, changes in variants.items() if isinstance(variants, dict) else ():
            _check_name(name)
            if not isinstance(changes, dict):
                raise ValueError(f"{name!r} must be a mapping of changes, {{}} for none, got {changes!r}")
        return variants

    @field_validator("factors", mode="before")
    @classmethod
    def _levels(cls, factors: Any) -> Any:
        for name, levels in factors.items() if isinstance(factors, dict) else ():
            if isinstance(levels, dict) and len(levels) < 2:
                raise ValueError(f"{name!r} needs two levels or more, got {', '.join(map(str, levels))}")
            for level in levels if isinstance(levels, dict) else ():
                _check_name(level)
        return factors

    @field_validator("seeds", mode="before")
    @classmethod
    def _some_seeds(cls, seeds: Any) -> Any:
        """In one place, since an error of each of two types would be two mistakes."""
        given = seeds if isinstance(seeds, list) else [seeds]
        least = 0 if isinstance(seeds, list) else 1
        if not given or not all(type(seed) is int and seed >= least for seed in given):
            raise ValueError(f"must be how many (1, 2, ...) or a list of seeds (0, 1, ...), got {seeds!r}")
        if max(given) >= 2**32:
            raise ValueError(f"{max(given)} is too large: seeds are below 2**32, {2**32}")
        twice = [seed for seed in given if given.count(seed) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is there twice in {seeds}")
        return seeds

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.factors is None) == (self.variants is None):
            given = "neither" if self.factors is None else "both"
            raise ValueError(f"give factors (a full grid) or variants (one by one), got {given}")
        if len(self.stated()) < 2:
            raise ValueError(f"a comparison needs two variants or more, got {len(self.stated())}")
        return self

    def stated(self) -> dict[str, Change]:
        """Give all variants, a grid written out; ``same_as`` is not followed yet."""
        if self.variants is not None:
            return {name: Change(v.changes, v.same_as, v.seed_offset) for name, v in self.variants.items()}
        return dict(_grid(self.factors or {}))

    def all_seeds(self) -> tuple[int, ...]:
        """Give the S seeds."""
        return tuple(range(self.seeds) if isinstance(self.seeds, int) else self.seeds)


class VariantRecord(Section):
    """A variant in plan.yaml."""

    changes: dict[str, Any]
    same_as: str | None = None
    seed_offset: Seed = 0
    sections: dict[str, Any] = Field(default_factory=dict)
    """Sections of its config that are not as the baseline's, whole."""


class PlanRecord(Section):
    """plan.yaml: a plan that needs no other file."""

    name: str
    base: str
    overrides: list[str]
    baseline: str
    seeds: list[Seed]
    variants: dict[str, VariantRecord]
    run: Run
    """The baseline's config, every default spelled out."""


def _check_name(name: Any) -> None:
    """Names become parts of folder names, on every system; and YAML makes numbers of some."""
    if not isinstance(name, str):
        raise ValueError(f"the name {name!r} is not text: put it in quotes")
    if not _NAME.fullmatch(name) or len(name) > MOST_CHARACTERS:
        raise ValueError(
            f"the name {name!r} cannot be a folder's: allowed are up to {MOST_CHARACTERS} letters, digits, "
            "and '.', '_', '-' behind the first"
        )


def _grid(factors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[tuple[str, Change]]:
    """Every combination of levels; two factors that set one key would overwrite each other."""
    owner: dict[str, str] = {}
    for factor, levels in factors.items():
        for key in {key for changes in levels.values() for key in changes}:
            if owner.setdefault(key, factor) != factor:
                raise ValueError(f"factors {owner[key]!r} and {factor!r} both set {key}")
    for names in product(*factors.values()):
        parts = [levels[name] for levels, name in zip(factors.values(), names, strict=True)]
        yield _JOINT.join(names), Change({key: value for part in parts for key, value in part.items()})
