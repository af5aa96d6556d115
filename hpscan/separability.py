"""How separable learning rate and weight decay are: three numbers of a landscape, with intervals over seeds.

All take ``z`` of shape (lrs, wds), the metric of each cell, smaller is better: ``inf`` where a run diverged, ``nan``
where nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from hpscan.landscape import Landscape

__all__ = [
    "Interval",
    "Separability",
    "censored",
    "contour_slope",
    "independent_tuning_regret",
    "interaction_share",
    "mean_over_seeds",
    "separability",
]

Surface = Float[np.ndarray, "lrs wds"]

CUT = 0.8
"""The quantile of the finite cells at which surfaces and colour scales are cut (:func:`censored`)."""
SLIGHT = 0.15
"""The interaction share up to which two hyperparameters are called separable."""
RESAMPLES = 400


def censored(z: Surface) -> Surface:
    """Cut ``z`` at the :data:`CUT` quantile of its finite cells; diverged cells take that value, unknown ones stay.

    A run at the brink of divergence can be worse than the basin is deep by any factor, and the cells beyond have no
    value at all. Cut, they say what is known of them, that they are bad, and cannot outweigh the basin.
    """
    finite = z[np.isfinite(z)]
    return np.minimum(z, np.quantile(finite, CUT)) if len(finite) else np.full(z.shape, np.nan)


def contour_slope(z: Surface, log_lr: Float[np.ndarray, " lrs"], log_wd: Float[np.ndarray, " wds"]) -> float:
    """The slope dlog wd / dlog lr of the landscape's contours: −1 where only lr·wd matters, 0 where axes separate.

    With ∇z the gradient of the slightly smoothed surface and G = Σ ∇z ∇zᵀ, the slope is −G_lr,wd / G_wd,wd: the
    least-squares direction along which z does not change. Cells whose gradient touches a diverged or unknown cell
    are left out; ``nan`` if none remains or z does not depend on wd. On a noiseless quadratic valley it is right to
    0.03 for slopes up to ±1 and, by the one-sided differences at the border, 7 % too flat at ±3.
    """
    if min(z.shape) < 2:
        return float("nan")
    smooth = _smooth(_smooth(np.where(np.isfinite(z), z, np.nan)).T).T
    d_lr, d_wd = np.gradient(smooth, log_lr, log_wd)
    known = np.isfinite(d_lr) & np.isfinite(d_wd)
    along_wd = float(np.sum(d_wd[known] ** 2))
    return float("nan") if along_wd == 0.0 else float(-np.sum(d_lr[known] * d_wd[known]) / along_wd)


def interaction_share(z: Surface) -> float:
    """The share of the variance over cells that the best additive model f(lr) + g(wd) leaves unexplained.

    0: tuning one axis says nothing about the other. On a complete grid this is the residual of a two-way analysis of
    variance without interaction; diverged and unknown cells are left out of the fit. ``nan`` if z is constant.
    """
    known = np.isfinite(z)
    if min(z.shape) < 2:
        return float("nan")
    values = z[known]
    total = float(np.sum((values - values.mean()) ** 2)) if len(values) else 0.0
    if total == 0.0:
        return float("nan")
    rows, columns = np.nonzero(known)
    design = np.concatenate([np.eye(z.shape[0])[rows], np.eye(z.shape[1])[columns]], axis=1)
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(np.sum((values - fitted) ** 2)) / total


def independent_tuning_regret(z: Surface) -> Surface:
    """What tuning one axis at a time costs, from every starting cell: how much worse than the joint best one ends.

    From (lr₀, wd₀): the best lr at wd₀, the best wd at lr₀, both together. A diverged cell counts as the worst finite
    one, which makes the regret a lower bound; unknown cells are never chosen, and a pair that leads to one is ``nan``.
    """
    finite = z[np.isfinite(z)]
    if not len(finite):
        return np.full(z.shape, np.nan)
    censored = np.where(np.isposinf(z), finite.max(), z)
    choosable = np.where(np.isnan(z), np.inf, censored)  # an unknown cell comes after every diverged one
    best_lr, best_wd = choosable.argmin(axis=0), choosable.argmin(axis=1)
    regret = censored[best_lr[None, :], best_wd[:, None]] - finite.min()
    nothing_to_choose = np.isnan(z).all(axis=0)[None, :] | np.isnan(z).all(axis=1)[:, None]
    return np.where(nothing_to_choose, np.nan, regret)


@dataclass(frozen=True)
class Interval:
    """A statistic and its 95 % bootstrap interval over seeds; ``low`` and ``high`` are nan for a single seed."""

    value: float
    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float]:
        """``low`` and ``high``, or the value twice where there is no interval."""
        return (self.value, self.value) if np.isnan(self.low) else (self.low, self.high)


@dataclass(frozen=True)
class Separability:
    """The three numbers of one landscape."""

    contour_slope: Interval
    interaction_share: Interval
    independent_tuning_regret: Interval
    """The mean over starting cells, in units of the metric."""
    worst_regret: float

    @property
    def verdict(self) -> str:
        """``separable``, ``tied`` or ``unclear``.

        Separable: the slope's interval lies nearer to 0 than to ±1, and at most :data:`SLIGHT` of the variance is
        interaction. Tied: the slope's interval lies beyond, and more than that is interaction; a slope without interaction
        says only that one of the two hardly matters. Unclear: neither, as where the two interact but along no one
        direction. For a single seed the values stand in for the intervals.
        """
        slope_low, slope_high = self.contour_slope.ends
        least, most = self.interaction_share.ends
        if (slope_low > 0.5 or slope_high < -0.5) and least > SLIGHT:
            return "tied"
        if slope_low > -0.5 and slope_high < 0.5 and most <= SLIGHT:
            return "separable"
        return "unclear"


def separability(landscape: Landscape) -> Separability:
    """The separability of a landscape's mean over seeds, each number with a bootstrap interval.

    The slope is that of the surface :func:`censored`. Interaction and regret are those of the metric as it is: cutting an
    additive surface would make it look less so.
    Seeds are paired across cells (a seed fixes initialisation and batch order everywhere), so whole seeds are drawn
    with replacement. The column wd = 0 has no logarithm and takes no part in the contour slope.
    """
    positive = landscape.wd > 0
    log_lr, log_wd = np.log2(landscape.lr), np.log2(landscape.wd[positive])

    def statistics(z: Surface) -> tuple[float, float, float]:
        regret = independent_tuning_regret(z)
        mean_regret = float(np.nanmean(regret)) if np.isfinite(regret).any() else float("nan")
        return contour_slope(censored(z)[:, positive], log_lr, log_wd), interaction_share(z), mean_regret

    values = statistics(landscape.mean())
    lows, highs = _bootstrap(landscape.z, statistics)
    slope, interaction, regret = (Interval(*triple) for triple in zip(values, lows, highs, strict=True))
    worst = independent_tuning_regret(landscape.mean())
    return Separability(
        contour_slope=slope,
        interaction_share=interaction,
        independent_tuning_regret=regret,
        worst_regret=float(np.nanmax(worst)) if np.isfinite(worst).any() else float("nan"),
    )


def mean_over_seeds(values: Float[np.ndarray, " seeds"]) -> Interval:
    """The mean of one cell's seeds with its 95 % bootstrap interval."""
    if len(values) == 1:
        return Interval(float(values[0]), float("nan"), float("nan"))
    means = _draws(len(values)) @ values / len(values)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))


def _bootstrap(
    z: Float[np.ndarray, "seeds lrs wds"], statistics: Callable[[Surface], tuple[float, ...]]
) -> tuple[list[float], list[float]]:
    """Percentile intervals of statistics of the mean over resampled seeds."""
    n_seeds = len(z)
    unique, weights = np.unique(_draws(n_seeds), axis=0, return_counts=True)
    known = ~np.isnan(z)
    sampled = []
    for draw in unique:
        share = draw[:, None, None] * known
        total = np.where(known & (share > 0), z, 0.0) * share
        count = share.sum(axis=0)
        mean = np.divide(total.sum(axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
        sampled.append(statistics(mean))
    table = np.repeat(np.array(sampled), weights, axis=0)
    if n_seeds == 1:
        table[:] = np.nan
    with np.errstate(invalid="ignore"):
        low, high = (_quantile(table, q) for q in (0.025, 0.975))
    return low, high


def _draws(n_seeds: int) -> Int[np.ndarray, "resamples seeds"]:
    """How often each seed is drawn in each resample, the same for every statistic."""
    return np.random.default_rng(0).multinomial(n_seeds, [1 / n_seeds] * n_seeds, RESAMPLES if n_seeds > 1 else 1)


def _quantile(table: Float[np.ndarray, "resamples statistics"], q: float) -> list[float]:
    return [float(np.quantile(column[np.isfinite(column)], q)) if np.isfinite(column).any() else float("nan")
            for column in table.T]  # fmt: skip


def _smooth(z: Surface) -> Surface:
    """Weights ¼ ½ ¼ along the first axis. At a border or beside a hole a cell keeps its value: averaging one-sidedly would tilt it."""
    padded = np.pad(z, ((1, 1), (0, 0)), constant_values=np.nan)
    smoothed = 0.25 * padded[:-2] + 0.5 * z + 0.25 * padded[2:]
    return np.where(np.isnan(smoothed), z, smoothed)
