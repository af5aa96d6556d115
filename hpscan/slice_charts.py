"""Figures of a landscape cut along one axis: slices with the seeds' band, and the best weight decay at each learning rate."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hpscan import numerals
from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.figures import PAGE, STYLE
from hpscan.footer import add_footer
from hpscan.intervals import Interval
from hpscan.landscape import Landscape, is_chosen_by
from hpscan.scales import COLORS, MetricTicks, Scale, colour_bar, shared_norm
from hpscan.scaling import Optimum, fit
from hpscan.separation import coordinates
from hpscan.spec import SpecError

__all__ = ["ridge", "ridge_chart", "ridge_shown", "slices_chart"]

APART = 2
"""Cells between one slice and the next, counted from the best."""
MOST_COLUMNS = 3


def slices_chart(analysis: Analysis) -> Figure:
    """The metric against weight decay at some learning rates, and the reverse: a row for each variant.

    All rows have one scale, but those of which the best cell lies in the upper half of it, a short budget's say, have their own.
    The slices lie two cells apart, the best cell's is the heavy one. Lines are means over seeds and bands reach from
    the least seed to the largest; a line ends where a seed diverged. No decay stands one step below the least other.

    Raises
    ------
    SpecError
        If no variant has a result.
    """
    _check_metric(analysis, "slices")
    shown = [variant for variant in analysis.variants if variant.best is not None]
    if not shown:
        raise SpecError(f"{analysis.spec.name}: slices go through the best cell; no cell has a result yet")
    norm = shared_norm(shown)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 1.75 * len(shown) + 0.1), layout="constrained")
        for row, variant in zip(figure.subplots(len(shown), 2, squeeze=False, sharey="row"), shown, strict=True):
            assert variant.best is not None
            is_high = variant.best.means[variant.landscape.metric] > norm.ends.mean()
            own = shared_norm([variant]) if is_high else norm
            _slices(row[0], variant.landscape, along="wd", norm=own)
            _slices(row[1], variant.landscape, along="lr", norm=own)
            row[0].set_title(variant.name, loc="left")
            row[0].set_ylabel(numerals.metric_name(analysis.spec.metric))
        add_footer(figure, [analysis], [variant.landscape.variant for variant in shown])
    return figure


def _check_metric(analysis: Analysis, kind: str) -> None:
    """Refuse what has no best cell, however many results there are."""
    spec = analysis.spec
    if not is_chosen_by(spec.metric):
        raise SpecError(
            f"{spec.name}: {kind} needs a best cell, and by {spec.metric} nothing is chosen; give a validation metric"
        )


def _slices(axes: Axes, shape: Landscape, *, along: str, norm: Scale) -> None:
    """Lines over one axis, at values of the other about the best cell."""
    i, j = shape.ranked()[0]
    z, held, over, best = (
        (shape.z, shape.lr, shape.wd, i) if along == "wd" else (shape.z.swapaxes(1, 2), shape.wd, shape.lr, j)
    )
    chosen = [index for index in range(best - 2 * APART, best + 2 * APART + 1, APART) if 0 <= index < len(held)]
    x = coordinates(along, over)
    colors = mpl.colormaps["cividis"](np.linspace(0.0, 0.85, len(chosen)))
    symbol = {"wd": "lr", "lr": "wd"}[along]
    for color, index in zip(colors, chosen, strict=True):
        seeds = z[:, index]
        known = ~np.isnan(seeds).all(axis=0)
        mean, low, high = np.full((3, len(x)), np.nan)
        mean[known], low[known], high[known] = (f(seeds[:, known], axis=0) for f in (np.nanmean, np.nanmin, np.nanmax))
        whole = np.isfinite(mean)
        label = f"{symbol} {numerals.power(float(held[index]), style='mathtext')}"
        axes.fill_between(x, low, np.where(whole, high, np.nan), where=whole, color=color, alpha=0.2, linewidth=0)
        heavy = index == best
        axes.plot(
            x, np.where(whole, mean, np.nan), "o-", color=color, markersize=3.5 if heavy else 2,
            linewidth=1.8 if heavy else 0.9, label=label,
        )  # fmt: skip
    bottom, top = norm.ends
    axes.set_ylim(bottom - 0.06 * (top - bottom), top)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(MetricTicks(shape.metric))
    step = math.ceil(len(x) / 7)
    axes.set_xticks(x[::step], [numerals.power(float(value), style="mathtext") for value in over[::step]])
    axes.set_xlabel({"wd": "weight decay λ", "lr": "learning rate α"}[along])
    axes.legend(frameon=False, fontsize=6, handlelength=1.2, loc="center left", bbox_to_anchor=(1.0, 0.5))


def ridge(landscape: Landscape) -> tuple[list[Optimum], Interval]:
    """The best weight decay at each learning rate with its interval over seeds, and the slope of its logarithm in log lr.

    A learning rate's best is the minimum of a parabola through its least cell and the two beside it, as in
    :func:`hpscan.scaling.fit`; those on an edge of the grid take no part in the slope. Rates at which nothing is finite
    are left out.
    """
    optima, slope, _ = fit(landscape.lr.tolist(), [landscape.at_lr(i) for i in range(len(landscape.lr))])
    return [best for best in optima if math.isfinite(best.wd.value)], slope


def ridge_chart(analysis: Analysis) -> Figure:
    """The best weight decay at each learning rate, over the landscape: upright where the two separate.

    Bars are 95 % intervals over seeds; triangles are optima on an edge of the grid, beyond which the best may lie.

    Raises
    ------
    SpecError
        If no variant has two learning rates and three weight decays above 0.
    """
    _check_metric(analysis, "ridge")
    shown = ridge_shown(analysis)
    if not shown:
        raise SpecError(
            f"{analysis.spec.name}: ridge needs results at two learning rates and three weight decays above 0 or more"
        )
    norm = shared_norm(shown)
    n_columns = min(MOST_COLUMNS, len(shown))
    n_rows = math.ceil(len(shown) / n_columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.13 * n_columns + 0.6, 2.15 * n_rows + 0.3), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes, variant in zip(grid.ravel(), shown, strict=False):
            _ridge(axes, variant, norm)
        for axes in grid.ravel()[len(shown) :]:
            axes.set_axis_off()
        colour_bar(figure, norm, grid, shown)
        entries = {
            label: handle
            for axes in grid.ravel()
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        columns = 2 if n_columns == MOST_COLUMNS else 1  # narrower figures have no room for both beside each other
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False)
        add_footer(figure, [analysis], [variant.landscape.variant for variant in shown])
    return figure


def ridge_shown(analysis: Analysis) -> list[VariantAnalysis]:
    """The variants with enough learning rates and weight decays for a ridge."""
    return [
        variant
        for variant in analysis.variants
        if len(variant.landscape.lr) > 1 and (variant.landscape.wd > 0).sum() > 2 and variant.best is not None
    ]


def _ridge(axes: Axes, variant: VariantAnalysis, norm: Scale) -> None:
    shape = variant.landscape
    optima, slope = ridge(shape)
    positive = shape.wd > 0
    x, y = coordinates("wd", shape.wd[positive]), coordinates("lr", shape.lr)
    z = shape.mean()[:, positive]
    axes.pcolormesh(
        x, y, np.ma.masked_invalid(norm.of(np.where(np.isfinite(z), z, np.nan))), norm=norm, cmap=COLORS,
        shading="nearest", alpha=0.55, linewidth=0, rasterized=True,
    )  # fmt: skip
    inside = [best for best in optima if best.inside]
    at = np.log2([best.wd.value for best in inside])
    ends = np.log2(np.reshape([best.wd.ends for best in inside], (-1, 2)))
    axes.errorbar(
        at, np.log2([best.at for best in inside]), xerr=np.abs(ends.T - at), fmt="o", color="black", markersize=3.5,
        capsize=1.5, elinewidth=0.9, label="best weight decay at a learning rate,\nwith its 95 % interval; its slope above",
    )  # fmt: skip
    for edge, marker in (("lower", "<"), ("upper", ">")):
        beyond = [best for best in optima if best.edge == edge]
        if beyond:
            axes.plot(
                [math.log2(max(best.wd.value, shape.wd[positive].min())) for best in beyond],
                [math.log2(best.at) for best in beyond], marker, color="#c2410c", markersize=4.5, linestyle="",
                label="on an edge of the grid, or beyond",
            )  # fmt: skip
    low, high = ((values[0] - 0.5 * _gap(values), values[-1] + 0.5 * _gap(values)) for values in (x, y))
    axes.set_xlim(low)
    axes.set_ylim(high)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"$2^{{{value:.0f}}}$"))
    axes.set_xlabel("weight decay λ")
    axes.set_ylabel("learning rate α")
    axes.set_title(f"{variant.name}\nslope {numerals.interval(slope, sign=True)}", loc="left")
    axes.tick_params(length=2)


def _gap(values: np.ndarray) -> float:
    return float(np.diff(values).mean())
