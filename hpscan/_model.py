"""The base of everything read from a spec: frozen, and unknown keys are refused by name."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator


class Model(BaseModel):
    """A frozen pydantic model that refuses unknown keys and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, raw: Any) -> Any:
        """Refuse unknown keys with the list of known ones, which pydantic's own message lacks, and a switch for a number."""
        if isinstance(raw, dict):
            unknown = [str(key) for key in raw if key not in cls.model_fields]
            if unknown:
                raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(cls.model_fields)}")
            for name, value in raw.items():  # which pydantic would take for 1 or 0
                if isinstance(value, bool) and _is_number(cls, name):
                    raise ValueError(f"{name}: must be a number; got {str(value).lower()}")
        return raw


@cache
def _is_number(model: type[BaseModel], field: str) -> bool:
    annotation = model.model_fields[field].annotation
    return not {int, float}.isdisjoint({annotation, *get_args(annotation)})


def numbers(values: Any) -> Any:
    """A number or a list as it is; raises ValueError where one is true or false."""
    some = values if isinstance(values, list | tuple) else [values]
    switches = [str(value).lower() for value in some if isinstance(value, bool)]
    if switches:
        raise ValueError(f"must be {'a number' if some is not values else 'numbers'}; got {switches[0]}")
    return values


def accept_name(value: Any) -> Any:
    """Read ``digits`` as ``{name: digits}``: the short form of a field that is chosen by name."""
    return {"name": value} if isinstance(value, str) else value


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values or list(values) != sorted(set(values)) or not 0 < values[0] <= values[-1] < 1:
        raise ValueError("must be rising fractions of the budget, each above 0 and below 1")
    return values


Fractions = Annotated[tuple[float, ...], AfterValidator(_rising)]
"""Where in a budget something happens."""
