"""How the best weight decay moves with the budget, the batch size or the width: an exponent with its interval.

For each landscape along such an axis, the profile of the mean metric over seeds is its least over learning rates; its
minimum in log wd, by a parabola through the cells about the least, is the best λ. The exponent is the slope of log λ
against the log of the axis.

Two predictions stand beside it, in terms of the number of steps T:

    λ ∝ T^−½    normalised decay, λ = λ_norm √(b/(B T)): Loshchilov & Hutter 2019, appendix B.1
    λ ∝ T^−1    the EMA timescale of the weights, 1/λ steps, in torch's form 1/(α λ), a constant share of the training:
                Wang & Aitchison 2024, who find it constant in epochs where steps grow with the data set
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from hpscan.conventions import redrawn
from hpscan.grid import Panel, panels
from hpscan.intervals import Interval
from hpscan.landscape import Landscape
from hpscan.spec import Spec, SpecError
from hpscan.variants import VARIANTS, Decay

__all__ = ["PREDICTIONS", "Optimum", "Scaling", "exponent_of", "fit", "optimum", "profile", "scalings"]

PREDICTIONS = {"Loshchilov & Hutter": -0.5, "Wang & Aitchison": -1.0}
"""Exponents of the best λ of decoupled decay against steps."""
RESAMPLES = 400
RESOLUTION = 0.05
"""How much it varies with the place of a minimum between two cells by how far a parabola misses it, as a share of their
distance: 0.04 for basins three times as steep on one side. What does not vary, −0.22 there, no exponent sees."""


@dataclass(frozen=True)
class Optimum:
    """The best weight decay of one landscape."""

    at: float
    """The landscape's value on the axis."""
    wd: Interval
    """With a 95 % interval over seeds; a cell's own value, without one, where the optimum is on an edge."""
    lr: float
    """The learning rate of the least cell; nan where no cell's seeds all ended with a value."""
    edge: Literal["", "lower", "upper"]
    """The edge of the known weight decays that the least cell lies on: the best λ may lie beyond."""

    @property
    def inside(self) -> bool:
        """Whether it is known and lies on no edge: whether it can be fitted."""
        return not self.edge and math.isfinite(self.wd.value)


@dataclass(frozen=True)
class Scaling:
    """The best weight decay along one axis of the recipe."""

    name: str
    """The variant, and its values on further axes if there are any."""
    variant: str
    axis: str
    """``steps``, ``batch_size`` or ``width``."""
    quantity: Literal["wd", "shrink"]
    """``wd``, as the variant has it, or α λ, by which the weights shrink a step."""
    optima: list[Optimum]
    exponent: Interval
    """nan where fewer than two optima lie inside their grids."""
    level: float
    """log2 of the fitted λ at 1."""
    predictions: dict[str, float]
    """Exponents that have been predicted, by source; none for a width or under restarts."""

    @property
    def symbol(self) -> str:
        """The quantity as formulas have it."""
        return {"wd": "λ", "shrink": "α λ"}[self.quantity]

    @property
    def inside(self) -> list[Optimum]:
        """The optima that lie inside their grids, which alone are fitted."""
        return [best for best in self.optima if best.inside]

    def agrees(self, source: str) -> bool | None:
        """Whether a prediction lies in the exponent's interval; None where there is none."""
        if math.isnan(self.exponent.low):
            return None
        return self.exponent.low <= self.predictions[source] <= self.exponent.high


def scalings(spec: Spec, landscapes: Sequence[Landscape]) -> list[Scaling]:
    """The scaling of every variant along every axis of the recipe on which it has two values or more.

    ``landscapes`` are those of the spec, in its order. Variants of torch's form have a second row, for α λ.
    """
    found = []
    named = list(zip(panels(spec), landscapes, strict=True))
    for axis in (axis for axis, values in spec.grid.recipe().items() if len(values) > 1):
        groups: dict[tuple[object, ...], list[tuple[Panel, Landscape]]] = {}
        for panel, shape in named:
            rest = tuple((name, value) for name, value in panel.at if name != axis)
            groups.setdefault((panel.variant, rest), []).append((panel, shape))
        for group in groups.values():
            found.append(_scaling(axis, group, "wd"))
            if VARIANTS[group[0][0].variant].decay is Decay.TORCH:
                try:
                    shrinks = [(panel, redrawn(shape, Decay.PAPER)) for panel, shape in group]
                except SpecError:  # no paper's form, or a grid that cannot be sheared
                    continue
                found.append(_scaling(axis, shrinks, "shrink"))
    return found


def profile(z: Float[np.ndarray, "*draws lrs wds"]) -> Float[np.ndarray, "*draws wds"]:
    """The least over learning rates: inf where all diverged, nan where nothing is known."""
    least = np.where(np.isnan(z), np.inf, z).min(axis=-2)
    return np.where(np.isnan(z).all(axis=-2), np.nan, least)


def optimum(
    values: Float[np.ndarray, " wds"], log_wd: Float[np.ndarray, " wds"]
) -> tuple[float, Literal["", "lower", "upper"]]:
    """The minimum of a profile over log wd, and the edge that it lies on, if any; nan if nothing is finite.

    Off the edges it is the vertex of the parabola through the least cell and its neighbours; the cell itself where all
    runs of a neighbour diverged. No decay, with its log of −inf, is beyond the lower edge.
    """
    (found,), (below,), (above,) = optima_of(values[None], log_wd)
    return float(found), "lower" if below else "upper" if above else ""


def optima_of(
    values: Float[np.ndarray, "draws wds"], log_wd: Float[np.ndarray, " wds"]
) -> tuple[Float[np.ndarray, " draws"], Bool[np.ndarray, " draws"], Bool[np.ndarray, " draws"]]:
    """The :func:`optimum` of each profile, whether it lies on the lower edge, and whether on the upper one."""
    draws = np.arange(len(values))
    finite = np.isfinite(values)
    any_finite = finite.any(axis=1)
    j = np.where(finite, values, np.inf).argmin(axis=1)
    outside = np.zeros((len(values), 1), dtype=bool)
    known = np.concatenate(
        [outside, ~np.isnan(values) & np.isfinite(log_wd), outside], axis=1
    )  # known[j + 1] is that of j
    below = any_finite & ~known[draws, j]
    above = any_finite & ~below & ~known[draws, j + 2]
    on_edge = np.where(known[draws, j + 1], log_wd[j], log_wd[np.minimum(j + 1, len(log_wd) - 1)])
    inner = any_finite & ~below & ~above
    here = np.where(inner, j, 0)
    at = [log_wd[np.clip(here + step, 0, len(log_wd) - 1)] for step in (-1, 0, 1)]
    y = [values[draws, np.clip(here + step, 0, len(log_wd) - 1)] for step in (-1, 0, 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        falling, rising = (y[1] - y[0]) / (at[1] - at[0]), (y[2] - y[1]) / (at[2] - at[1])
        vertex = (at[0] + at[1]) / 2 - falling * (at[2] - at[0]) / (2 * (rising - falling))
        straight = ~np.isfinite(rising - falling) | (rising == falling)
    found = np.where(inner, np.where(straight, at[1], vertex), np.where(below, on_edge, log_wd[j]))
    return np.where(any_finite, found, np.nan), below, above


def exponent_of(
    log_at: Float[np.ndarray, " values"],
    log_wd: Float[np.ndarray, " values"],
    covariance: Float[np.ndarray, "values values"],
    n_seeds: int,
    resolution: float = 0.0,
) -> tuple[Interval, float]:
    """The slope of log wd against log of the axis, with a 95 % interval, and the level at 0.

    Weighted least squares with weights 1/(variance over seeds + ``resolution``²). What the residuals vary beyond the
    ``covariance`` over seeds and the resolution is taken for the points' own scatter τ², by the method of moments
    (DerSimonian & Laird 1986). The slope's variance is that of all together, its Student's degrees of freedom
    Satterthwaite's: ``n_seeds`` − 1 for the seeds' part, two less than points for the scatter. Two points have no
    scatter to be told from the slope; one seed has no variance but that.
    """
    from scipy.special import stdtrit

    if len(log_at) < 2:
        return Interval(math.nan, math.nan, math.nan), math.nan
    known = covariance + resolution**2 * np.eye(len(log_at))
    weights = 1.0 / np.diag(known) if known.any() else np.ones(len(log_at))
    design = np.stack([np.ones_like(log_at), log_at], axis=1)
    solve = np.linalg.inv(design.T * weights @ design) @ (design.T * weights)
    level, slope = solve @ log_wd
    residual = log_wd - design @ (level, slope)
    left_over = np.diag(weights) - (design * weights[:, None]) @ solve
    expected, gain = float(np.trace(left_over @ known)), float(np.trace(left_over))
    free = len(log_at) - 2
    scatter = max(0.0, (float(residual @ (weights * residual)) - expected) / gain) if free else 0.0
    row = solve[1]
    total = float(row @ known @ row) + scatter * float(row @ row)
    if n_seeds < 2 and not free:
        return Interval(float(slope), math.nan, math.nan), float(level)
    parts = [(float(row @ covariance @ row), n_seeds - 1), (scatter * float(row @ row), free)]
    spread = sum(part**2 / freedom for part, freedom in parts if part > 0)
    half = float(stdtrit(total**2 / max(spread, 1e-9 * total**2), 0.975)) * math.sqrt(total) if total > 0 else 0.0
    return Interval(float(slope), float(slope - half), float(slope + half)), float(level)


def fit(at: Sequence[float], shapes: Sequence[Landscape]) -> tuple[list[Optimum], Interval, float]:
    """The best weight decay of landscapes with the same grid and seeds, and its exponent and level over ``at``.

    Seeds are paired across landscapes, a seed being the same initialisation, so whole seeds are drawn for all of them.
    """
    n_seeds = len(shapes[0].seeds)
    draws = np.random.default_rng(0).multinomial(n_seeds, [1 / n_seeds] * n_seeds, RESAMPLES if n_seeds > 1 else 1)
    found = [_best(value, shape, draws) for value, shape in zip(at, shapes, strict=True)]
    inside = [(best, logs) for best, logs in found if best.inside]
    spread = np.diff(np.log2(shapes[0].wd[shapes[0].wd > 0]))
    exponent, level = exponent_of(
        np.log2([best.at for best, _ in inside]),
        np.log2([best.wd.value for best, _ in inside]),
        _covariance(np.reshape([logs for _, logs in inside], (len(inside), len(draws))), n_seeds),
        n_seeds,
        RESOLUTION * float(spread.mean()) if len(spread) else 0.0,
    )
    return [best for best, _ in found], exponent, level


def _scaling(axis: str, group: list[tuple[Panel, Landscape]], quantity: Literal["wd", "shrink"]) -> Scaling:
    members, shapes = [panel for panel, _ in group], [shape for _, shape in group]
    optima, exponent, level = fit([_at(axis, panel) for panel in members], shapes)
    rest = [f"{name}={value:.12g}" for name, value in members[0].at if name != axis]
    return Scaling(
        name=" ".join([members[0].variant, *rest]),
        variant=members[0].variant,
        axis="steps" if axis == "epochs" else axis,
        quantity=quantity,
        optima=optima,
        exponent=exponent,
        level=level,
        predictions=_predictions(axis, members),
    )


def _at(axis: str, panel: Panel) -> float:
    """A panel's value on an axis; of epochs, its steps."""
    return float(panel.recipe.steps if axis in ("steps", "epochs") else dict(panel.at)[axis])


def _best(at: float, shape: Landscape, draws: Int[np.ndarray, "draws seeds"]) -> tuple[Optimum, np.ndarray]:
    """The best weight decay over the cells whose seeds all ended, and its logarithm in each resample of the seeds."""
    z = np.where(shape.known == len(shape.seeds), shape.z, np.nan)
    columns = ~np.isnan(z).all(axis=(0, 1))
    columns |= not columns.any()
    z = z[:, :, columns]  # weight decays of which nothing is known, as of a finer grid, are no edge
    with np.errstate(divide="ignore"):
        log_wd = np.log2(shape.wd[columns])
    value, edge = optimum(profile(_mean(z, np.ones((1, len(z)), np.int64)))[0], log_wd)
    logs, _, _ = optima_of(profile(_mean(z, draws)), log_wd)
    low = high = math.nan
    if len(shape.seeds) > 1 and not edge and math.isfinite(value):
        from scipy.special import stdtrit

        half = float(stdtrit(len(z) - 1, 0.975)) * math.sqrt(_covariance(logs[None], len(z))[0, 0])
        low, high = 2 ** (value - half), 2 ** (value + half)
    means = np.where(np.isnan(z), np.inf, z).mean(axis=0)
    lr = float(shape.lr[np.unravel_index(means.argmin(), means.shape)[0]])
    return Optimum(at, Interval(2**value, low, high), math.nan if math.isnan(value) else lr, edge), logs


def _mean(z: Float[np.ndarray, "seeds lrs wds"], draws: Int[np.ndarray, "draws seeds"]) -> np.ndarray:
    """Means over resampled seeds, shape (draws, lrs, wds): inf where one of them diverged, nan where one is unknown."""
    mean = np.tensordot(draws, np.where(np.isfinite(z), z, 0.0), 1) / len(z)
    diverged = np.tensordot(draws, np.isposinf(z), 1) > 0
    return np.where(np.isnan(z).any(axis=0), np.nan, np.where(diverged, np.inf, mean))


def _covariance(sampled: Float[np.ndarray, "values draws"], n_seeds: int) -> Float[np.ndarray, "values values"]:
    """The covariance of estimates over resamples of the seeds, which is too small by (n − 1)/n; 0 for one seed."""
    if n_seeds < 2 or not len(sampled):
        return np.zeros((len(sampled),) * 2)
    return np.atleast_2d(np.cov(sampled)) * (n_seeds / (n_seeds - 1))


def _predictions(axis: str, group: list[Panel]) -> dict[str, float]:
    """The predicted exponents, by how steps follow the axis; of λ_norm, which has √T taken out of it."""
    if axis == "width" or any(len(panel.recipe.restarts()) > 2 for panel in group):
        return {}
    at, steps = (
        [math.log(value(panel)) for panel in group] for value in (lambda p: _at(axis, p), lambda p: p.recipe.steps)
    )
    following = round(float(np.polyfit(at, steps, 1)[0]))
    taken_out = 0.5 if VARIANTS[group[0].variant].decay is Decay.NORMALISED else 0.0
    return {source: following * (exponent + taken_out) + 0.0 for source, exponent in PREDICTIONS.items()}
