"""What the numbers say in one word and one sentence, for a landscape and for a coupled and a decoupled one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpscan import numerals
from hpscan.intervals import Interval, difference
from hpscan.separation import Separability
from hpscan.variants import VARIANTS

__all__ = ["ALPHA", "SLIGHT", "STOPPED", "Pair", "Verdict", "compare", "partners", "verdict"]

ALPHA = 0.05
"""The p-value below which there is evidence."""
SLIGHT = 0.15
"""The interaction share up to which two hyperparameters are called separable."""
STEEP = 0.5
"""The contour slope from which contours are nearer to a diagonal than to an axis."""

STOPPED = "slope, interaction and regret are those of the cells that went on, and their intervals do not cover what was stopped"
"""What a reader of a sweep with stopped runs must know."""


@dataclass(frozen=True)
class Verdict:
    """``separable``, ``tied``, ``unclear`` or ``no evidence``, and why, in a sentence."""

    word: str
    sentence: str


def verdict(numbers: Separability, first: str = "learning rate", second: str = "weight decay") -> Verdict:
    """Judge one landscape.

    No evidence: seeds do not agree on which cells are better, or one of the two axes shows no effect, so that there is
    nothing to be coupled with. Tied: the slope's interval lies beyond ±:data:`STEEP` and that of the interaction
    share above :data:`SLIGHT`; a slope without interaction says only that one of the two hardly matters. Separable:
    both lie below. Unclear: anything else, as where intervals are wide, or where the two interact along no one direction.
    """
    word, why = _judged(numbers, first, second)
    guessed = numbers.n_seeds == 1 and not math.isnan(numbers.evidence.surface)
    alone = " (one seed: noise is guessed from neighbouring cells)" if guessed else ""
    return Verdict(word, f"{why}{alone}.")


def _judged(numbers: Separability, first: str, second: str) -> tuple[str, str]:
    evidence = numbers.evidence
    neither = "no evidence of coupling or of separation"
    if math.isnan(evidence.surface):
        return "no evidence", _lacking(numbers)
    if evidence.surface >= ALPHA:
        return "no evidence", f"{neither}: cells differ by no more than seeds do (p = {evidence.surface:.2f})"
    for name, p in ((first, evidence.first), (second, evidence.second)):
        if not p < ALPHA:
            told = "" if math.isnan(p) else f" (p = {p:.2f})"
            return "no evidence", f"{neither}: {name} has no effect beyond noise{told}"
    low, high = numbers.contour_slope.ends
    least, most = numbers.interaction_share.ends
    if (low > STEEP or high < -STEEP) and least > SLIGHT:
        return "tied", f"{first} and {second} must be tuned together"
    if low > -STEEP and high < STEEP and most <= SLIGHT:
        return "separable", f"{first} and {second} can be tuned one after the other"
    if not evidence.interaction < ALPHA:
        why = "no evidence of an interaction, and too little to rule one out"
    elif least > SLIGHT:
        why = f"{first} and {second} interact, but not clearly along one direction"
    else:
        why = f"the data do not settle whether {first} and {second} can be tuned apart"
    return "unclear", why


def _lacking(numbers: Separability) -> str:
    """Why there is nothing to judge."""
    if not numbers.n_seeds:
        return "there are no results to compare"
    if math.isnan(numbers.worst_regret):  # the one number that needs no noise
        return "all runs diverged, or an axis has one value"
    return "no seed has results that differ"


@dataclass(frozen=True)
class Pair:
    """A coupled variant less its decoupled partner, number by number."""

    coupled: str
    decoupled: str
    contour_slope: Interval
    interaction_share: Interval
    independent_tuning_regret: Interval
    verdict: Verdict
    """``decoupling separates``, ``decoupling ties``, ``no difference shown`` or ``no evidence``."""


def partners(coupled: str, decoupled: str) -> bool:
    """Whether two variants are one optimizer, its decay once tied to the learning rate and once not."""
    one, other = VARIANTS[coupled], VARIANTS[decoupled]
    return one.optimizer == other.optimizer and one.coupled and not other.coupled


def compare(coupled: str, one: Separability, decoupled: str, other: Separability) -> Pair:
    """The difference of two landscapes in each number, and what it says.

    Judged by the interaction share, which has a scale of its own: two steep slopes can differ by much and mean the
    same, and regrets are of the metric.
    """
    more, less = one.interaction_share.value, other.interaction_share.value
    gap = difference(one.interaction_share, other.interaction_share)
    if any(not numbers.evidence.surface < ALPHA for numbers in (one, other)) or math.isnan(gap.value):
        told = Verdict("no evidence", "no evidence of a difference: at least one of the two shows nothing but noise.")
    else:
        shares = f"interaction is {more:.0%} of the variance against {less:.0%}"
        low, high = gap.ends
        if math.isnan(gap.low):
            told = Verdict("no evidence", f"{shares}; without an interval that is no evidence.")
        elif low > 0:
            told = Verdict("decoupling separates", f"{shares}: decoupling takes away {_points(gap)}.")
        elif high < 0:
            told = Verdict(
                "decoupling ties", f"{shares}: decoupling adds {_points(Interval(-gap.value, -high, -low))}."
            )
        else:
            told = Verdict("no difference shown", f"{shares}; no evidence of a difference ({_points(gap)}).")
    return Pair(
        coupled=coupled,
        decoupled=decoupled,
        contour_slope=difference(one.contour_slope, other.contour_slope),
        interaction_share=gap,
        independent_tuning_regret=difference(one.independent_tuning_regret, other.independent_tuning_regret),
        verdict=told,
    )


def _points(gap: Interval) -> str:
    value, low, high = (numerals.minus(f"{100 * number:.0f}") for number in (gap.value, gap.low, gap.high))
    return f"{value} [{low}, {high}] points"
