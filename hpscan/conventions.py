"""Conventions of decoupled decay: a landscape of the paper's form in torch's units, and back.

    θ − η (α d + λ θ)  =  θ − η α (d + (λ/α) θ)

A run of the paper's form with λ is, under every schedule, a run of torch's form with ``weight_decay`` λ/α. Where
learning rates lie on the steps of the weight decays, as on octave grids, changing units moves every row of cells by
whole columns: an index shear. Nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from hpscan.landscape import Landscape
from hpscan.spec import SpecError
from hpscan.variants import VARIANTS, Decay

__all__ = ["IN_TORCH", "OUTSIDE", "UNITS", "agreement", "on_grid", "pairs", "partner", "redrawn"]

OUTSIDE = "outside"
"""The state of a cell that no run was asked for, which a shear leaves at the corners of a grid."""
IN_TORCH = "torch's weight_decay, λ/α"
"""What the weight decay of a landscape in torch's units is; λ is the paper's."""
UNITS = {Decay.PAPER: "the paper's units", Decay.TORCH: "torch's units"}
TOLERANCE = 1e-6
"""Of a step, for a logarithm to lie on it."""


def partner(variant: str, to: Decay) -> str | None:
    """The variant of the same optimizer whose decay is ``to``, if both are forms of one decoupled rule."""
    own = VARIANTS[variant]
    if own.decay not in UNITS or to not in UNITS:
        return None
    names = [name for name, other in VARIANTS.items() if (other.optimizer, other.decay) == (own.optimizer, to)]
    return names[0] if names and names[0] != variant else None


def redrawn(landscape: Landscape, to: Decay) -> Landscape:
    """The same runs with their weight decays in the other form's units: λ/α for ``TORCH``, αλ for ``PAPER``.

    The result has a column for every weight decay that occurs; cells that no run was asked for are :data:`OUTSIDE`,
    with nan for a metric. No decay is no decay in both.

    Raises
    ------
    SpecError
        If the variant has no such form, or the learning rates do not lie on the steps of the weight decays.
    """
    other = partner(landscape.variant, to)
    if other is None:
        raise SpecError(
            f"{landscape.name}: has no form in {UNITS.get(to, to)}; adamw and sgdw have both, see README.md"
        )
    rows, zero, positive = _steps(landscape)
    columns = positive[None, :] + (rows if to is Decay.PAPER else -rows)[:, None]
    asked = (landscape.states != OUTSIDE).any(axis=0)[:, landscape.wd > 0]
    kept = np.unique(columns[asked])
    ratio = landscape.lr[:, None] ** (1.0 if to is Decay.PAPER else -1.0)
    values = landscape.wd[landscape.wd > 0][None, :] * ratio
    wd = np.array([values[columns == column][0] for column in kept])
    sources = np.full((len(landscape.lr), len(kept)), -1)
    for j, column in enumerate(kept):
        i, source = np.nonzero((columns == column) & asked)
        sources[i, j] = source + zero
    if zero:
        wd, sources = np.insert(wd, 0, 0.0), np.insert(sources, 0, 0, axis=1)
    moved = _gathered(landscape, np.arange(len(landscape.lr)), sources, landscape.lr, wd)
    return replace(moved, name=landscape.name.replace(landscape.variant, other, 1), variant=other)


def on_grid(landscape: Landscape, lr: Float[np.ndarray, " lrs"], wd: Float[np.ndarray, " wds"]) -> Landscape:
    """A landscape on another grid: cells that both have, and :data:`OUTSIDE` for those that only the other has."""
    rows, columns = _places(landscape.lr, lr), _places(landscape.wd, wd)
    sources = np.where(rows[:, None] >= 0, np.broadcast_to(columns, (len(lr), len(wd))), -1)
    return _gathered(landscape, rows, sources, lr, wd)


def pairs(landscapes: list[Landscape]) -> list[tuple[Landscape, Landscape]]:
    """The landscapes of the paper's form whose counterpart in torch's form was measured, too; each with that."""
    by_name = {shape.name: shape for shape in landscapes}
    found = []
    for shape in landscapes:
        other = partner(shape.variant, Decay.TORCH)
        measured = by_name.get(shape.name.replace(shape.variant, other, 1)) if other else None
        if measured is not None:
            found.append((shape, measured))
    return found


def agreement(pairs: Sequence[tuple[Landscape, Landscape]]) -> tuple[int, float, float]:
    """How well landscapes agree: cells with a finite mean in both, the median and the largest |difference| there."""
    with np.errstate(invalid="ignore"):  # of two diverged cells
        differences = [np.abs(one.mean() - on_grid(other, one.lr, one.wd).mean()) for one, other in pairs]
    common = np.concatenate([difference[np.isfinite(difference)] for difference in differences])
    return len(common), *((float(np.median(common)), float(common.max())) if len(common) else (np.nan, np.nan))


def _steps(landscape: Landscape) -> tuple[Int[np.ndarray, " lrs"], int, Int[np.ndarray, " positive"]]:
    """Where learning rates and positive weight decays lie, in steps of the latter; and how many wd = 0 there are."""
    log_lr, log_wd = np.log2(landscape.lr), np.log2(landscape.wd[landscape.wd > 0])
    gaps = np.diff(log_wd) if len(log_wd) > 1 else np.diff(log_lr)
    step = float(gaps.min()) if len(gaps) else 1.0
    rows, columns = ((log - log[0]) / step if len(log) else log for log in (log_lr, log_wd))
    for positions in (rows, columns):
        if np.abs(positions - positions.round()).max(initial=0.0) > TOLERANCE:
            raise SpecError(
                f"{landscape.name}: cannot change units, since the steps of grid.lr and grid.wd must be whole multiples "
                f"of the least step of grid.wd, here a factor {2**step:.4g}; let both go in octaves, say"
            )
    return rows.round().astype(np.int64), int((landscape.wd == 0).sum()), columns.round().astype(np.int64)


def _places(axis: Float[np.ndarray, " points"], wanted: Float[np.ndarray, " others"]) -> Int[np.ndarray, " others"]:
    """The index of each wanted value on an axis, −1 where the axis lacks it."""
    close = np.isclose(wanted[:, None], axis[None, :], rtol=TOLERANCE, atol=0.0)
    return np.where(close.any(axis=1), close.argmax(axis=1), -1)


def _gathered(
    landscape: Landscape,
    rows: Int[np.ndarray, " lrs"],
    sources: Int[np.ndarray, "lrs wds"],
    lr: Float[np.ndarray, " lrs"],
    wd: Float[np.ndarray, " wds"],
) -> Landscape:
    """A landscape on the grid of lr and wd, its cells taken from given rows and columns; −1 takes none."""

    def taken(values: np.ndarray, blank: float | str) -> np.ndarray:
        return np.where(sources >= 0, values[:, rows[:, None], sources], blank)

    return replace(
        landscape,
        lr=lr,
        wd=wd,
        run_ids=taken(landscape.run_ids, ""),
        states=taken(landscape.states, OUTSIDE),
        values={metric: taken(values, np.nan) for metric, values in landscape.values.items()},
    )
