"""A landscape over any two axes of a sweep: the others held at a value, or the best or the mean over theirs taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hpscan.landscape import Landscape, is_chosen_by
from hpscan.spec import SpecError

__all__ = ["OVER", "view"]

Layers = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]
"""Metrics, states and run ids with dimensions (seeds, lr, wd, further axes …)."""
OVER = ("best", "mean")
"""How an axis can be taken together: at the value that is best for each cell on average over seeds, or by the mean over its values."""


def view(
    landscapes: Sequence[Landscape],
    axes: tuple[str, str] = ("lr", "wd"),
    at: Mapping[str, float] | None = None,
    over: Mapping[str, str] | None = None,
) -> list[Landscape]:
    """Lay a sweep's landscapes out over two other axes, one landscape for each variant that has both.

    ``at`` holds an axis at one of its values, of the variants that have it. ``over`` takes an axis together: ``best``, for each cell the value that is
    best there, by the mean over seeds, the same value for all its seeds; ``mean``, the mean over values, seed by seed.
    An axis of one value needs neither.

    Raises
    ------
    SpecError
        If an axis is not the sweep's, is asked for in two ways, or has several values and is asked for in none; or if the
        best is asked for of a metric that chooses nothing (:func:`hpscan.landscape.is_chosen_by`).
    """
    at, over = dict(at or {}), dict(over or {})
    by_variant: dict[str, list[Landscape]] = {}
    for shape in landscapes:
        by_variant.setdefault(shape.variant, []).append(shape)
    _check(list(map(_axes_of, by_variant.values())), axes, at, over)
    for name in (name for name, how in over.items() if how == "best" and not is_chosen_by(landscapes[0].metric)):
        raise SpecError(
            f"--over {name}=best: is chosen by a validation metric, such as val_loss, never by {landscapes[0].metric}; "
            f"add `--at {name}=VALUE` or `--over {name}=mean`"
        )
    return [_view(shapes, axes, at, over) for shapes in by_variant.values() if set(axes) <= _axes_of(shapes).keys()]


def _check(
    known: Sequence[Mapping[str, object]], axes: tuple[str, str], at: Mapping[str, float], over: Mapping[str, str]
) -> None:
    every = dict.fromkeys(name for of_variant in known for name in of_variant)
    for name in (*axes, *at, *over):
        if name not in every:
            raise SpecError(f"--axes: the sweep has no axis {name!r}; its axes are {', '.join(every)}")
    if axes[0] == axes[1]:
        raise SpecError(f"--axes: must be two different axes; got {axes[0]} twice")
    if not any(set(axes) <= of_variant.keys() for of_variant in known):
        raise SpecError(f"--axes: no variant has both {axes[0]} and {axes[1]}")
    for option, name in [("--at", name) for name in at] + [("--over", name) for name in over]:
        if name in axes:
            raise SpecError(f"{option} {name}: is shown; the other axes are held or taken together")
    for name, how in over.items():
        if name in at:
            raise SpecError(f"--over {name}: is held by --at {name}={at[name]:g}")
        if how not in OVER:
            raise SpecError(f"--over {name}: must be {' or '.join(OVER)}; got {how!r}")


def _view(
    shapes: Sequence[Landscape], axes: tuple[str, str], at: Mapping[str, float], over: Mapping[str, str]
) -> Landscape:
    first = shapes[0]
    values = _axes_of(shapes)
    numbers, states, run_ids = _arrays(shapes, values)
    names = list(values)
    told = dict(first.at)
    for name in [name for name in names if name not in axes]:
        axis, points = 1 + names.index(name), values[name]
        names.remove(name)
        if name in at:
            index = _index(first.variant, name, points, at[name])
            told[name] = points[index]
        elif name in over:
            told.pop(name, None)
            layers = _together((numbers, states, run_ids), axis, over[name], first.metric)
            numbers, states, run_ids = layers
            continue
        elif len(points) == 1:
            index = 0
        else:
            shown = ", ".join(f"{point:g}" for point in points)
            raise SpecError(
                f"--axes: {first.variant} has several values of {name} ({shown}); add `--at {name}=VALUE` or `--over {name}=best`"
            )
        numbers = {metric: np.take(array, index, axis) for metric, array in numbers.items()}
        states, run_ids = np.take(states, index, axis), np.take(run_ids, index, axis)
    if names != list(axes):
        numbers = {metric: array.mT for metric, array in numbers.items()}
        states, run_ids = np.swapaxes(states, 1, 2), np.swapaxes(run_ids, 1, 2)
    told = {name: value for name, value in told.items() if name not in axes}
    words = [f"{name}={value:g}" for name, value in told.items()] + [
        f"{name}={how}" for name, how in over.items() if name in values
    ]
    return replace(
        first,
        name=" ".join([first.variant, *words]),
        lr=np.array(values[axes[0]]),
        wd=np.array(values[axes[1]]),
        run_ids=run_ids,
        states=states,
        values=numbers,
        at=tuple(told.items()),
        axes=axes,
    )


def _axes_of(shapes: Sequence[Landscape]) -> dict[str, list[float]]:
    """Every axis of a variant's landscapes with its values; all have the same lr and wd."""
    first = shapes[0]
    further = {name: sorted({dict(shape.at)[name] for shape in shapes}) for name, _ in first.at}
    return {"lr": first.lr.tolist(), "wd": first.wd.tolist(), **further}


def _arrays(shapes: Sequence[Landscape], values: Mapping[str, Sequence[float]]) -> Layers:
    """The landscapes of a variant in one block."""
    further = [points for name, points in values.items() if name not in {"lr", "wd"}]
    full = (*shapes[0].states.shape, *map(len, further))
    numbers = {metric: np.full(full, np.nan) for metric in shapes[0].values}
    states, run_ids = np.full(full, "missing", dtype=object), np.full(full, "", dtype=object)
    for shape in shapes:
        place: Any = (..., *(values[name].index(value) for name, value in shape.at))
        for metric, array in numbers.items():
            array[place] = shape.values[metric]
        states[place], run_ids[place] = shape.states, shape.run_ids
    return numbers, states, run_ids


def _index(variant: str, name: str, points: Sequence[float], wanted: float) -> int:
    found = [index for index, point in enumerate(points) if np.isclose(point, wanted, rtol=1e-6, atol=0.0)]
    if not found:
        shown = ", ".join(f"{point:g}" for point in points)
        raise SpecError(f"--at {name}={wanted:g}: not a value of {variant}'s {name}; they are {shown}")
    return found[0]


def _together(layers: Layers, axis: int, how: str, metric: str) -> Layers:
    """Take one axis together; a cell in which anything is unknown is not chosen, and has no mean."""
    numbers, states, run_ids = layers
    if how == "best":
        z = numbers[metric]
        mean = z.mean(axis=0)  # inf if a seed diverged, nan if one is unknown
        index = np.where(np.isnan(mean), np.inf, np.minimum(mean, np.finfo(float).max)).argmin(axis=axis - 1)
        index = np.expand_dims(np.broadcast_to(index, (z.shape[0], *index.shape)), axis)
        chosen = [
            np.take_along_axis(array, index, axis).squeeze(axis) for array in (*numbers.values(), states, run_ids)
        ]
        return dict(zip(numbers, chosen, strict=False)), chosen[-2], chosen[-1]
    worst_first = ("missing", "failed", "diverged", "stopped", "completed")
    rank = np.vectorize(worst_first.index, otypes=[int])(states).min(axis=axis)
    merged = np.array(worst_first, dtype=object)[rank]
    return {name: array.mean(axis=axis) for name, array in numbers.items()}, merged, np.take(run_ids, 0, axis)
