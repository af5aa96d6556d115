"""Which cells of a landscape to train next, and what to think of the others: a Gaussian process over the known ones.

A landscape is an array of shape (lrs, wds), smaller is better: the mean over a cell's seeds, ``inf`` where it is only
known to be bad (a seed diverged), ``nan`` where nothing is known. Everything is a function of that array and its axes,
so that the same results lead to the same cells.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float

from hpscan.surfaces import CUT, ROUNDING

__all__ = ["TOLERANCE", "Belief", "believe", "first_cells", "next_cells"]

Surface = Float[np.ndarray, "lrs wds"]
Axis = Float[np.ndarray, " points"]
Lrs = Float[np.ndarray, " lrs"]
Wds = Float[np.ndarray, " wds"]
Index = tuple[int, int]

TOLERANCE = 0.05
"""A cell is in the basin if its value is above the best by at most this share of it (:attr:`Belief.rim`)."""
EVERY = 4
"""Cells of an axis for one of the first round."""
CERTAINTY = 0.98
"""The share of the basin that must be known, in expectation, for a landscape to be settled."""
LIKELY = 1.96
"""Standard deviations about the basin's rim within which a cell may lie on either side: Bryan et al. 2005 (straddle)."""
BAD_VARIANCE = 0.25
"""Of a cell that is only known to be bad, beside the cut that it is taken for; in units of the values' variance."""
NEGLIGIBLE = 0.01
"""An improvement not worth a cell, as a share of the basin's tolerance."""


@dataclass(frozen=True, eq=False)
class Belief:
    """What the known cells say of all of them, in the metric's unit."""

    z: Surface
    """What is known."""
    mean: Surface
    """The process's posterior mean; it does not rise above the cut, where surfaces are censored."""
    sd: Surface
    """Its standard deviation, of the surface without a cell's own noise."""
    covariance: Float[np.ndarray, "cells cells"]
    noise: float
    """Standard deviation of a known cell's value about the surface, as fitted."""
    tolerance: float
    """Of the basin, as a share of the best value."""

    @property
    def known(self) -> Bool[np.ndarray, "lrs wds"]:
        """The cells whose value is known, or known to be bad."""
        return ~np.isnan(self.z)

    @property
    def filled(self) -> Surface:
        """What is known, and the mean elsewhere."""
        return np.where(self.known, self.z, self.mean)

    @property
    def rim(self) -> float:
        """The highest value of the basin: the tolerance above the best known cell, or the noise above one no larger than that."""
        best = float(np.nanmin(self.z))
        return best + (self.tolerance * abs(best) if abs(best) > self.noise else self.noise)

    @property
    def basin(self) -> Bool[np.ndarray, "lrs wds"]:
        """The cells that are in the basin: by their value, or by their mean."""
        return self.filled <= self.rim

    @property
    def in_basin(self) -> Surface:
        """How likely each cell, if trained, is to be in the basin; 0 or 1 where it is known."""
        from scipy.stats import norm

        guess = norm.cdf((self.rim - self.mean) / np.hypot(self.sd, self.noise))
        return np.where(self.known, self.z <= self.rim, guess)

    def settled(self, lost: Bool[np.ndarray, "lrs wds"]) -> bool:
        """Whether more cells, but those ``lost``, would change little: neither the basin's boundary nor the best cell."""
        open_ = ~self.known & ~lost
        p = self.in_basin[open_]
        wrong = float(np.minimum(p, 1 - p).sum())
        gain = float(_improvement(self, self.covariance).reshape(self.z.shape)[open_].max(initial=0.0))
        enough = wrong <= (1 - CERTAINTY) * int(self.basin.sum())
        return enough and gain <= NEGLIGIBLE * (self.rim - float(np.nanmin(self.z)))


def _depth(filled: Float[np.ndarray, " cells"]) -> float:
    """How far the cut lies above the best cell; what is known only to be bad counts as above it."""
    finite = filled[np.isfinite(filled)]
    cut = np.quantile(filled, CUT, method="lower")
    return float(min(cut, finite.max()) - finite.min())


def first_cells(shape: tuple[int, int]) -> list[Index]:
    """A coarse lattice that leaves the same margin on all sides: of each axis one point in :data:`EVERY`, two at least."""
    rows, columns = (_spread(points) for points in shape)
    return [(i, j) for i in rows for j in columns]


def _spread(points: int) -> list[int]:
    count = min(max(math.ceil(points / EVERY), 2), points)
    return [int((index + 0.5) * points / count) for index in range(count)]


def believe(z: Surface, x: Lrs, y: Wds, tolerance: float = TOLERANCE) -> Belief | None:
    """Fit the process: Matérn 5/2 with a length for each axis, and noise, by maximum likelihood.

    Known cells are cut from above at the landscape's :data:`~hpscan.surfaces.CUT` quantile, those known only to be bad
    with them: otherwise the slopes, which are nobody's concern, would set the process's scale.

    Parameters
    ----------
    z
        The landscape.
    x, y
        Where the learning rates and weight decays lie, in octaves.
    tolerance
        Of the basin.

    Returns
    -------
    None where too little is known: fewer than three cells, or no two that differ.
    """
    known, finite = ~np.isnan(z), np.isfinite(z)
    if known.sum() < 3 or not finite.any():
        return None
    points = np.stack(np.meshgrid(_in_steps(x), _in_steps(y), indexing="ij"), axis=-1).reshape(-1, 2)
    measured = points[known.ravel()]
    # Cells are dense in the basin. Each unknown one counts as its nearest known one, or the cut would sink with them.
    nearest = ((points[:, None] - measured) ** 2).sum(axis=-1).argmin(axis=1)
    best = float(z[finite].min())
    ceiling = best + _depth(z[known][nearest])
    values = np.minimum(z[known], ceiling)
    if _alike(values):
        return None
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, (0.05, 100.0)) * Matern((3.0, 3.0), (0.7, 60.0), nu=2.5) + WhiteKernel(
        0.01, (1e-5, 0.5)
    )
    unsure = np.where(np.isfinite(z[known]), 1e-8, BAD_VARIANCE)
    process = GaussianProcessRegressor(kernel, alpha=unsure, normalize_y=True)
    with warnings.catch_warnings():  # a length at its bound is a fit like any other: an axis that does not matter
        warnings.simplefilter("ignore")
        process.fit(measured, values)
        mean, covariance = process.predict(points, return_cov=True)
    scale = float(values.std())
    own_noise = float(process.kernel_.k2.noise_level) * scale**2
    covariance = covariance - own_noise * np.eye(len(points))
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return Belief(
        z, np.minimum(mean, ceiling).reshape(z.shape), sd.reshape(z.shape), covariance, math.sqrt(own_noise), tolerance
    )


def next_cells(
    z: Surface,
    x: Lrs,
    y: Wds,
    n: int,
    *,
    tolerance: float = TOLERANCE,
    pending: Collection[Index] = (),
    lost: Collection[Index] = (),
) -> list[Index]:
    """At most ``n`` unknown cells that tell most, best first; none if the landscape is settled.

    By turns the cell of the greatest expected improvement on the best and the one that straddles the basin's rim most.
    ``pending`` cells are in training: they are not proposed, and are taken to come out as the process expects. Those
    that are ``lost`` will never be known, whatever they promise.
    """
    belief = believe(z, x, y, tolerance)
    never = np.zeros(z.shape, dtype=bool)
    for cell in lost:
        never[cell] = True
    free = np.isnan(z) & ~never
    for cell in pending:
        free[cell] = False
    if belief is None:
        known = z[~np.isnan(z)]
        if len(known) > 2 and np.isfinite(known).all() and _alike(known):  # all of it is the basin
            return [cell for cell in _around(z) if free[cell]][:n]
        return _farthest(~free, _in_steps(x), _in_steps(y), n)
    if belief.settled(never):
        # near a cliff the process may be too sure of itself; the best cell is at least a local one
        return [cell for cell in _around(z) if free[cell]][:n]
    covariance = _given(belief, pending)
    chosen: list[Index] = []
    for turn in range(min(n, int(free.sum()))):
        improvement, straddle = _improvement(belief, covariance), _straddle(belief, covariance)
        for score in (improvement, straddle):
            score[~free.ravel()] = -np.inf
        worth = improvement.max() > NEGLIGIBLE * (belief.rim - np.nanmin(z))
        score = improvement if worth and (turn % 2 == 0 or straddle.max() <= 0) else straddle
        at = int(score.argmax())
        cell = (at // z.shape[1], at % z.shape[1])
        chosen.append(cell)
        free[cell] = False
        covariance = _conditioned(covariance, at, belief.noise)
    return chosen


def _alike(values: Float[np.ndarray, " cells"]) -> bool:
    """Whether no two differ by more than rounding."""
    return float(np.ptp(values)) <= ROUNDING * float(np.abs(values).max())


def _around(z: Surface) -> list[Index]:
    """The neighbours of the best known cell, the nearest first."""
    i, j = divmod(int(np.nanargmin(z)), z.shape[1])
    steps = sorted(product((-1, 0, 1), repeat=2), key=lambda step: abs(step[0]) + abs(step[1]))
    return [(i + a, j + b) for a, b in steps if 0 <= i + a < z.shape[0] and 0 <= j + b < z.shape[1]]


def _in_steps(axis: Axis) -> Axis:
    """An axis in units of its usual step."""
    return axis / (float(np.median(np.diff(axis))) if len(axis) > 1 else 1.0)


def _given(belief: Belief, pending: Iterable[Index]) -> np.ndarray:
    """The covariance once the pending cells are known; the mean is as it was if they come out as expected."""
    covariance = belief.covariance
    for i, j in pending:
        covariance = _conditioned(covariance, i * belief.z.shape[1] + j, belief.noise)
    return covariance


def _conditioned(covariance: np.ndarray, at: int, noise: float) -> np.ndarray:
    column = covariance[:, at]
    return covariance - np.outer(column, column) / (column[at] + noise**2 + 1e-15)


def _improvement(belief: Belief, covariance: np.ndarray) -> np.ndarray:
    """Expected improvement of each cell on the best mean of a known one: the least known value would be a lucky one's."""
    from scipy.stats import norm

    sd = np.sqrt(np.maximum(np.diag(covariance), 1e-18))
    gain = belief.mean[belief.known].min() - belief.mean.ravel()
    return gain * norm.cdf(gain / sd) + sd * norm.pdf(gain / sd)


def _straddle(belief: Belief, covariance: np.ndarray) -> np.ndarray:
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return LIKELY * sd - np.abs(belief.mean.ravel() - belief.rim)


def _farthest(taken: Bool[np.ndarray, "lrs wds"], x: Lrs, y: Wds, n: int) -> list[Index]:
    """Free cells, each the farthest from all that are taken: where nothing good is known, look elsewhere."""
    taken = taken.copy()
    chosen: list[Index] = []
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    for _ in range(min(n, int((~taken).sum()))):
        gaps = points[:, :, None] - points[taken]
        distance = np.where(taken, -1.0, (gaps**2).sum(axis=-1).min(axis=-1, initial=np.inf))
        i, j = np.unravel_index(int(distance.argmax()), taken.shape)
        chosen.append((int(i), int(j)))
        taken[i, j] = True
    return chosen
