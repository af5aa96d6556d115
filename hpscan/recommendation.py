"""What to train with: the middle of the basin, how far each axis may move from there, and what a slip costs.

The best cell is the least of many means, each with the noise of a few seeds, and may lie at the basin's rim. The cell
nearest the middle of all that are about as good is as good, and the one that forgives most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from hpscan.basin import reach
from hpscan.intervals import NOTHING, Interval, mean_of_seeds
from hpscan.landscape import Landscape
from hpscan.separation import coordinates, has_place, value_at

__all__ = ["NEAR", "OCTAVE", "Range", "Recommendation", "less", "recommend"]

NEAR = 0.02
"""The share of the best cell's metric by which another may be worse and belong to the basin."""
OCTAVE = 1.0
"""The slip whose cost is told: half or double the value, by mistake or for a network that differs a little."""
_BARRED = 1e300
"""Stands for a mean that is infinite, where a number is needed to draw a line to."""


@dataclass(frozen=True)
class Range:
    """How far one axis may move from the recommended cell, the other held."""

    low: float
    high: float
    """The values between which the mean over seeds stays in the basin, taken as straight over octaves between cells, and over
    wd between no decay and the least."""
    octaves: tuple[float, float]
    """How far those are below and above, in octaves (:func:`hpscan.separation.coordinates`): inf down to a decay of 0, however few
    cells away that is; nan from one, which has no octaves."""
    is_open: tuple[bool, bool]
    """Whether they are the ends of what is known, so that the basin may go on."""
    slip: Interval
    """The rise of the metric, paired over seeds, at half or at double the value, whichever is worse; inf where that
    diverges, nothing where it was not trained to the end or the value is 0."""


@dataclass(frozen=True)
class Recommendation:
    """A cell of a landscape with what surrounds it."""

    lr: float
    wd: float
    index: tuple[int, int]
    metric: Interval
    """Its mean over seeds."""
    cost: Interval
    """By how much that is worse than the best cell's, paired over seeds."""
    within: float
    """How much worse than the best cell the basin's cells are at most: :data:`NEAR` of it, or the noise if that is more."""
    by_noise: bool
    """Whether it is the noise: one standard error of a difference between two cells."""
    n_cells: int
    """Cells of the basin."""
    ranges: tuple[Range, Range]
    """Of the two axes, lr and wd."""


def recommend(landscape: Landscape) -> Recommendation | None:
    """The cell nearest the middle of the basin about the best cell; None where no cell has a finite mean.

    The basin is what hangs together, corners included, of comparable cells (:meth:`Landscape.ranked`) that are at most
    ``within`` worse than the best; a cell of which too little is known goes by the nearest, and rows and columns without any
    that is are closed up. Its middle is its centre of mass, cells weighing the square octaves about them.
    """
    known = landscape.known > 0
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    found = _recommended(landscape.part(np.arange(len(landscape.seeds)), rows, columns))
    return found and replace(found, index=(int(rows[found.index[0]]), int(columns[found.index[1]])))


def _recommended(landscape: Landscape) -> Recommendation | None:
    """The same of a landscape of which something is known in every row and column."""
    from scipy.ndimage import label  # takes a moment

    ranked = landscape.ranked()
    if not ranked:
        return None
    z, best = landscape.mean(), ranked[0]
    near, noise = NEAR * abs(float(z[best])), _noise(landscape, ranked)
    within = max(near, noise)
    comparable = np.zeros(z.shape, dtype=bool)
    comparable[tuple(np.array(ranked).T)] = True
    good = comparable & (z <= z[best] + within)
    x, y = (coordinates(axis, at) for axis, at in zip(landscape.axes, (landscape.lr, landscape.wd), strict=True))
    parts, _ = label(_filled(good, (comparable | np.isinf(z)) & ~good, x, y), np.ones((3, 3)))
    area = parts == parts[best]
    basin = area & good
    i, j = _middle(area, basin, z, x, y)
    # what was stopped is worse than what went on, nobody knows by how much
    ended = np.where(landscape.states == "stopped", np.nan, landscape.z)
    ceiling = float(z[best]) + within
    ranges = (
        _range(landscape.z[:, :, j], ended[:, :, j], i, landscape.axes[0], landscape.lr, ceiling=ceiling),
        _range(landscape.z[:, i, :], ended[:, i, :], j, landscape.axes[1], landscape.wd, ceiling=ceiling),
    )
    return Recommendation(
        lr=float(landscape.lr[i]),
        wd=float(landscape.wd[j]),
        index=(i, j),
        metric=mean_of_seeds(_known(landscape.z[:, i, j])),
        cost=less(landscape, (i, j), landscape, best),
        within=within,
        by_noise=noise > near,
        n_cells=int(basin.sum()),
        ranges=ranges,
    )


def less(one: Landscape, cell: tuple[int, int], other: Landscape, its_cell: tuple[int, int]) -> Interval:
    """One cell's metric less another's, with Student's interval over the differences of the seeds that both have."""
    differences = one.z[:, *cell] - other.z[:, *its_cell]
    if one.seeds != other.seeds or not np.isfinite(differences).any():
        return NOTHING
    return mean_of_seeds(differences[np.isfinite(differences)])


def _known(values: Float[np.ndarray, " seeds"]) -> Float[np.ndarray, " some"]:
    return values[~np.isnan(values)]


def _noise(landscape: Landscape, ranked: list[tuple[int, int]]) -> float:
    """The standard error of a difference between two good cells: from the spread of the best fifth; 0 with one seed."""
    cells = ranked[: max(1, len(ranked) // 5)]
    seeds = landscape.z[:, *np.array(cells).T]
    seeds = seeds[~np.isnan(seeds).any(axis=1)]
    if len(seeds) < 2:
        return 0.0
    # what a seed does to all cells alike is no noise between two of them
    centred = seeds - seeds.mean(axis=1, keepdims=True) if len(cells) > 1 else seeds
    return float(np.sqrt(2 * centred.var(axis=0, ddof=1).mean() / len(seeds)))


def _filled(
    good: Bool[np.ndarray, "lrs wds"],
    bad: Bool[np.ndarray, "lrs wds"],
    x: Float[np.ndarray, " lrs"],
    y: Float[np.ndarray, " wds"],
) -> Bool[np.ndarray, "lrs wds"]:
    """The cells that are good, and of those that are neither the ones to which a good cell is as near as any bad one."""
    neither = ~(good | bad)
    if not neither.any():
        return good
    from scipy.spatial import cKDTree

    places = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    to_good, to_bad = (cKDTree(places[cells]).query(places[neither])[0] for cells in (good, bad))
    filled = good.copy()
    filled[neither] = to_good <= to_bad + 1e-9
    return filled


def _middle(
    area: Bool[np.ndarray, "lrs wds"],
    basin: Bool[np.ndarray, "lrs wds"],
    z: Float[np.ndarray, "lrs wds"],
    x: Float[np.ndarray, " lrs"],
    y: Float[np.ndarray, " wds"],
) -> tuple[int, int]:
    """The cell of the basin nearest the centre of mass of its ``area``; of several the best."""
    wide, high = (np.gradient(axis) if len(axis) > 1 else np.ones(1) for axis in (x, y))
    weights = np.where(area, np.outer(wide, high), 0.0)
    weights /= weights.sum()
    square = (x - weights.sum(axis=1) @ x)[:, None] ** 2 + (y - weights.sum(axis=0) @ y)[None, :] ** 2
    cells = np.argwhere(basin)
    order = np.lexsort((z[basin], square[basin].round(9)))
    return int(cells[order[0]][0]), int(cells[order[0]][1])


def _range(
    seeds: Float[np.ndarray, "seeds points"], ended: Float[np.ndarray, "seeds points"], at: int, axis: str,
    values: Float[np.ndarray, " points"], *, ceiling: float,
) -> Range:  # fmt: skip
    """Along one axis, through ``at``; what a slip costs is read from the runs that ``ended``."""
    x, placed = coordinates(axis, values), has_place(axis, values)
    n_known = (~np.isnan(seeds)).sum(axis=0)
    comparable = n_known == n_known[at]
    filled = np.where(np.isnan(seeds), 0.0, seeds).sum(axis=0) / np.maximum(n_known, 1)
    mean = np.where(comparable, np.minimum(filled, _BARRED), np.inf)[None]
    rim, start = np.array([ceiling]), np.array([at])
    (up,), (open_up,) = reach(mean, start, x, rim)
    (down,), (open_down,) = reach(mean[:, ::-1], len(x) - 1 - start, -x[::-1], rim)

    def value(place: float) -> float:
        # down to no decay the line is one in wd, not in its logarithm
        if not placed[0] and (len(x) == 1 or place < x[1]):
            return float(np.interp(place, x[:2], values[:2]))
        return value_at(axis, place)

    low, high = (float(values[at]) if moved == 0.0 else value(x[at] + moved) for moved in (-down, up))
    if not placed[at]:
        return Range(0.0, high, (np.nan, np.nan), (False, bool(open_up)), NOTHING)
    if not placed[0] and down >= x[at] - x[0]:
        low, down, open_down = 0.0, np.inf, False  # there is nothing below no decay
    elif not placed[0]:
        down = x[at] - coordinates(axis, np.array([low]))[0]
    slips = [_rise(ended, x, at, x[at] + step, to_zero=not placed[0]) for step in (-OCTAVE, OCTAVE)]
    worst = max(slips, key=lambda slip: -np.inf if np.isnan(slip.value) else slip.value)
    return Range(low, high, (float(down), float(up)), (bool(open_down), bool(open_up)), worst)


def _rise(
    seeds: Float[np.ndarray, "seeds points"], x: Float[np.ndarray, " points"], at: int, to: float, *, to_zero: bool
) -> Interval:
    """The metric at ``to`` on the axis less that at the cell ``at``, straight between cells; nothing beyond the ends.

    ``to_zero``: the first cell is that of no decay, to which the line is one in wd.
    """
    nearest = x[np.abs(x - to).argmin()]
    if np.isclose(nearest, to, rtol=0.0, atol=1e-9):
        to = nearest  # an ulp beyond a cell is no share of the next one, which may have diverged
    if to_zero and to < x[1]:
        to = x[0] + 2.0 ** (to - x[1]) * (x[1] - x[0])
    whole = np.minimum(seeds, _BARRED)
    there = np.array([np.interp(to, x, of_seed, left=np.nan, right=np.nan) for of_seed in whole])
    if (there > _BARRED / 1e6).any():
        return Interval(np.inf, np.nan, np.nan)
    return mean_of_seeds(_known(there - seeds[:, at]))
