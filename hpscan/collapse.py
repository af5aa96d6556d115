"""Whether a landscape collapses onto one effective parameter: how much of it no curve over that parameter explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from hpscan.intervals import Form, Interval, Sample, ratio
from hpscan.landscape import Landscape
from hpscan.noise import fit_noise, without_seed_effects
from hpscan.surfaces import capped, cut, mean_of_known

__all__ = ["Collapse", "collapses", "curve_basis"]

PIECES = 6
"""Pieces of the curve: enough for a basin with two walls of any shape, few beside the cells."""
RESAMPLES = 600

Cells = Float[np.ndarray, " cells"]


@dataclass(frozen=True, eq=False)
class Collapse:
    """A landscape against one effective parameter."""

    panel: str
    parameter: str
    """``lr``, ``wd``, ``lr·wd`` or ``rotation``."""
    unexplained: Interval
    """The share of the variance over cells that the best curve leaves; 0 where the metric is a function of the parameter."""
    x: Cells
    """The parameter's value in each cell that has one."""
    z: Cells
    """The metric there, the mean over seeds, cut at the 80 % quantile."""
    fitted: Cells
    """The curve there."""
    censored: Bool[np.ndarray, " cells"]
    """Where the metric lies above the cut, or a seed diverged."""
    lr: Cells


def _product(shape: Landscape) -> np.ndarray:
    return np.multiply.outer(shape.lr, shape.wd)


PARAMETERS: dict[str, Callable[[Landscape], np.ndarray]] = {
    "lr": lambda shape: np.broadcast_to(shape.lr[:, None], shape.states.shape[1:]),
    "wd": lambda shape: np.broadcast_to(shape.wd[None, :], shape.states.shape[1:]),
    "lr·wd": _product,
    "rotation": lambda shape: mean_of_known(
        np.where(np.isfinite(shape.values["rotation"]), shape.values["rotation"], np.nan), (0,)
    ),
}
"""What a metric may be a function of, each a surface like a landscape's. Rotation is what was measured."""


def curve_basis(x: Cells) -> Float[np.ndarray, "cells rank"]:
    """An orthonormal basis, on the cells, of the continuous curves over x that are straight between :data:`PIECES` − 1 knots.

    Knots are quantiles of the values of x, each value counting once. Over a grid of few values, as those of one axis, a
    curve passes through the mean of each or nearly so.
    """
    values = np.unique(x)
    knots = np.quantile(values, np.linspace(0, 1, PIECES + 1)[1:-1])
    design = np.column_stack([np.ones_like(x), x, *(np.maximum(x - knot, 0.0) for knot in knots)])
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    return left[:, sizes > 1e-9 * sizes.max()]


def collapses(shape: Landscape) -> list[Collapse]:
    """A landscape over lr and wd against each of :data:`PARAMETERS` that it has; none where there is too little to fit.

    All are fitted to the same cells: those with some decay, whose logarithm exists, and, where rotation was recorded,
    with a measured rotation. The share is 1 − R² over these cells with the noise of the seeds taken out of both sums of
    squares, its interval Fieller's over new seeds drawn from their noise (:func:`hpscan.intervals.ratio`).
    """
    shape = shape.of_known_seeds()
    at = cut(shape.z)
    if shape.axes != ("lr", "wd") or np.isnan(at) or min(shape.z.shape[1:]) < 2:
        return []
    names = [name for name in PARAMETERS if name != "rotation" or "rotation" in shape.values]
    surfaces = {name: PARAMETERS[name](shape) for name in names}
    cells = (shape.known > 0) & np.all([surface > 0 for surface in surfaces.values()], axis=0)
    if cells.sum() < 4 * PIECES:
        return []
    z = capped(shape.z, at)
    z = z if len({seed.tobytes() for seed in np.isnan(z)}) == 1 else without_seed_effects(z, at)
    surface = mean_of_known(z, (0,))
    n_lr, n_wd = surface.shape
    noise = fit_noise(z, np.arange(float(n_lr)), np.arange(float(n_wd)), at).draw(np.random.default_rng(0), RESAMPLES)
    draws = noise / np.sqrt(np.maximum(shape.known, 1))
    sample = Sample(z[:, cells], surface[cells], draws[:, cells])
    censored = np.any(shape.censored | (shape.z >= at), axis=0)[cells]
    lr = np.broadcast_to(shape.lr[:, None], cells.shape)[cells]
    found = []
    for name, values in surfaces.items():
        basis = curve_basis(np.log2(values[cells]))
        fitted = basis @ (basis.T @ surface[cells])
        share = ratio(_residual(basis), _residual(np.full((len(lr), 1), len(lr) ** -0.5)), sample)
        share = share if np.isnan(share.value) else share.clipped(0.0, 1.0)
        found.append(Collapse(shape.name, name, share, values[cells], surface[cells], fitted, censored, lr))
    return found


def _residual(basis: Float[np.ndarray, "cells rank"]) -> Form:
    def residual(v: np.ndarray) -> np.ndarray:
        v = v - v[..., :1]  # every basis has the constants; a constant is 0 then, not what rounding leaves of it
        return v - (v @ basis) @ basis.T

    return Form(residual, residual)
