"""What a seed changes: the noise about a mean surface, its size from cell to cell and how far it reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from hpscan.surfaces import ROUNDING, mean_of_known

__all__ = ["Noise", "fit_noise", "without_seed_effects"]

REACHES = (0.3, 0.7, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0)
"""Lengths of correlation that are tried along each axis, in steps of the grid."""
MOST_LAG = 6
USUAL_NEAR, USUAL_REACH = 0.8, 2.0
"""What the noise of one seed is taken to be like: about what the shipped sweeps show. Their neighbouring cells share
half of their noise; taken as independent, a single seed's surface would seem to be known three times as well."""


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of one seed: standard deviations times a correlation that falls off along each axis.

    Corr(ε_ij, ε_kl) = near · exp(−|x_i − x_k| / reach_x − |y_j − y_l| / reach_y) + common + (rest where ij = kl): the
    separable first-order autoregression of field trials (Cullis & Gleeson 1991), with what is common to a seed's
    cells and what is each cell's own.
    """

    sd: Float[np.ndarray, "lrs wds"]
    """0 where every seed lies at the cut."""
    near: float
    common: float
    reach_x: float
    reach_y: float
    x: Float[np.ndarray, " lrs"]
    y: Float[np.ndarray, " wds"]

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n lrs wds"]:
        """``n`` seeds' noise."""
        shape = (n, *self.sd.shape)
        field = rng.standard_normal(shape)
        field *= np.sqrt(max(1.0 - self.near - self.common, 0.0))
        if self.near:
            left, right = _root(self.x, self.reach_x), _root(self.y, self.reach_y)
            near = left @ rng.standard_normal(shape) @ right.T
            near *= np.sqrt(self.near)
            field += near
        if self.common:
            field += np.sqrt(self.common) * rng.standard_normal((n, 1, 1))
        field *= self.sd
        return field


def without_seed_effects(z: Float[np.ndarray, "seeds lrs wds"], ceiling: float) -> Float[np.ndarray, "seeds lrs wds"]:
    """Take out what a seed adds to all its cells alike, least squares on cell + seed; cells at ``ceiling`` stay.

    Where all cells have the same seeds this changes no contrast of cell means; where runs are missing a lucky seed
    would otherwise show as a better cell.
    """
    live = ~np.isnan(z) & (z < ceiling)
    mean = mean_of_known(np.where(live, z, np.nan), (0,))
    flat = live.reshape(len(z), -1).astype(float)
    # normal equations, cells taken out; of seeds that share no cells each group is about its own mean
    normal = np.diag(flat.sum(axis=1)) - flat / np.maximum(flat.sum(axis=0), 1.0) @ flat.T
    shift = np.linalg.lstsq(normal, np.where(live, z - mean, 0.0).sum(axis=(1, 2)))[0]
    return np.where(live, z - shift[:, None, None], z)


def fit_noise(
    z: Float[np.ndarray, "seeds lrs wds"],
    x: Float[np.ndarray, " lrs"],
    y: Float[np.ndarray, " wds"],
    ceiling: float = np.inf,
) -> Noise:
    """Fit the noise of seeds about the mean of their cells; cells whose seeds all lie at ``ceiling`` have none.

    With two seeds or more: variances of cells, each pooled with its neighbours by weights (¼ ½ ¼) ⊗ (¼ ½ ¼); then
    the correlation, by least squares on the correlations of residuals along the axes. With one seed the size is read off
    the surface's roughness (:func:`_of_one_seed`) and the correlation taken as usual.
    """
    known = ~np.isnan(z)
    n = known.sum(axis=0)
    mean = mean_of_known(z, (0,))
    live = (n > 0) & ~(mean >= ceiling)
    if not (live & (n > 1)).any():
        rows, columns = (n > 0).any(axis=1), (n > 0).any(axis=0)  # closed up where nothing is known
        reach_x, reach_y = USUAL_REACH * _step(x[rows]), USUAL_REACH * _step(y[columns])
        size = _of_one_seed(mean[np.ix_(rows, columns)])
        return Noise(np.where(live, size, 0.0), USUAL_NEAR, 0.0, reach_x, reach_y, x, y)
    apart = np.abs(z - mean) > ROUNDING * np.abs(mean)  # or how seeds that are equal were rounded would be correlated
    residual = np.where(known & live & (n > 1) & apart, (z - mean) * np.sqrt(n / np.maximum(n - 1, 1)), 0.0)
    squares, seeds = (residual**2).sum(axis=0), np.where(live & (n > 1), n, 0)
    sd = np.where(live, _pooled_sd(squares, seeds, 1), 0.0)
    # A residual over a size that is mostly its own says little of how large it is: products would come out too small.
    broad = _pooled_sd(squares, seeds, 4)
    standard = np.divide(residual, broad, out=np.zeros(residual.shape), where=broad > 0)
    near, common, reach_x, reach_y = _correlation(standard, known & live & (n > 1) & (sd > 0), x, y)
    return Noise(sd, near, common, reach_x, reach_y, x, y)


def _pooled_sd(
    squares: Float[np.ndarray, "lrs wds"], n: Int[np.ndarray, "lrs wds"], times: int
) -> Float[np.ndarray, "lrs wds"]:
    """Variances pooled with the neighbours' ``times`` over, of cells with ``n`` > 1 seeds; elsewhere theirs, or the overall."""
    weighted, weights = squares, n.astype(float)
    for _ in range(times):
        weighted, weights = _blurred(weighted), _blurred(weights)
    overall = squares.sum() / n.sum()
    return np.sqrt(np.divide(weighted, weights, out=np.full(weights.shape, overall), where=weights > 0))


def _blurred(z: Float[np.ndarray, "lrs wds"]) -> Float[np.ndarray, "lrs wds"]:
    for axis in (0, 1):
        padded = np.pad(z, [(1, 1) if axis == k else (0, 0) for k in (0, 1)])
        before, after = (np.take(padded, np.arange(start, start + z.shape[axis]), axis) for start in (0, 2))
        z = 0.25 * before + 0.5 * z + 0.25 * after
    return z


def _of_one_seed(surface: Float[np.ndarray, "lrs wds"]) -> float:
    """The standard deviation of the noise of a single seed, from second differences along both axes.

    On an even grid the mixed second difference of a 3×3 window removes every f(x) + g(y), and every quadratic, and has
    variance 36 σ² if cells are independent (Rice 1984; Gasser et al. 1986), less where neighbours are alike. One σ
    for the whole surface, from the median of what the windows say, so that kinks do not pass for noise. Along an axis of
    two values the first difference takes its place. Where every window has a hole all that varies may be noise.
    """
    if np.isnan(surface).all():
        return 0.0
    orders = [min(2, size - 1) for size in surface.shape]
    mixed = np.diff(np.diff(surface, orders[0], axis=0), orders[1], axis=1)
    mixed = mixed[~np.isnan(mixed)]
    if not len(mixed):
        return float(np.nanstd(surface))
    sizes = np.abs(mixed[mixed != 0.0])
    fall = np.exp(-1.0 / USUAL_REACH)
    # the variances of (1), (1, −1) and (1, −2, 1) along one axis, of noise that is alike and of noise that is not
    alike, own = (1.0, 2.0 - 2.0 * fall, 6.0 - 8.0 * fall + 2.0 * fall**2), (1.0, 2.0, 6.0)
    gain = USUAL_NEAR * alike[orders[0]] * alike[orders[1]] + (1.0 - USUAL_NEAR) * own[orders[0]] * own[orders[1]]
    return float(np.median(sizes)) / 0.6745 / float(np.sqrt(gain)) if len(sizes) else 0.0


def _step(axis: Float[np.ndarray, " points"]) -> float:
    return float(np.median(np.diff(axis))) if len(axis) > 1 else 1.0


def _correlation(
    standard: Float[np.ndarray, "seeds lrs wds"], known: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[float, float, float, float]:
    """(near, common, reach_x, reach_y) that fit the mean products of residuals along the axes best."""
    lags_x, lags_y = _products(standard, known, x), _products(standard.mT, known.mT, y)
    if not len(lags_x) + len(lags_y):
        return 0.0, 0.0, 1.0, 1.0
    step_x, step_y = _step(x), _step(y)
    table = np.concatenate([lags_x, lags_y])
    values, weights = table[:, 1], table[:, 2]
    best, answer = np.inf, (0.0, 0.0, step_x, step_y)
    for reach_x in REACHES if len(lags_x) else (1.0,):
        for reach_y in REACHES if len(lags_y) else (1.0,):
            falls = np.exp(-np.concatenate([lags_x[:, 0] / (reach_x * step_x), lags_y[:, 0] / (reach_y * step_y)]))
            near, common = _two_shares(falls, values, weights)
            error = float(np.sum(weights * (values - near * falls - common) ** 2))
            if error < best:
                best, answer = error, (near, common, reach_x * step_x, reach_y * step_y)
    return answer


def _products(standard: np.ndarray, known: np.ndarray, at: np.ndarray) -> Float[np.ndarray, "pairs 3"]:
    """(distance, correlation, number of products) of pairs of rows up to :data:`MOST_LAG` apart."""
    found = []
    for i in range(len(at)):
        for k in range(i + 1, min(i + 1 + MOST_LAG, len(at))):
            both = known[:, i] & known[:, k]
            one, other = standard[:, i][both], standard[:, k][both]
            scale = float(np.sqrt((one @ one) * (other @ other)))
            if scale > 0:
                found.append((at[k] - at[i], float(one @ other) / scale, int(both.sum())))
    return np.array(found, dtype=float).reshape(-1, 3)


def _two_shares(falls: np.ndarray, values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Least squares of values on near · falls + common, both at least 0 and together at most 1."""
    design = np.stack([falls, np.ones_like(falls)])
    gram, right = (design * weights) @ design.T, (design * weights) @ values
    near, common = np.linalg.lstsq(gram, right, rcond=None)[0]
    if near < 0:
        near, common = 0.0, right[1] / gram[1, 1]
    elif common < 0:
        near, common = right[0] / gram[0, 0], 0.0
    near, common = max(float(near), 0.0), max(float(common), 0.0)
    excess = max(near + common, 1.0)
    return near / excess, common / excess


def _root(at: Float[np.ndarray, " points"], reach: float) -> Float[np.ndarray, "points points"]:
    """A square root of the correlation matrix exp(−|a − b| / reach)."""
    return np.linalg.cholesky(np.exp(-np.abs(at[:, None] - at[None, :]) / reach) + 1e-10 * np.eye(len(at)))
