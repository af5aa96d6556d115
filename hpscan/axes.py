"""The axes of a grid: the learning rates and weight decays of every variant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from hpscan._model import Model
from hpscan.variants import known_variant

__all__ = ["Axes", "Grid"]


def _ladder(base: float, low: float, high: float, points: int) -> tuple[float, ...]:
    """``points`` values from base^low to base^high, equally spaced in the exponent.

    The same exponent gives the same float in every ladder, whatever its range: values are looked up by equality when
    a grid is widened. Fractional powers are therefore rounded to 12 digits.
    """
    exponents = [low + (high - low) * index / (points - 1) for index in range(points)] if points > 1 else [low]
    return tuple(
        float(base) ** int(exponent) if float(exponent).is_integer() else float(f"{base**exponent:.12g}")
        for exponent in (round(exponent, 9) for exponent in exponents)
    )


def _expand_axis(value: Any) -> Any:
    """Turn ``{log2: [-8, 0], points: 9}``, a list or one number into a list of values."""
    if isinstance(value, Mapping):
        bases = {"log2": 2.0, "log10": 10.0}
        named = [name for name in bases if name in value]
        if len(named) != 1 or set(value) != {named[0], "points"}:
            raise ValueError(f"must be a list, {{log2: [low, high], points: n}} or {{log10: …}}; got {dict(value)}")
        ends, points = value[named[0]], value["points"]
        if not (isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)):
            raise ValueError(f"{named[0]} must be two exponents, [low, high]; got {ends}")
        if not isinstance(points, int) or isinstance(points, bool) or points < 2:
            raise ValueError(f"points must be a whole number of at least 2; got {points}")
        low, high = map(float, ends)
        if not (math.isfinite(low) and math.isfinite(high) and low < high and max(-low, high) <= 300):
            raise ValueError(f"{named[0]} must rise, within [-300, 300]; got {ends}")
        return _ladder(bases[named[0]], low, high, points)
    return value if isinstance(value, list | tuple) else [value]


def _ordered(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values:
        raise ValueError("must hold at least one value; got an empty list")
    if len(set(values)) != len(values):
        raise ValueError(f"must not repeat a value; got {sorted(values)}")
    return tuple(sorted(values))


def _positive(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if value <= 0:
            raise ValueError(f"must be positive; got {value:g}")
    return _ordered(values)


def _not_negative(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if value < 0:
            raise ValueError(f"must not be negative; got {value:g}")
    return _ordered(values)


_RawAxis = Annotated[tuple[float, ...], BeforeValidator(_expand_axis)]


class Axes(Model):
    """The values of each axis. A learning rate is positive; a weight decay may be 0."""

    lr: _RawAxis | None = None
    wd: _RawAxis | None = None

    _check_lr = field_validator("lr")(lambda values: values if values is None else _positive(values))
    _check_wd = field_validator("wd")(lambda values: values if values is None else _not_negative(values))


class Grid(Axes):
    """Axes for every variant, and a range of its own for each variant that needs one."""

    variants: dict[str, Axes] = Field(default_factory=dict)

    @field_validator("variants")
    @classmethod
    def _known(cls, ranges: dict[str, Axes]) -> dict[str, Axes]:
        for name in ranges:
            known_variant(name)
        return ranges

    def axes(self, variant: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The (lr, wd) values of a variant, its own range before the common one."""
        own = self.variants.get(variant, Axes())
        lr, wd = own.lr or self.lr, own.wd or self.wd
        for axis, values in (("lr", lr), ("wd", wd)):
            if values is None:
                raise ValueError(f"`grid.{axis}`: missing, and `grid.variants.{variant}.{axis}` is not given either")
        assert lr is not None
        assert wd is not None
        return lr, wd
