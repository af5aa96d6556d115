"""The axes of a grid: learning rates and weight decays of every variant, and whatever else makes a panel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationInfo, field_validator

from hpscan._model import Model, numbers
from hpscan.variants import OPTIMIZER_SETTINGS, VARIANTS, known_variant

__all__ = ["FURTHER_AXES", "MOST_VALUES", "RECIPE_AXES", "Axes", "Grid"]

FURTHER_AXES = ("momentum", "nesterov", "beta1", "beta2", "eps")
"""Optimizer settings that can be axes beside lr and wd."""
RECIPE_AXES = ("steps", "epochs", "batch_size", "width")
"""What of the recipe of all variants can be an axis: the budget, in its own unit, the batch size, the model's width."""
MOST_VALUES = 10_000
"""Values that one number may ask for: a slip of more would fill the memory before anything could be said of it."""


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


def _expand_axis(number: TypeAdapter[float], value: Any) -> Any:
    """Turn ``{log2: [-8, 0], points: 9}``, a list or one number into a list of values.

    One number is checked here: in a list of its own its field would be one that nobody wrote, ``grid.lr.0``.
    """
    if isinstance(value, Mapping):
        bases = {"log2": 2.0, "log10": 10.0}
        named = [name for name in bases if name in value]
        if len(named) != 1 or set(value) != {named[0], "points"}:
            raise ValueError(f"must be a list, {{log2: [low, high], points: n}} or {{log10: …}}; got {dict(value)}")
        ends, points = value[named[0]], value["points"]
        if not (isinstance(ends, list) and len(ends) == 2 and all(type(end) in {int, float} for end in ends)):
            raise ValueError(f"{named[0]} must be two exponents, [low, high]; got {ends}")
        if not isinstance(points, int) or isinstance(points, bool) or points < 2:
            raise ValueError(f"points must be a whole number of at least 2; got {points}")
        if points > MOST_VALUES:
            raise ValueError(f"points must be at most {MOST_VALUES}; got {points}")
        low, high = map(float, ends)
        if not (math.isfinite(low) and math.isfinite(high) and low < high and max(-low, high) <= 300):
            raise ValueError(f"{named[0]} must rise, within [-300, 300]; got {ends}")
        return _ladder(bases[named[0]], low, high, points)
    return value if isinstance(value, list | tuple) else [number.validate_python(value)]


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


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Whole = Annotated[int, Field(ge=1)]
_SwitchAxis = Annotated[tuple[float, ...], BeforeValidator(partial(_expand_axis, TypeAdapter(_Finite)))]
_RawAxis = Annotated[_SwitchAxis, BeforeValidator(numbers)]
_WholeAxis = Annotated[
    tuple[_Whole, ...], BeforeValidator(partial(_expand_axis, TypeAdapter(_Whole))), BeforeValidator(numbers)
]


def _shares(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"must be at least 0 and below 1; got {value:g}")
    return _ordered(values)


def _switches(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if value not in (0, 1):
            raise ValueError(f"must be true or false; got {value:g}")
    return _ordered(values)


_RULES = {
    "lr": _positive, "wd": _not_negative, "momentum": _shares, "nesterov": _switches,
    "beta1": _shares, "beta2": _shares, "eps": _positive,
}  # fmt: skip


class Axes(Model):
    """The values of each axis. A learning rate is positive; a weight decay may be 0."""

    lr: _RawAxis | None = None
    """A list, one number, ``{log2: [low, high], points: n}`` or ``{log10: …}``, as every axis."""
    wd: _RawAxis | None = None
    """May include 0."""
    momentum: _RawAxis | None = None
    """Of SGD; at least 0 and below 1."""
    nesterov: _SwitchAxis | None = None
    """Of SGD; false and true."""
    beta1: _RawAxis | None = None
    """Of Adam and its kin, and of Lion."""
    beta2: _RawAxis | None = None
    """Likewise."""
    eps: _RawAxis | None = None
    """Of Adam and its kin, and of Adagrad."""

    @field_validator(*_RULES)
    @classmethod
    def _checked(cls, values: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        return values if values is None else _RULES[str(info.field_name)](values)


class Grid(Axes):
    """Axes for every variant, and a range of its own for each variant that needs one.

    The axes of the recipe go before the spec's own ``budget``, ``batch_size`` and width.
    """

    steps: _WholeAxis | None = None
    """Budgets, where the spec's own is in steps; a landscape each."""
    epochs: _RawAxis | None = None
    """Likewise in epochs."""
    batch_size: _WholeAxis | None = None
    """A landscape each."""
    width: _WholeAxis | None = None
    """Of the model's first layer; the others keep their proportion to it."""
    variants: dict[str, Axes] = Field(default_factory=dict)
    """A variant's own axes, which go before those for all."""

    @field_validator(*RECIPE_AXES)
    @classmethod
    def _recipe_checked(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return values if values is None else _positive(values)

    @field_validator("variants")
    @classmethod
    def _known(cls, ranges: dict[str, Axes]) -> dict[str, Axes]:
        for name, axes in ranges.items():
            known_variant(name)
            for axis in FURTHER_AXES:
                if getattr(axes, axis) is not None and axis not in OPTIMIZER_SETTINGS[VARIANTS[name].optimizer]:
                    raise ValueError(f"{name}: has no {axis}; its settings are {', '.join(_settings(name))}")
        return ranges

    def check(self, variants: Iterable[str]) -> None:
        """Raise ValueError if a variant lacks an axis, or if an axis given for all concerns none of them."""
        variants = list(variants)
        for variant in variants:
            self.axes(variant)
        for axis in ("lr", "wd", *FURTHER_AXES):
            users = [name for name in variants if axis in ("lr", "wd", *_settings(name))]
            own = {name for name in users if getattr(self.variants.get(name), axis, None) is not None}
            if getattr(self, axis) is not None and own == set(users):
                why = "every variant has a range of its own" if users else "no variant has such a setting"
                raise ValueError(f"`grid.{axis}`: concerns no variant: {why}")

    def axes(self, variant: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The (lr, wd) values of a variant, its own range before the common one."""
        lr, wd = self._axis(variant, "lr"), self._axis(variant, "wd")
        for axis, values in (("lr", lr), ("wd", wd)):
            if values is None:
                raise ValueError(f"`grid.{axis}`: missing, and `grid.variants.{variant}.{axis}` is not given either")
        assert lr is not None
        assert wd is not None
        return lr, wd

    def further(self, variant: str) -> dict[str, tuple[float, ...]]:
        """The further axes of a variant: those of its optimizer's settings that the grid gives values for."""
        axes = {name: self._axis(variant, name) for name in _settings(variant)}
        return {name: values for name, values in axes.items() if values is not None}

    def recipe(self) -> dict[str, tuple[float, ...]]:
        """The axes of the recipe that the grid gives values for."""
        axes = {name: getattr(self, name) for name in RECIPE_AXES}
        return {name: values for name, values in axes.items() if values is not None}

    def _axis(self, variant: str, axis: str) -> tuple[float, ...] | None:
        own = getattr(self.variants.get(variant), axis, None)
        return own if own is not None else getattr(self, axis)


def _settings(variant: str) -> dict[str, float]:
    return OPTIMIZER_SETTINGS[VARIANTS[variant].optimizer]
