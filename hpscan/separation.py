"""How separable a landscape's axes are: every number with what can be said of its uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from hpscan import basin, nulls
from hpscan.intervals import (
    NOTHING,
    Form,
    Interval,
    Sample,
    percentile_interval,
    pivotal_interval,
    ratio,
    without_attenuation,
)
from hpscan.landscape import SWITCHES, Landscape
from hpscan.noise import Noise, without_seed_effects
from hpscan.redraws import Redraws
from hpscan.surfaces import (
    Derivative,
    additive_fit,
    capped,
    cut,
    gradients,
    mean_of_known,
    mean_regrets,
    regret,
    to_compare,
    unexplained_cells,
)

__all__ = [
    "Evidence",
    "Extent",
    "Separability",
    "coordinates",
    "has_place",
    "held_out_regrets",
    "separability",
    "settled",
    "value_at",
    "worst_finite_cell",
]

RESAMPLES = 600
NORMAL_95 = 1.644854
"""The 95 % quantile of the normal distribution."""
SOME = 5
"""One resample in so many is ranked to say how alike they are: a mean needs fewer than a quantile does."""
MEMORIES = ("momentum", "beta1", "beta2")
"""Axes that are read in octaves of 1/(1 − β) (:func:`coordinates`)."""

Seeds = Float[np.ndarray, "seeds lrs wds"]
Drawn = Float[np.ndarray, "resamples seeds lrs wds"]


@dataclass(frozen=True)
class Extent:
    """The basin's width along one axis, the other held at the best cell, in octaves."""

    width: Interval
    is_open: bool
    """Whether it reaches the end of what is known, so that the width is the least it can be."""


@dataclass(frozen=True)
class Evidence:
    """p-values of permutation tests: that there is anything but noise. nan where a test has nothing to test."""

    surface: float
    """That seeds agree at all on which cells are better."""
    first: float
    """That the first axis, lr, matters: alone or together with the other."""
    second: float
    """That the second axis, wd, matters."""
    interaction: float
    """That the two do more together than a sum f(lr) + g(wd)."""


@dataclass(frozen=True)
class Separability:
    """The numbers of one landscape."""

    contour_slope: Interval
    interaction_share: Interval
    independent_tuning_regret: Interval
    """Each axis tuned alone and the two put together: the mean over starting cells, in units of the metric."""
    one_pass_regret: Interval
    """One axis tuned, then the other: likewise."""
    worst_regret: float
    """The first of the two from the worst start, chosen and judged on the same seeds."""
    tilt: Interval
    best_wd_trend: Interval
    rank_agreement: Interval
    extents: tuple[Extent, Extent]
    evidence: Evidence
    n_seeds: int
    """The most seeds that any cell has."""


def coordinates(axis: str, values: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """Where an axis's values lie: octaves, of 1/(1 − β) for a momentum or a beta; switches as they are.

    Zero has no octave. It is put one step below the least other value for the noise, which needs distances, and takes
    no part in slopes, tilt and widths.
    """
    if axis in MEMORIES:
        return -np.log2(1.0 - values)
    if axis in SWITCHES:
        return np.asarray(values, dtype=float)
    positive = values > 0
    octaves = np.log2(np.where(positive, values, 1.0))
    if not positive.all():
        found = octaves[positive]
        step = float(np.median(np.diff(found))) if len(found) > 1 else 1.0
        octaves[~positive] = found.min(initial=0.0 if not len(found) else np.inf) - step
    return octaves


def value_at(axis: str, place: float) -> float:
    """The value of an axis that lies there: the other way round than :func:`coordinates`."""
    if axis in SWITCHES:
        return float(place)
    return float(1.0 - 2.0**-place if axis in MEMORIES else 2.0**place)


def has_place(axis: str, values: Float[np.ndarray, " points"]) -> Bool[np.ndarray, " points"]:
    """Where an axis's values have coordinates: all but the zeros of axes in octaves."""
    return (values > 0) | (axis in MEMORIES or axis in SWITCHES)


def separability(landscape: Landscape) -> Separability:
    """Every number of a landscape, with intervals over seeds.

    All but the regrets are those of the surface cut at its 80 % quantile (:func:`hpscan.surfaces.cut`): what lies
    above, diverged runs included, is censored. The regrets are those of the metric as it is, diverged runs counting as
    the worst finite cell. Intervals come from new seeds drawn about the estimated surface, with the noise that the
    seeds show (:mod:`hpscan.noise`): whole seeds drawn with replacement, two to five of them, would repeat
    themselves too often to tell.
    """
    landscape = landscape.of_known_seeds()
    at = cut(landscape.z)
    if np.isnan(at) or min(landscape.z.shape[1:]) < 2:
        return _nothing(landscape)
    first, second = landscape.axes
    x, y = coordinates(first, landscape.lr), coordinates(second, landscape.wd)
    has_coordinates = np.outer(has_place(first, landscape.lr), has_place(second, landscape.wd))
    rng = np.random.default_rng(0)
    z = capped(landscape.z, at)
    if len({seed.tobytes() for seed in np.isnan(z)}) > 1:
        z = without_seed_effects(z, at)
    n = np.sum(~np.isnan(z), axis=0)
    surface = _mean(z)
    beyond = landscape.censored | (landscape.z >= at)
    censored = 2 * np.sum(beyond, axis=0) > n
    redraws = Redraws.about(z, landscape.states == "diverged", x, y, at)
    placed = np.where(has_coordinates, surface, np.nan)
    rows, columns = (np.flatnonzero((n > 0).any(axis=axis)) for axis in (1, 0))

    def extents(z: np.ndarray, slack: float = 0.0) -> tuple[np.ndarray, ...]:
        """Rows and columns of which nothing is known closed up: they do not end a basin."""
        return basin.extents(z[..., rows[:, None], columns], x[rows], y[columns], at, slack)

    widths = extents(placed)
    errors = np.where(np.isnan(placed), 0.0, redraws.noise.sd / np.sqrt(np.maximum(n, 1)))
    slack = float(np.sqrt(2) * NORMAL_95 * errors.flat[np.nan_to_num(placed, nan=np.inf).argmin()])
    wider = extents(placed, slack)

    def of_means(seeds: Drawn, hidden: Bool[np.ndarray, "lrs wds"]) -> dict[str, np.ndarray]:
        mean = _mean(seeds)
        shown = np.where(has_coordinates & ~hidden, mean, np.nan)
        return {
            "means": np.nan_to_num(_flat(mean)),
            "tilt": basin.tilt(shown, x, y),
            "extents": np.stack(extents(shown), axis=-1),
            "reliability": basin.likeness(placed, shown[::SOME], at),
        }

    found = _resampled(redraws, of_means, rng)
    means = found.pop("means")
    means -= means.mean(axis=0) if redraws.varies else means  # equal seeds differ from their mean by rounding
    sample = Sample(_flat(z), np.nan_to_num(_flat(surface)), means)
    slope = ratio(*_slope_forms(~np.isnan(placed), x, y), sample, 1.0 - _share_of_blocks(~np.isnan(placed)))
    share = ratio(*_interaction_forms(surface, censored), sample, redraws.hidden)
    tilt = percentile_interval(float(basin.tilt(placed, x, y)), found["tilt"])
    del sample, means  # a quarter of the memory that the analysis of 100,000 runs takes
    uncut = _uncut(landscape, np.any(to_compare(surface) < to_compare(np.array(at)), axis=1), x, y, rng)
    return Separability(
        contour_slope=slope,
        interaction_share=share.clipped(0.0, 1.0),
        tilt=without_attenuation(tilt, found["reliability"]).clipped(-1.0, 1.0),
        extents=(_extent(widths, wider, found["extents"].T, 0), _extent(widths, wider, found["extents"].T, 1)),
        evidence=_evidence(landscape.z, z, beyond, redraws.noise, rng),
        n_seeds=int(n.max()),
        **uncut,
    )


def _resampled(
    redraws: Redraws,
    statistics: Callable[[Drawn, Bool[np.ndarray, "lrs wds"]], dict[str, np.ndarray]],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Every statistic of every resample, resamples first, from seeds and the cells to leave out of them."""
    drawn = [statistics(seeds, hidden) for seeds, hidden in redraws.batches(rng, RESAMPLES)]
    return {name: np.concatenate([batch[name] for batch in drawn]) for name in drawn[0]}


def _share_of_blocks(known: Bool[np.ndarray, "lrs wds"]) -> float:
    """The share of blocks of four neighbouring cells that are known; 1 if there is none at all.

    Rows and columns of which no cell is known are closed up, as of a sweep that has got no further than a coarse grid.
    """
    known = known[np.ix_(known.any(axis=1), known.any(axis=0))]
    whole = known[:-1, :-1] & known[:-1, 1:] & known[1:, :-1] & known[1:, 1:]
    return float(whole.mean()) if whole.size else 1.0


def _slope_forms(known: Bool[np.ndarray, "lrs wds"], x: np.ndarray, y: np.ndarray) -> tuple[Form, Form]:
    """−G_xy and G_yy, whose ratio is the contour slope (:func:`hpscan.surfaces.contour_slope`)."""
    along_x, along_y = gradients(known, x, y)
    return Form(Derivative(along_x.corners, -along_x.weights), along_y), Form(along_y, along_y)


def _interaction_forms(
    surface: Float[np.ndarray, "lrs wds"], censored: Bool[np.ndarray, "lrs wds"]
) -> tuple[Form, Form]:
    """Sums of squares: about the best additive fit, and about the mean (:func:`hpscan.surfaces.interaction_share`)."""
    known = ~np.isnan(surface).ravel()
    cells = unexplained_cells(surface, censored)
    fit = additive_fit(cells)
    reference = int(known.argmax())

    def unexplained(v: np.ndarray) -> np.ndarray:
        v = (v - v[..., [reference]]) * cells.ravel()
        return v - fit(v)

    def about_the_mean(v: np.ndarray) -> np.ndarray:
        v = (v - v[..., [reference]]) * known  # a constant is 0 then, not what rounding leaves of it
        return (v - (v @ known / known.sum())[..., None]) * known

    return Form(unexplained, unexplained), Form(about_the_mean, about_the_mean)


def _uncut(
    landscape: Landscape, rows: Bool[np.ndarray, " lrs"], x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """What is read off the metric as it is: regrets, and ranks of weight decay at the learning rates of ``rows``."""
    worst_cell = worst_finite_cell(landscape.z)
    z = capped(landscape.z, worst_cell)
    seen, redraws = settled(z, worst_cell), Redraws.about(z, landscape.states == "diverged", x, y, worst_cell)

    def statistics(seeds: Drawn, hidden: Bool[np.ndarray, "lrs wds"]) -> dict[str, np.ndarray]:
        seeds[..., hidden] = np.nan
        cells = settled(seeds, worst_cell)
        return {
            "best_wd_trend": basin.best_wd_trend(cells, rows),
            "rank_agreement": basin.rank_agreement(cells, rows, worst_cell),
            "reliability": basin.likeness(seen[rows], cells[::SOME, rows], worst_cell, by_row=True),
            "regrets": np.stack(held_out_regrets(seeds, worst_cell), axis=-1),
        }

    values, drawn = statistics(z[None], np.zeros(seen.shape, dtype=bool)), _resampled(redraws, statistics, rng)
    found: dict[str, Any] = {}
    for name in ("best_wd_trend", "rank_agreement"):
        value = float(values[name][0])
        interval = without_attenuation(percentile_interval(value, drawn[name]), drawn["reliability"]).clipped(-1.0, 1.0)
        found[name] = interval if redraws.varies else Interval(value, np.nan, np.nan)
    for which, name in enumerate(("independent_tuning_regret", "one_pass_regret")):
        value = float(values["regrets"][0, which])
        interval = pivotal_interval(value, drawn["regrets"][:, which])
        found[name] = interval if redraws.varies and len(z) > 1 else Interval(value, np.nan, np.nan)
    judged = np.where(np.any(landscape.censored, axis=0), worst_cell, _mean(z))
    return found | {"worst_regret": float(np.nanmax(regret(judged, judged)))}


def settled(z: Float[np.ndarray, "*batch seeds lrs wds"], ceiling: float) -> Float[np.ndarray, "*batch lrs wds"]:
    """The mean of a cell's runs below the ceiling, or the ceiling where more than half of them are not.

    Near the brink the mean of all says how often a run diverges, which a few seeds cannot.
    """
    beyond = z >= ceiling
    below = mean_of_known(np.where(beyond, np.nan, z), (-3,))
    return to_compare(np.where(2 * beyond.sum(axis=-3) > np.sum(~np.isnan(z), axis=-3), ceiling, below))


def worst_finite_cell(z: Seeds) -> float:
    """The largest mean of a cell's finite runs: what a run that diverged counts as where something must be counted."""
    return float(np.nanmax(_mean(np.where(np.isfinite(z), z, np.nan))))


def held_out_regrets(z: Float[np.ndarray, "*batch seeds lrs wds"], worst: float) -> tuple[np.ndarray, np.ndarray]:
    """Both regrets, the mean over starts and seeds: chosen on the mean of the other seeds, judged on the one left out.

    Chosen and judged on the same seeds, the joint best would flatter itself more than the others. A single seed
    has no others, and does that. A run that diverged or was stopped has the value ``worst``, and nothing is above it; a
    cell in which a seed chosen by has it is not chosen before any other.
    """
    known = ~np.isnan(z)
    filled = np.where(known, z, 0.0)
    bad = z >= worst
    alone = z.shape[-3] == 1
    others, count, n_bad = (
        part if alone else part.sum(axis=-3, keepdims=True) - part
        for part in (filled, known.astype(np.int16), bad.astype(np.int16))
    )
    choose = np.divide(others, count, out=np.full(others.shape, np.nan), where=count > 0)
    choose = np.where(n_bad > 0, np.maximum(choose, worst), choose)
    independent, one_pass = mean_regrets(choose, z)
    return mean_of_known(independent, (-1,)), mean_of_known(one_pass, (-1,))


def _evidence(
    raw: Seeds, cut_seeds: Seeds, censored: Bool[np.ndarray, "seeds lrs wds"], noise: Noise, rng: np.random.Generator
) -> Evidence:
    known = ~np.isnan(raw).all(axis=0)
    # moved by one step a coarse grid within a fine one would meet nothing but holes, and none of its cells has a neighbour
    some = (slice(None), *np.ix_(known.any(axis=1), known.any(axis=0)))
    raw, cut_seeds, censored = raw[some], cut_seeds[some], censored[some]
    unknown = np.isnan(raw)

    def of_noise(n: int) -> np.ndarray:
        return np.where(unknown, np.nan, noise.draw(rng, n * len(raw))[some].reshape(n, *raw.shape))

    def ranked(axes: tuple[int, ...]) -> float:
        def ranks_of_noise(n: int) -> np.ndarray:
            drawn = of_noise(n)
            return nulls.centred_ranks(drawn.reshape(-1, *raw.shape[1:]), axes).reshape(drawn.shape)

        return nulls.p_value(nulls.centred_ranks(raw, axes), rng, ranks_of_noise)

    # of each seed by itself: a mean's high cells, when its low ones may be left out, would look as if seeds agreed on them
    cells = np.stack([unexplained_cells(seed, beyond) for seed, beyond in zip(cut_seeds, censored, strict=True)])
    return Evidence(
        surface=ranked((1, 2)),
        first=ranked((1,)),
        second=ranked((2,)),
        interaction=nulls.p_value(
            nulls.additive_residuals(cut_seeds, cells),
            rng,
            lambda n: nulls.additive_residuals(of_noise(n), cells),
            moved=bool(cells.any(axis=0).all()),
        ),
    )


def _extent(
    widths: tuple[np.ndarray, ...],
    wider: tuple[np.ndarray, ...],
    resampled: Float[np.ndarray, "4 resamples"],
    axis: int,
) -> Extent:
    """On the logarithm, since a width is positive; a resample whose basin does not end has no upper bound.

    Noise digs holes of its own, and the basin about the deepest is narrow: its true rim may lie anywhere up to where
    the surface differs from the best cell by more than the noise of both (``wider``).
    """
    width, is_open = float(widths[axis]), bool(widths[2 + axis])
    if width == 0.0:
        return Extent(Interval(width, np.nan, np.nan), is_open)
    logs = np.where(resampled[2 + axis] > 0, np.inf, np.log(np.maximum(resampled[axis], 1e-3 * width)))
    at = percentile_interval(float(np.log(width)), logs)
    low, high = (float(end) for end in np.exp([min(at.low, 2 * at.value - at.high), at.high]))
    high = max(high, float("inf") if wider[2 + axis] else float(wider[axis]), width)
    return Extent(Interval(width, min(low, width), high), is_open)  # a logarithm and back is rounded


def _nothing(landscape: Landscape) -> Separability:
    return Separability(
        NOTHING, NOTHING, NOTHING, NOTHING, np.nan, NOTHING, NOTHING, NOTHING, (Extent(NOTHING, False), Extent(NOTHING, False)),
        Evidence(np.nan, np.nan, np.nan, np.nan), int(landscape.known.max(initial=0)),
    )  # fmt: skip


def _mean(z: Float[np.ndarray, "*batch seeds lrs wds"]) -> Float[np.ndarray, "*batch lrs wds"]:
    return mean_of_known(z, (-3,))


def _flat(z: np.ndarray) -> np.ndarray:
    return z.reshape(*z.shape[:-2], -1)
