"""What a surface over two axes says of how separable they are: linear maps, additive fits, and what is chosen on it.

A surface is an array of shape (lrs, wds), smaller is better, ``nan`` where nothing is known. Everything here is a
function of one surface, or of many at once where a shape begins with ``*batch``; noise is dealt with elsewhere
(:mod:`hpscan.noise`, :mod:`hpscan.intervals`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = [
    "CUT",
    "ROUNDING",
    "Derivative",
    "additive_fit",
    "capped",
    "contour_slope",
    "cut",
    "gradients",
    "interaction_share",
    "mean_of_known",
    "mean_regrets",
    "ranks",
    "regret",
    "to_compare",
    "unexplained_cells",
]

ROUNDING = 1e-12
"""What float64 leaves of a difference that is none, of values of size 1."""

Surface = Float[np.ndarray, "lrs wds"]
Surfaces = Float[np.ndarray, "*batch lrs wds"]
Cells = Bool[np.ndarray, "lrs wds"]
Flat = Float[np.ndarray, "*batch cells"]

CUT = 0.8
"""The quantile of the finite cells at which surfaces and colour scales are cut (:func:`cut`)."""


def cut(z: Surfaces) -> float:
    """The :data:`CUT` quantile of the finite values, of all seeds together; nan if there is none.

    A run at the brink of divergence can be worse than the basin is deep by any factor, and the cells beyond have no
    value at all. What lies above the cut is therefore censored: known to be bad, and not how bad.
    """
    finite = z[np.isfinite(z)]
    return float(np.quantile(finite, CUT)) if len(finite) else float("nan")


def capped(z: Surfaces, at: float) -> Surfaces:
    """``min(z, at)``: diverged runs take the value of the cut, unknown ones stay unknown."""
    return np.minimum(z, at)


@dataclass(frozen=True, eq=False)
class Derivative:
    """A linear map from a surface's cells, flattened, to a derivative in the middle of each block of four cells."""

    corners: Int[np.ndarray, "blocks 4"]
    weights: Float[np.ndarray, "blocks 4"]

    def __call__(self, cells: Float[np.ndarray, "*batch cells"]) -> Float[np.ndarray, "*batch blocks"]:
        """The derivative of one surface, or of many."""
        found = np.zeros((*cells.shape[:-1], len(self.corners)))
        part = np.empty_like(found)
        for corner, weights in zip(self.corners.T, self.weights.T, strict=True):
            np.take(cells, corner, axis=-1, out=part, mode="clip")  # no index is outside; "raise" would copy once more
            part *= weights
            found += part
        return found


def gradients(
    known: Cells, x: Float[np.ndarray, " lrs"], y: Float[np.ndarray, " wds"]
) -> tuple[Derivative, Derivative]:
    """∂z/∂x and ∂z/∂y in the middle of each block of four known cells.

    Both are those of the bilinear interpolant, exact there for any quadratic surface and on any spacing. Rows and
    columns without a known cell are closed up; a block is used if all its four cells are known. Derivatives are
    multiplied by the root of the block's area, so that sums of products are integrals over the plane by the midpoint
    rule.
    """
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    numbers = np.arange(known.size).reshape(known.shape)[np.ix_(rows, columns)]
    corners = np.stack([numbers[:-1, :-1], numbers[:-1, 1:], numbers[1:, :-1], numbers[1:, 1:]], axis=-1)
    whole = known.ravel()[corners].all(axis=-1)
    steps_x, steps_y = (steps[whole] for steps in np.meshgrid(np.diff(x[rows]), np.diff(y[columns]), indexing="ij"))

    def derivative(signs: tuple[int, ...], steps: np.ndarray, others: np.ndarray) -> Derivative:
        return Derivative(corners[whole], np.outer(np.sqrt(steps * others) / (2 * steps), signs))

    return derivative((-1, -1, 1, 1), steps_x, steps_y), derivative((-1, 1, -1, 1), steps_y, steps_x)


def contour_slope(z: Surface, x: Float[np.ndarray, " lrs"], y: Float[np.ndarray, " wds"]) -> float:
    """The slope dy/dx of a surface's contours: −1 where only x + y matters, 0 where the axes separate.

    With ∇z its gradient and G = Σ ∇z ∇zᵀ, the slope is −G_xy / G_yy: the least-squares direction along which z does
    not change. Of noise it knows nothing; G_yy grows with it and the slope shrinks (see
    :func:`hpscan.intervals.ratio`). ``nan`` if z does not depend on y.
    """
    along_x, along_y = gradients(~np.isnan(z), x, y)
    flat = np.nan_to_num(z.ravel())
    d_x, d_y = along_x(flat), along_y(flat)
    bottom = float(d_y @ d_y)
    return float("nan") if bottom == 0.0 else -float(d_x @ d_y) / bottom


def additive_fit(cells: Cells) -> Callable[[Flat], Flat]:
    """The linear map from surfaces, flattened, that are 0 but on the given cells, to the f(lr) + g(wd) that fits them best there.

    By way of the sums of rows and columns: for many cells much faster than with a basis on the cells.
    """
    solve = _solution(cells)

    def fit(z: Flat) -> Flat:
        margins = _margins(z.reshape(*z.shape[:-1], *cells.shape)) @ solve
        found = margins[..., : len(cells), None] + margins[..., None, len(cells) :]
        found[..., ~cells] = 0.0
        return found.reshape(z.shape)

    return fit


def _solution(cells: Cells) -> Float[np.ndarray, "margins margins"]:
    """The inverse of the normal equations: from the sums of rows, then columns, of the given cells to f, then g."""
    n_rows = len(cells)
    normal = np.diag(np.concatenate([cells.sum(axis=1), cells.sum(axis=0)]).astype(float))
    normal[:n_rows, n_rows:], normal[n_rows:, :n_rows] = cells, cells.T
    return np.linalg.pinv(normal, rcond=1e-10, hermitian=True)


def _margins(z: Surfaces) -> Float[np.ndarray, "*batch margins"]:
    """The sums of the rows, then of the columns."""
    return np.concatenate([z.sum(axis=-1), z.sum(axis=-2)], axis=-1)


def unexplained_cells(z: Surface, censored: Cells) -> Cells:
    """The cells that an additive fit has to answer for.

    A censored cell says only that the truth is at least z: an additive fit f(lr) + g(wd) above it is not wrong. The
    best fit therefore minimises Σ (z − f − g)² over the other cells and Σ max(z − f − g, 0)² over censored ones, a
    convex problem, solved by alternately raising censored cells to the fit and fitting again. Returned are all known
    cells but those censored ones that the fit clears.
    """
    known = ~np.isnan(z)
    free = censored & known
    if not free.any():
        return known
    n_rows = len(z)
    solve = _solution(known)
    floor = np.nan_to_num(z)
    seen = _margins(floor)
    least = np.where(free, floor, np.inf)
    enough = 1e-7 * np.ptp(floor[known])
    margins, raised = seen, np.zeros(z.shape)
    for _ in range(500):
        fit = solve @ margins
        above = fit[:n_rows, None] + fit[None, n_rows:] - least
        again = np.maximum(above, 0.0)
        if np.abs(again - raised).max() < enough:
            break
        raised = again
        margins = seen + _margins(raised)
    # what is fitted exactly is cleared, whatever rounding has it: a seed that diverged throughout, a cell alone in its row
    return known & ~(above >= -ROUNDING * np.abs(floor).max())


def interaction_share(z: Surface, censored: Cells | None = None) -> float:
    """The share of the variance over cells that the best additive model f(lr) + g(wd) leaves unexplained.

    0: tuning one axis says nothing about the other. Without censored cells this is 1 − R² of a two-way analysis of
    variance without interaction; with them, see :func:`unexplained_cells`. ``nan`` if z is constant.
    """
    known = ~np.isnan(z)
    values = z[known]
    if not len(values) or np.ptp(values) == 0.0 or min(z.shape) < 2:
        return float("nan")
    total = float(np.sum((values - values.mean()) ** 2))
    cells = unexplained_cells(z, np.zeros(z.shape, dtype=bool) if censored is None else censored)
    flat = np.where(cells, z, 0.0).ravel()
    return float(np.sum((flat - additive_fit(cells)(flat)) ** 2)) / total


def regret(choose: Surfaces, judge: Surfaces) -> Surfaces:
    """What tuning each axis alone and putting the two together costs, from every starting cell.

    From (lr₀, wd₀): the best lr at wd₀ and the best wd at lr₀, chosen on ``choose``; how much worse the two together
    are on ``judge`` than the cell that is best of all on ``choose``. Of equals each is as likely: where all of a row
    diverged, it says nothing. Chosen and judged on the same surface it is never negative. Unknown cells are never chosen; a
    start from which there is nothing to choose, or that leads to cells whose values are unknown, is ``nan``.
    """
    by_lr, by_wd, judged, known, joint = _choices(choose, judge)
    found, share = (by_wd @ part.mT @ by_lr for part in (judged, known))
    return (_over(found, share) - joint[:, None, None]).reshape(np.broadcast_shapes(choose.shape, judge.shape))


def mean_regrets(choose: Surfaces, judge: Surfaces) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """The mean of :func:`regret` over starts, and what one pass of coordinate descent costs.

    The latter from (lr₀, wd₀): the best lr at wd₀, then the best wd at that lr; and the other way round, the mean over starts and
    over which axis goes first. Chosen and judged as in :func:`regret`.
    """
    by_lr, by_wd, judged, known, joint = _choices(choose, judge)
    lr, wd = by_lr.sum(axis=2), by_wd.sum(axis=1)
    independent = _over(*(np.vecdot((part @ wd[:, :, None])[:, :, 0], lr) for part in (judged, known)))
    lr_first = _over(*(np.vecdot(np.vecdot(by_wd, part), lr) for part in (judged, known)))
    wd_first = _over(*(np.vecdot((by_lr * part).sum(axis=1), wd) for part in (judged, known)))
    shape = np.broadcast_shapes(choose.shape, judge.shape)[:-2]
    return (independent - joint).reshape(shape), ((lr_first + wd_first) / 2 - joint).reshape(shape)


def _choices(choose: np.ndarray, judge: np.ndarray) -> tuple[np.ndarray, ...]:
    """How likely each lr is at each wd, and each wd at each lr; what is judged by, 0 where unknown, and where known; the best's value."""
    choose = _flat(to_compare(choose))
    filled = np.where(np.isnan(choose), np.inf, choose)
    judged = np.broadcast_to(_flat(judge), filled.shape)
    known = ~np.isnan(judged)
    judged, known = np.where(known, judged, 0.0), known.astype(float)
    joint = _evenly(filled, (1, 2))
    found, share = ((joint * part).sum(axis=(1, 2)) for part in (judged, known))
    return _evenly(filled, (1,)), _evenly(filled, (2,)), judged, known, _over(found, share)


def _evenly(z: Surfaces, axes: tuple[int, ...]) -> Surfaces:
    """One, shared by the least along ``axes``; nothing where all are infinite."""
    least = z.min(axis=axes, keepdims=True)
    chosen = ((z == least) & np.isfinite(least)).astype(float)
    chosen /= np.maximum(chosen.sum(axis=axes, keepdims=True), 1.0)
    return chosen


def _over(found: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.divide(found, share, out=np.full(found.shape, np.nan), where=share > 0)


def to_compare(z: np.ndarray) -> np.ndarray:
    """Values, none of them infinite, to twelve digits: how a sum was rounded must not say which of two equal means is less.

    The upper part of Veltkamp's splitting (Dekker 1971).
    """
    above = z * (2.0**13 + 1.0)
    return np.asarray(above - (above - z))


def _flat(z: np.ndarray) -> np.ndarray:
    return z.reshape(-1, *z.shape[-2:])


def ranks(z: Float[np.ndarray, "*batch cells"]) -> Float[np.ndarray, "*batch cells"]:
    """Ranks along the last axis, less their mean: ties share theirs; 0 for nan, which has none."""
    order = z.argsort(axis=-1)  # nan comes last
    ordered, places = np.take_along_axis(z, order, axis=-1), np.arange(z.shape[-1], dtype=float)
    differs = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*z.shape[:-1], 1), dtype=bool)
    begins, ends = np.concatenate([edge, differs], axis=-1), np.concatenate([differs, edge], axis=-1)
    first = np.maximum.accumulate(np.where(begins, places, 0.0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, places, np.inf)[..., ::-1], axis=-1)[..., ::-1]
    found = np.empty(z.shape)
    np.put_along_axis(found, order, (first + last) / 2, axis=-1)
    known = ~np.isnan(z)
    return np.where(known, found - (known.sum(axis=-1, keepdims=True) - 1) / 2, 0.0)


def mean_of_known(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The mean over ``axes`` of what is not nan; nan where nothing is known."""
    unknown = np.isnan(values)
    if values.size and not unknown.any():
        return np.asarray(values.mean(axis=axes))
    known = ~unknown
    count = known.sum(axis=axes)
    return np.divide(
        np.where(known, values, 0.0).sum(axis=axes), count, out=np.full(count.shape, np.nan), where=count > 0
    )
