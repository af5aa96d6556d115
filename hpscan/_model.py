"""The base of everything read from a spec: frozen, and unknown keys are refused by name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator


class Model(BaseModel):
    """A frozen pydantic model that refuses unknown keys and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        """Refuse unknown keys with the list of known ones, which pydantic's own message lacks."""
        if isinstance(raw, dict):
            unknown = [str(key) for key in raw if key not in cls.model_fields]
            if unknown:
                raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(cls.model_fields)}")
        return raw


def accept_name(value: Any) -> Any:
    """Read ``digits`` as ``{name: digits}``: the short form of a field that is chosen by name."""
    return {"name": value} if isinstance(value, str) else value


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values or list(values) != sorted(set(values)) or not 0 < values[0] <= values[-1] < 1:
        raise ValueError("must be rising fractions of the budget, each above 0 and below 1")
    return values


Fractions = Annotated[tuple[float, ...], AfterValidator(_rising)]
"""Where in a budget something happens."""
