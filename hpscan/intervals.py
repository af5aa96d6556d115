"""Intervals for what is computed from the mean of a few seeds: ratios of quadratic forms, anything else, differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hpscan.surfaces import ROUNDING

__all__ = [
    "LEVEL",
    "Form",
    "Interval",
    "Sample",
    "difference",
    "mean_of_seeds",
    "percentile_interval",
    "pivotal_interval",
    "ratio",
    "without_attenuation",
]

LEVEL = 0.95
QUANTILES = (1 - LEVEL) / 2, (1 + LEVEL) / 2
PATCHES = 4
"""How many independent looks at its noise each further seed gives: the noise of neighbouring cells is alike, and a
statistic leans on some cells more than on others. Set so that intervals hold what they promise with two seeds."""
LEAST_RELIABILITY = 0.05
"""The share of the variance that is no noise, below which a correlation is not known at all."""
NORMAL = 1.959964
"""The 97.5 % quantile of the normal distribution."""
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""The 97.5 % quantile of Student's t with 1, 2, … degrees of freedom."""

Fields = Float[np.ndarray, "... cells"]


@dataclass(frozen=True)
class Interval:
    """A statistic and its 95 % interval; an end is infinite where the data do not bound it, nan where there is none."""

    value: float
    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float]:
        """``low`` and ``high``, or the value twice where there is no interval."""
        return (self.value, self.value) if math.isnan(self.low) else (self.low, self.high)

    def clipped(self, least: float, most: float) -> Interval:
        """The same within the range that the statistic can have."""
        return Interval(*(min(max(end, least), most) for end in (self.value, self.low, self.high)))


NOTHING = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Sample:
    """The seeds of one surface, flattened, with what is needed to resample their mean."""

    seeds: Float[np.ndarray, "seeds cells"]
    """nan where a run is unknown."""
    mean: Float[np.ndarray, " cells"]
    """0 in cells of which no seed is known; no form reads them."""
    noise: Float[np.ndarray, "resamples cells"]
    """Draws of the noise of the mean."""

    @property
    def complete(self) -> bool:
        """Whether every cell of which anything is known has every seed."""
        known = ~np.isnan(self.seeds)
        return bool((known.all(axis=0) | ~known.any(axis=0)).all())


@dataclass(frozen=True)
class Form:
    """The quadratic form v, w ↦ ½ (⟨left v, right w⟩ + ⟨left w, right v⟩) of two linear maps on flattened surfaces."""

    left: Callable[[Fields], Fields]
    right: Callable[[Fields], Fields]


@dataclass(frozen=True)
class Mapped:
    """What a form's maps make of surfaces; the form of two is the sum of their :meth:`terms`."""

    left: np.ndarray
    right: np.ndarray

    @classmethod
    def by(cls, forms: Sequence[Form], v: Fields) -> list[Mapped]:
        """What each form makes of v, once for every map and every product it enters."""
        made = {map_: map_(v) for map_ in {map_ for form in forms for map_ in (form.left, form.right)}}
        return [cls(made[form.left], made[form.right]) for form in forms]

    def terms(self, other: Mapped) -> Float[np.ndarray, "... terms"]:
        """What the form is the sum of, a term for each block or cell."""
        return (self.left * other.right + other.left * self.right) / 2

    def times(self, other: Mapped) -> Float[np.ndarray, " fields"]:
        """The form's value for each of two batches' fields, or of one field and a batch's."""
        return (np.vecdot(self.left, other.right) + np.vecdot(other.left, self.right)) / 2

    def in_pairs(self) -> Float[np.ndarray, " pairs"]:
        """The form of each field and the next."""
        return Mapped(self.left[1:], self.right[1:]).times(Mapped(self.left[:-1], self.right[:-1]))


def ratio(top: Form, bottom: Form, sample: Sample, unknown: float = 0.0) -> Interval:
    """top(μ, μ) / bottom(μ, μ) of the surface μ that infinitely many seeds would give, with Fieller's interval.

    In the mean of S seeds both forms carry the noise's share, tr(Q Σ) / S. Where every cell has every seed that is
    Σ_s Q(r_s, r_s) / (S (S − 1)) with r the residuals, so that what remains is the sum over pairs of different seeds,
    Σ_{s≠t} Q(z_s, z_t) / (S (S − 1)), free of bias whatever the noise (Hoeffding 1948); for interaction it is the
    repeated-measures analysis of variance with seeds as blocks. Elsewhere the share is the mean over resamples.

    The interval holds the ratios ρ for which top − ρ · bottom does not differ from 0 (Fieller 1954). It has no end
    where ``bottom`` itself does not: then the data set no bound. How far from 0 is too far says Student's t with
    :data:`PATCHES` (S − 1) degrees of freedom. Variances come from the resamples e of the mean's
    noise: Var = Var 2 Q(m, e) − 4 Var Q(e, e′) + 2 S / (S − 1) Var Q(e, e′); the second term takes out of the first what
    the noise in m adds to it. Where the share ``unknown`` of the terms is not there, what is summed is a sample of the
    whole: unknown · n · Var(terms) is added, the variance of a ratio estimate in sampling from a finite population
    (Cochran 1977, 6.4), as if what is missing were missing at random.
    """
    n_seeds = len(sample.seeds)
    forms = (top, bottom)
    means, noises = Mapped.by(forms, sample.mean[None]), Mapped.by(forms, sample.noise)
    if n_seeds > 1 and sample.complete:
        residuals = Mapped.by(forms, np.nan_to_num(sample.seeds - sample.mean))
        share = np.array([r.times(r).sum() for r in residuals]) / (n_seeds * (n_seeds - 1))
    else:
        share = np.array([e.times(e).mean() for e in noises])
    plugged_in = np.concatenate([m.times(m) for m in means])
    upper, lower = (float(value) for value in plugged_in - share)
    if lower <= ROUNDING * plugged_in[1]:
        return Interval(math.nan, -math.inf, math.inf)
    terms = [m.terms(m)[0] for m in means]
    if unknown and len(terms[0]) < 2:  # one of a population says nothing of the others
        return Interval(upper / lower, -math.inf, math.inf)
    if not sample.noise.any() and not unknown:
        return Interval(upper / lower, math.nan, math.nan)
    linear = np.cov([2 * m.times(e) for m, e in zip(means, noises, strict=True)])
    square = np.cov([e.in_pairs() for e in noises])
    pairs = 2.0 if n_seeds == 1 else 2.0 * n_seeds / (n_seeds - 1)
    values, vectors = np.linalg.eigh(linear - 4 * square)
    variance = vectors @ np.diag(np.maximum(values, 0.0)) @ vectors.T + pairs * square
    if unknown:
        variance = variance + unknown * len(terms[0]) * np.cov(terms)
    return Interval(upper / lower, *_fieller(upper, lower, student(PATCHES * max(n_seeds - 1, 1)) ** 2 * variance))


def _fieller(upper: float, lower: float, spread: Float[np.ndarray, "2 2"]) -> tuple[float, float]:
    """The ρ with (upper − ρ lower)² ≤ spread₀₀ − 2 ρ spread₀₁ + ρ² spread₁₁."""
    a = lower**2 - float(spread[1, 1])
    b = upper * lower - float(spread[0, 1])
    c = upper**2 - float(spread[0, 0])
    if a <= 0:
        return -math.inf, math.inf
    root, value = math.sqrt(max(b * b - a * c, 0.0)), upper / lower
    return min((b - root) / a, value), max((b + root) / a, value)  # without any spread but for rounding


def percentile_interval(value: float, resampled: Float[np.ndarray, " resamples"]) -> Interval:
    """From the 2.5 to the 97.5 % quantile of the resamples, and as far as the value.

    Resamples are made about the estimated surface, whose own value is ``value``. What noise shifts to one side, as it
    makes every rank correlation smaller, it has shifted in the value once and in resamples twice.
    """
    kept = resampled[~np.isnan(resampled)]
    if math.isnan(value) or not len(kept):
        return NOTHING
    low, high = (float(q) for q in np.quantile(kept, QUANTILES, method="closest_observation"))
    return Interval(value, min(low, value), max(high, value))


def pivotal_interval(value: float, resampled: Float[np.ndarray, " resamples"]) -> Interval:
    """As far from the value as the quantiles of the resamples are from their mean, the other way round.

    The truth lies about a value as the mean of the resamples lies about one of them (the basic interval, without the shift
    from the value to that mean; Davison & Hinkley 1997, 5.2).
    """
    kept = resampled[~np.isnan(resampled)]
    if math.isnan(value) or not len(kept):
        return NOTHING
    low, high = (float(q) for q in np.quantile(kept - kept.mean(), QUANTILES))
    return Interval(value, value - max(high, 0.0), value - min(low, 0.0))


def without_attenuation(interval: Interval, likeness: Float[np.ndarray, " resamples"]) -> Interval:
    """The interval of a correlation that noise brings nearer to 0, reaching out to what it would be without.

    A correlation seen through noise is the true one times the reliability λ, the share of the variance that is no noise
    (Spearman 1904). Of a surface with variance T and noise N, λ = T / (T + N), and ranks of a resample correlate with
    those seen as r = √((T + N) / (T + 2N)); so λ = 2 − 1 / r². Where that is nothing the data set no bound.
    """
    r = float(np.nanmean(likeness)) if not np.isnan(likeness).all() else math.nan
    if math.isnan(interval.low) or math.isnan(r):
        return interval
    reliability = 2.0 - 1.0 / r**2 if r > 0 else 0.0
    if reliability <= LEAST_RELIABILITY:
        return Interval(interval.value, -1.0, 1.0)
    low, high = interval.low, interval.high
    return Interval(interval.value, min(low, low / reliability), max(high, high / reliability))


def mean_of_seeds(values: Float[np.ndarray, " seeds"]) -> Interval:
    """The mean of a few seeds with Student's interval; none for a single seed."""
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan)
    half = student(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t; beyond the table to 0.001, by Cornish & Fisher's expansion."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    z = NORMAL
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def difference(one: Interval, other: Interval) -> Interval:
    """One − other, with the interval that follows from theirs (Zou & Donner 2008, MOVER).

    low = (a − b) − √((a − a_low)² + (b_high − b)²), and likewise upwards; right for skew intervals, too. The two are
    taken as independent. Variants share their seeds, which makes their noise alike rather than opposite: the
    interval is then wider than it need be.
    """
    value = one.value - other.value
    if math.isnan(one.low) or math.isnan(other.low) or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Interval(value, low, high)
