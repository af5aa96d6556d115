"""The shape of the basin: which way it leans, whether rows agree on the best weight decay, how far it reaches.

All take surfaces of shape (*batch, lrs, wds), cut from above at ``ceiling`` (:func:`hpscan.surfaces.capped`), so that
what diverged ranks last, tied; ``nan`` where nothing is known, the same cells in every surface of a batch.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from hpscan.surfaces import mean_of_known, ranks, to_compare

__all__ = ["BEST", "TOLERANCE", "best_wd_trend", "extents", "likeness", "rank_agreement", "reach", "tilt"]

Surfaces = Float[np.ndarray, "*batch lrs wds"]
PerSurface = Float[np.ndarray, "*batch"]

BEST = 0.2
"""The share of the cells that the tilt is read from."""
TOLERANCE = 0.1
"""The basin's rim, as a share of the way from the best cell up to the cut."""


def tilt(z: Surfaces, x: Float[np.ndarray, " lrs"], y: Float[np.ndarray, " wds"]) -> PerSurface:
    """The correlation of x and y among the best :data:`BEST` of the known cells (five at least).

    −1 where the basin is a diagonal furrow along which x + y is constant, 0 where it is upright or round. A cell weighs
    what it lies below the first one outside, so that two cells of nearly the same value may change places without
    the number jumping. ``nan`` where no cell is outside, or all that are known lie in one row or column.
    """
    cells = z.reshape(*z.shape[:-2], -1)
    places = ~np.isnan(z.reshape(-1, *z.shape[-2:])[0])
    known = int(places.sum())
    n_best = max(round(BEST * known), 5)
    if known <= n_best or min(places.any(axis=0).sum(), places.any(axis=1).sum()) < 2:
        return np.full(z.shape[:-2], np.nan)
    filled = np.where(np.isnan(cells), np.inf, cells)
    first_outside = np.partition(filled, n_best, axis=-1)[..., n_best, None].copy()  # a view would keep all of it
    weights = np.maximum(first_outside - filled, 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    np.divide(weights, total, out=weights, where=total > 0)
    a, b = np.repeat(x - x.mean(), len(y)), np.tile(y - y.mean(), len(x))
    mean_a, mean_b = weights @ a, weights @ b
    variances = (weights @ (a * a) - mean_a**2) * (weights @ (b * b) - mean_b**2)
    scale = np.sqrt(np.maximum(variances, 0.0))
    return np.divide(weights @ (a * b) - mean_a * mean_b, scale, out=np.zeros(scale.shape), where=scale > 1e-6)


def best_wd_trend(z: Surfaces, rows: Bool[np.ndarray, " lrs"]) -> PerSurface:
    """Kendall's τ_b between the learning rate and the best weight decay at it, over the given rows.

    −1 where the best weight decay falls whenever the learning rate rises, 0 where it has no trend, as when it is the
    same throughout. The best is the middle of several that are equal.
    """
    filled = np.where(np.isnan(z), np.inf, z)[..., rows, :]
    equal = filled == filled.min(axis=-1, keepdims=True)
    best = equal.astype(float) @ np.arange(float(z.shape[-1])) / equal.sum(axis=-1)
    n = best.shape[-1]
    if n < 2:
        return np.full(z.shape[:-2], np.nan)
    i, j = np.triu_indices(n, 1)
    signs = np.sign(best[..., j] - best[..., i])
    scale = np.sqrt(len(i) * (signs != 0).sum(axis=-1))
    return np.divide(signs.sum(axis=-1), scale, out=np.zeros(scale.shape), where=scale > 0)


def rank_agreement(z: Surfaces, rows: Bool[np.ndarray, " lrs"], ceiling: float) -> PerSurface:
    """How alike the given learning rates rank the weight decays: Spearman's correlation, the mean over pairs of rows.

    1 where all rank them the same, 0 where they have nothing in common. A pair is compared over the weight decays
    known in both, by their ranks among those known in each. Cells at the cut are tied, last. With m complete rows it is
    (m W − 1) / (m − 1) of Kendall's coefficient of concordance W.
    """
    chosen = z[..., rows, :]
    ranked, both = ranks(np.minimum(chosen, ceiling)), (~np.isnan(chosen)).astype(float)
    n = both @ both.mT
    s, q, p = ranked @ both.mT, (ranked**2) @ both.mT, ranked @ ranked.mT
    covariance = p - np.divide(s * s.mT, n, out=np.zeros(n.shape), where=n > 0)
    variance = q - np.divide(s * s, n, out=np.zeros(n.shape), where=n > 0)
    scale = np.sqrt(np.maximum(variance * variance.mT, 0.0))
    usable = (n > 1) & (scale > 1e-9) & ~np.eye(n.shape[-1], dtype=bool)
    pairs = np.where(usable, np.divide(covariance, scale, out=np.zeros(n.shape), where=usable), 0.0)
    count = usable.sum(axis=(-1, -2))
    return np.divide(pairs.sum(axis=(-1, -2)), count, out=np.full(count.shape, np.nan), where=count > 0)


def likeness(
    surface: Float[np.ndarray, "lrs wds"], z: Float[np.ndarray, "n lrs wds"], ceiling: float, by_row: bool = False
) -> Float[np.ndarray, " n"]:
    """Spearman's correlation of every surface in ``z`` with the one given, over all cells or, the mean, within rows.

    Over the cells known in both; ``nan`` where there is nothing to rank.
    """
    both = np.stack(np.broadcast_arrays(np.where(np.isnan(z), np.nan, surface), np.where(np.isnan(surface), np.nan, z)))
    cells = both if by_row else both.reshape(2, len(z), 1, surface.size)
    one, other = ranks(np.minimum(cells, ceiling))
    scale = np.sqrt((one * one).sum(axis=-1) * (other * other).sum(axis=-1))
    found = np.divide((one * other).sum(axis=-1), scale, out=np.full(scale.shape, np.nan), where=scale > 1e-9)
    return mean_of_known(found, (-1,))


def extents(
    z: Surfaces, x: Float[np.ndarray, " lrs"], y: Float[np.ndarray, " wds"], ceiling: float, slack: float = 0.0
) -> tuple[PerSurface, PerSurface, Bool[np.ndarray, "*batch"], Bool[np.ndarray, "*batch"]]:
    """How far from the best cell each coordinate alone can go before the basin's rim, in units of x and y.

    The rim is :data:`TOLERANCE` of the way from the best cell to the cut, and ``slack`` above that; the surface is taken
    as straight between cells. Returns the width along x, that along y, and for each whether the basin reaches the end of what is known on
    some side, so that the width is the least it can be.
    """
    surfaces = z.reshape(-1, *z.shape[-2:])
    filled = np.where(np.isnan(surfaces), np.inf, surfaces)
    at = np.where(np.isnan(surfaces), np.inf, to_compare(surfaces)).reshape(len(filled), -1).argmin(axis=1)
    i, j = np.unravel_index(at, z.shape[-2:])
    batch = np.arange(len(filled))
    best = np.minimum(filled[batch, i, j], ceiling)
    rim = best + TOLERANCE * (ceiling - best) + slack
    found = []
    for profile, start, axis in ((filled[batch, :, j], i, x), (filled[batch, i, :], j, y)):
        up, open_up = reach(profile, start, axis, rim)
        down, open_down = reach(profile[:, ::-1], len(axis) - 1 - start, -axis[::-1], rim)
        found.append((up + down, open_up | open_down))
    (width_x, open_x), (width_y, open_y) = (
        tuple(part.reshape(z.shape[:-2]) for part in (width, is_open)) for width, is_open in found
    )
    return width_x, width_y, open_x, open_y


def reach(
    profile: Float[np.ndarray, "surfaces points"],
    start: np.ndarray,
    axis: Float[np.ndarray, " points"],
    rim: Float[np.ndarray, " surfaces"],
) -> tuple[np.ndarray, np.ndarray]:
    """From ``start`` along rising ``axis``: the distance to where the profile first crosses the rim, and whether it does not."""
    batch, points = np.arange(len(profile)), np.arange(len(axis))
    beyond = (profile > rim[:, None]) & (points > start[:, None])
    is_open = ~beyond.any(axis=1)
    end = np.where(is_open, len(axis) - 1, beyond.argmax(axis=1))
    before = np.maximum(end - 1, start)
    low, high = profile[batch, before], profile[batch, end]
    unknown = np.isinf(high) & ~is_open
    rise = np.subtract(high, low, out=np.zeros(len(rim)), where=np.isfinite(high) & np.isfinite(low))
    share = np.divide(rim - low, rise, out=np.zeros(len(rim)), where=rise > 0)
    crossing = axis[before] + np.where(unknown, 0.0, np.clip(share, 0.0, 1.0)) * (axis[end] - axis[before])
    return np.where(is_open, axis[-1], crossing) - axis[start], is_open | unknown
