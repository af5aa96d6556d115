"""Numbers as people read them: powers of two as powers, errors in percent, intervals with their ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpscan.intervals import Interval
from hpscan.landscape import FURTHER
from hpscan.scaling import Scaling
from hpscan.separation import Extent
from hpscan.spec import Spec

__all__ = [
    "budgets",
    "decimals",
    "difference",
    "duration",
    "extent",
    "in_words",
    "interval",
    "metric_interval",
    "metric_name",
    "metric_value",
    "minus",
    "operations",
    "optima",
    "power",
    "predictions",
    "quantity",
    "regret",
    "scale_labels",
]

IN_WORDS = {
    "weight_norm": "norm of the weights at the end",
    "grad_norm": "norm of the gradient at the end",
    "update_ratio": "step's share of the weights, mean over training",
    "rotation": "rotation a step in radians, mean over training",
    "gap": "validation loss less training batches' loss",
    "sharpness": "top Hessian eigenvalue at the end",
}
MOST_MORE = 4
"""Digits more than a metric is told with that may tell values apart: beyond, a float32 has none."""
LEAST_PERCENT = 1e-5
"""A difference of error rates below is float32's rounding, and is told as none."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(value: float, *, style: str = "unicode", digits: int = 3) -> str:
    """A grid value: 2⁻⁷ or 10⁻³ where it is a whole power, as many digits elsewhere.

    ``style`` is ``unicode`` (2⁻⁷) or ``mathtext`` ($2^{-7}$, for matplotlib).
    """
    for base in (2, 10):
        exponent = round(math.log(value, base)) if value > 0 else 0
        if value > 0 and math.isclose(value, float(base) ** exponent, rel_tol=1e-9) and exponent not in (0, 1):
            return (
                f"${base}^{{{exponent}}}$" if style == "mathtext" else f"{base}{str(exponent).translate(_SUPERSCRIPTS)}"
            )
    return f"{value:.{digits}g}"


def quantity(value: float) -> str:
    """A grid value in both ways: ``2⁻⁷ ≈ 0.00781``."""
    short, decimal = power(value), f"{value:.3g}"
    return short if short == decimal else f"{short} ≈ {decimal}"


def metric_name(metric: str) -> str:
    """A metric in words: ``validation loss`` for ``val_loss``."""
    if metric in IN_WORDS:
        return IN_WORDS[metric]
    return metric.replace("_", " ").replace("val ", "validation ", 1)


def metric_value(metric: str, value: float, standard_error: float = math.nan, *, more: int = 0) -> str:
    """A metric with its standard error: ``0.281 ± 0.004`` for a loss, ``2.8 ± 0.3 %`` for an error rate.

    Losses have three decimals; small ones three digits (``0.00152``), very small and very large ones a power of ten;
    ``more`` digits where values have to be told apart.
    """
    if math.isnan(value):
        return "—"
    if metric in FURTHER:
        return minus(f"{value:.{3 + more}g}")
    percent = metric.endswith("_error")
    scale, unit = (100.0, " %") if percent else (1.0, "")
    form = f"{1 + more}f" if percent else _form(value, more)
    spread = "" if math.isnan(standard_error) else f" ± {standard_error * scale:.{form}}"
    return minus(f"{value * scale:z.{form}}{spread}{unit}")


def scale_labels(metric: str, values: Sequence[float]) -> list[str]:
    """The values along a scale, with as many digits as tell them apart; empty where one would be told again."""
    tried = [[metric_value(metric, value, more=more) for value in values] for more in range(MOST_MORE + 1)]
    labels = next((each for each in tried if len(set(each)) == len(set(values))), tried[0])
    return [label if label not in labels[:place] else "" for place, label in enumerate(labels)]


def _form(loss: float, more: int) -> str:
    """How many digits a loss is told with."""
    size = math.floor(math.log10(abs(loss))) if loss and math.isfinite(loss) else 0
    return (
        f"{max(3, 2 - size) + more}f" if -4 <= size < 3 else f"{5 - size + more}f" if 3 <= size < 6 else f"{2 + more}e"
    )


def decimals(difference: Interval) -> int:
    """Decimals of a difference of losses: three, or as many as show two digits of the largest of its numbers."""
    sizes = [abs(end) for end in (difference.value, difference.low, difference.high) if math.isfinite(end)]
    largest = max(sizes, default=0.0)
    return 3 if largest == 0.0 or largest >= 5e-4 else min(12, 1 - math.floor(math.log10(largest)))


def _form_of(difference: Interval) -> str:
    """How a difference of losses is told: with :func:`decimals`, or as a power of ten where those would hide or drown it."""
    sizes = [abs(end) for end in (difference.value, difference.low, difference.high) if math.isfinite(end)]
    largest = max(sizes, default=0.0)
    return "2e" if largest >= 1e6 or 0.0 < largest < 1e-10 else f"{decimals(difference)}f"


def difference(metric: str, value: float) -> str:
    """A difference of a metric's values: ``0.009`` of losses, ``0.4 %`` of error rates."""
    if metric.endswith("_error") or math.isnan(value):
        return metric_value(metric, value)
    return minus(f"{value:z.{_form_of(Interval(value, math.nan, math.nan))}}")


def regret(number: Interval, metric: str = "", *, sign: bool = False) -> str:
    """A regret, or a difference of two, with its interval: ``0.114 [0.077, 0.151]``, ``1.4 [0.7, 2.1] %`` of an error rate."""
    if not metric.endswith("_error"):
        return _interval(number, _form_of(number), sign=sign)
    percent = Interval(*(100.0 * end for end in (number.value, number.low, number.high)))
    largest = max((abs(end) for end in (percent.value, percent.low, percent.high) if math.isfinite(end)), default=0.0)
    digits = 1 if largest < LEAST_PERCENT or largest >= 0.05 else -math.floor(math.log10(largest))
    told = _interval(percent, f"{digits}f", sign=sign)
    return told if told == "—" else f"{told} %"


def metric_interval(metric: str, mean: Interval) -> str:
    """A metric with its interval: ``0.281 [0.272, 0.290]`` for a loss, ``2.8 [2.5, 3.1] %`` for an error rate."""
    if math.isnan(mean.low):
        return metric_value(metric, mean.value)
    value, low, high = (metric_value(metric, number) for number in (mean.value, mean.low, mean.high))
    unit = " %" if value.endswith(" %") else ""
    return f"{value.removesuffix(unit)} [{low.removesuffix(unit)}, {high.removesuffix(unit)}]{unit}"


def interval(number: Interval, digits: int = 2, *, sign: bool = False) -> str:
    """``−1.13 [−1.20, −1.05]``; the value alone where there is no interval, ``—`` where neither it nor an end is known."""
    return _interval(number, f"{digits}f", sign=sign)


def _interval(number: Interval, form: str, *, sign: bool) -> str:
    if math.isnan(number.value) or (math.isinf(number.low) and math.isinf(number.high)):
        return "—"
    plus = "+" if sign else ""

    def text(value: float) -> str:
        return minus(f"{value:{plus}z.{form}}").replace("inf", "∞")

    return (
        text(number.value)
        if math.isnan(number.low)
        else f"{text(number.value)} [{text(number.low)}, {text(number.high)}]"
    )


def budgets(spec: Spec) -> str:
    """``400 steps of batch 32``; all values where the grid has such axes."""
    at_points = [spec.at(point) for point in spec.points()]
    sizes = {"budget": {at.steps for at in at_points}, "batch_size": {at.batch_size for at in at_points}}
    told = [
        "unknown" if field in spec.unknown else " or ".join(f"{value:,}" for value in sorted(values))
        for field, values in sizes.items()
    ]
    return f"{told[0]} steps of batch {told[1]}"


def operations(flop: float) -> str:
    """Floating-point operations: ``20.8 TFLOP``."""
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9)):
        if flop >= size:
            return f"{flop / size:.3g} {unit}"
    return f"{flop / 1e6:.3g} MFLOP"


def duration(seconds: float, decimals: int = 1) -> str:
    """``4.2 min``; without decimals in the larger unit only from one and a half of it on: ``80 s``, ``2 min``."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size * (1.0 if decimals else 1.5):
            return f"{seconds / size:,.{decimals}f} {unit}"
    return f"{max(seconds, 0.0):.{decimals}f} s"


def in_words(config: Mapping[str, Any]) -> str:
    """A config on one line: ``name digits, model (name normalised_mlp, hidden 32 32)``."""

    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            return f"({in_words(value)})"
        return " ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)

    return ", ".join(f"{key} {text(value)}" for key, value in config.items())


def optima(scaling: Scaling) -> str:
    """The best weight decays along an axis: ``100: 0.021, 400: ≤ 0.0078``, those on an edge as the bounds they are, ``—`` where there is none."""
    bound = {"": "", "lower": "≤ ", "upper": "≥ "}
    return ", ".join(
        f"{best.at:g}: " + ("—" if math.isnan(best.wd.value) else f"{bound[best.edge]}{best.wd.value:.2g}")
        for best in scaling.optima
    )


def predictions(scaling: Scaling) -> str:
    """The predicted exponents and whether each lies in the interval: ``−0.5 (Loshchilov & Hutter): inside``."""
    verdicts = {True: ": inside", False: ": outside", None: ""}
    return ", ".join(
        f"{minus(f'{exponent:g}')} ({source}){verdicts[scaling.agrees(source)]}"
        for source, exponent in scaling.predictions.items()
    )


def extent(extent: Extent) -> str:
    """``2.9 [1.9, 5.4]`` octaves; ``≥ 5.4`` where the basin reaches the end of the grid; ``—`` where nothing bounds it."""
    width = extent.width
    if math.isnan(width.value) or (width.low == 0.0 and math.isinf(width.high)):
        return "—"
    return f"≥ {width.value:.1f}" if extent.is_open else interval(width, 1)


def minus(text: str) -> str:
    """The sign as it is printed, not as it is typed."""
    return text.replace("-", "−")
