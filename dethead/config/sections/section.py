"""What all sections share: strictness, ranges of numbers, choice by name."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: no unknown keys, no silent conversion, no later change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                close = difflib.get_close_matches(str(key), cls.model_fields, n=1)
                known = ", ".join(cls.model_fields)
                hint = f"did you mean {close[0]!r}?" if close else f"known keys: {known}"
                raise ValueError(f"unknown key {key!r}; {hint}")
        return values


class OwnPart(Section):
    """A part of the user's own, in place of a built-in one."""

    name: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """``package.module:factory``"""
    options: dict[str, Any] = {}
    """Keyword arguments of the factory."""


OWN: Literal["own"] = "own"


def by_name(*names: str) -> Discriminator:
    """Pick a section by its ``name``; one with a colon is a part of the user's own."""

    def tag(value: Any) -> str | None:
        name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
        return OWN if isinstance(name, str) and ":" in name else name

    return Discriminator(
        tag,
        custom_error_type=UNKNOWN_NAME,
        custom_error_message="unknown name",
        custom_error_context={"names": ", ".join(names)},
    )


UNKNOWN_NAME = "unknown_name"
"""Type of the error for a ``name`` that no section has; its context lists the known ones."""
