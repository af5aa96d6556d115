"""Figures of scaling: the best weight decay against the budget, and landscapes at several budgets."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hpscan import numerals
from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.figures import BLANKS, COLUMN, STYLE, blank_state
from hpscan.footer import add_footer
from hpscan.grid import Panel, panels
from hpscan.scales import COLORS, Scale, shared_norm
from hpscan.scaling import Scaling
from hpscan.spec import SpecError
from hpscan.variants import VARIANTS, Decay

__all__ = ["budgets_chart", "budgets_groups", "scaling_chart", "shown_scalings"]

QUANTITIES = {"wd": "best weight decay λ", "shrink": "best α · weight decay"}
AXES = {"steps": "steps", "batch_size": "batch size", "width": "width of the first layer"}
REFERENCES = {  # how a prediction is drawn, and what it takes to be constant
    "Loshchilov & Hutter": ("#0f766e", "--", "normalised decay"),
    "Wang & Aitchison": ("#7c3aed", ":", "EMA timescale"),
}
MOST_COLUMNS = 3
DIGIT = 0.04
"""Of a panel's width, what a digit of a tick takes."""


def scaling_chart(analysis: Analysis) -> Figure:
    """The best weight decay against the axis, both logarithmic, one panel for every :class:`~hpscan.scaling.Scaling`.

    Bars are 95 % intervals over seeds; triangles are optima on an edge of the grid, which are not fitted. The band is
    the fit's: slopes within the exponent's interval. References go through the middle of the fit.

    Raises
    ------
    SpecError
        If there is no scaling to show.
    """
    every = shown_scalings(analysis)
    if not every:
        raise SpecError(
            f"{analysis.spec.name}: scaling needs two values or more of steps, epochs, batch_size or width in the grid, "
            "with a best weight decay above 0 at each, by a validation metric"
        )
    n_columns = min(MOST_COLUMNS, len(every))
    n_rows = math.ceil(len(every) / n_columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(COLUMN, 2.2 * n_columns + 0.4), 2.1 * n_rows + 0.5), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes, scaling in zip(grid, every, strict=False):
            _scaling(axes, scaling)
        for axes in grid[len(every) :]:
            axes.set_axis_off()
        entries = {
            label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            entries.values(), entries.keys(), loc="outside lower center", ncols=n_columns, frameon=False, fontsize=6
        )
        add_footer(figure, [analysis], [scaling.variant for scaling in every])
    return figure


def shown_scalings(analysis: Analysis) -> list[Scaling]:
    """The scalings with a best weight decay, above 0, at every value of the axis, be it on an edge."""
    return [each for each in analysis.scalings if all(0.0 < best.wd.value < math.inf for best in each.optima)]


def _scaling(axes: Axes, scaling: Scaling) -> None:
    inside = scaling.inside
    x = np.array([best.at for best in inside])
    y = np.array([best.wd.value for best in inside])
    ends = np.array([best.wd.ends for best in inside]).reshape(-1, 2)
    axes.errorbar(x, y, np.abs(ends.T - y), fmt="o", color="#1c2430", capsize=2, label="best weight decay")
    for best in scaling.optima:
        if best.edge:
            label = "on an edge of the grid: beyond, not fitted"
            marker = "v" if best.edge == "lower" else "^"
            axes.plot(
                best.at, best.wd.value, marker, color="#c2410c", mfc="none", markersize=5, linestyle="", label=label
            )
    at = np.array([best.at for best in scaling.optima])
    along = np.geomspace(at.min(), at.max(), 50)
    if len(inside) > 1:
        middle_x = float(np.log2(x).mean())
        middle_y = scaling.level + scaling.exponent.value * middle_x

        def line(slope: float) -> np.ndarray:
            return 2 ** (middle_y + slope * (np.log2(along) - middle_x))

        if not math.isnan(scaling.exponent.low):
            edges = [line(slope) for slope in (scaling.exponent.low, scaling.exponent.high)]
            axes.fill_between(along, np.minimum(*edges), np.maximum(*edges), color="#31688e", alpha=0.18, linewidth=0)
        axes.plot(along, line(scaling.exponent.value), color="#31688e", label="fit, with its 95 % band")
        for source, slope in scaling.predictions.items():
            color, style, constant = REFERENCES[source]
            axes.plot(along, line(slope), color=color, linestyle=style, label=f"constant {constant} ({source})")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    told = _apart(sorted(set(at.tolist())))
    axes.set_xticks([*told], [*told.values()])
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = _span(scaling)
    axes.set_ylim(2.0 ** (low - 0.7), 2.0 ** (high + 0.7))
    axes.yaxis.set_major_locator(LogLocator(base=4 if high - low > 5 else 2, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: numerals.power(value, style="mathtext")))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(AXES[scaling.axis])
    axes.set_ylabel(QUANTITIES[scaling.quantity])
    predicted = ", ".join(numerals.minus(f"{value:g}") for value in scaling.predictions.values())
    below = f"\npredicted {predicted}" if predicted else ""
    axes.set_title(f"{scaling.name}\nexponent {numerals.interval(scaling.exponent, sign=True)}{below}", loc="left")


def _apart(values: list[float]) -> dict[float, str]:
    """The values along a logarithmic axis that have room for their number beside the one before, and it."""
    told: dict[float, str] = {}
    for value in values:
        text = f"{value:.12g}"
        taken = DIGIT * (len(text) + 1) * math.log(values[-1] / values[0])
        if not told or math.log(value / [*told][-1]) >= taken:
            told[value] = text
    return told


def _span(scaling: Scaling) -> tuple[float, float]:
    """The least and the largest logarithm that a panel shows: points, and intervals of two octaves about them at most."""
    logs = [math.log2(best.wd.value) for best in scaling.optima]
    ends = [math.log2(end) for best in scaling.inside for end in best.wd.ends]
    low, high = min(logs), max(logs)
    return max(low - 2, min([low, *ends])), min(high + 2, max([high, *ends]))


def budgets_groups(analysis: Analysis) -> list[list[tuple[Panel, VariantAnalysis]]]:
    """The landscapes of each variant of the paper's form at two budgets or more, without restarts."""
    groups: dict[tuple[object, ...], list[tuple[Panel, VariantAnalysis]]] = {}
    for panel, variant in zip(panels(analysis.spec), analysis.variants, strict=True):
        at = dict(panel.at)
        budget = at.pop("steps", None) or at.pop("epochs", None)
        by_budget = budget and VARIANTS[panel.variant].decay is Decay.PAPER and len(panel.recipe.restarts()) == 2
        if by_budget and variant.landscape.wd.max() > 0:
            groups.setdefault((panel.variant, *at.items()), []).append((panel, variant))
    return [group for group in groups.values() if len(group) > 1]


def budgets_chart(analysis: Analysis) -> Figure:
    """Landscapes of the paper's form, a column a budget: over λ above, over λ_norm = λ √steps below.

    Loshchilov & Hutter 2019, appendix B.1. The two rows are the same runs; a column of no decay has no logarithm and
    is left out. The line is the best cell's weight decay. Colours are each landscape's own, from its best cell to its
    80 % quantile: short runs are worse than any cell of long ones, and where the basin lies is the question.

    Raises
    ------
    SpecError
        If no variant of the paper's form has two budgets.
    """
    groups = budgets_groups(analysis)
    if not groups:
        raise SpecError(
            f"{analysis.spec.name}: budgets needs adamw, sgdw or another of the paper's form, with decay, at two values or "
            "more of grid.steps or grid.epochs, without restarts"
        )
    n_columns = max(map(len, groups))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.3 * n_columns + 0.5, 2.9 * len(groups) + 0.2), layout="constrained")
        grid = figure.subplots(2 * len(groups), n_columns, squeeze=False, sharex="row", sharey="row")
        for number, group in enumerate(groups):
            for column, (panel, variant) in enumerate(group):
                for row, scale in ((2 * number, 1.0), (2 * number + 1, math.sqrt(panel.recipe.steps))):
                    _budget(grid[row, column], variant, scale, shared_norm([variant]))
                grid[2 * number, column].set_title(
                    f"{variant.landscape.variant}\n{panel.recipe.steps} steps", loc="left"
                )
            grid[2 * number, 0].set_ylabel("raw\nlearning rate α")
            grid[2 * number + 1, 0].set_ylabel("normalised\nlearning rate α")
            for axes in grid[2 * number]:
                axes.set_xlabel("weight decay λ")
            for axes in grid[2 * number + 1]:
                axes.set_xlabel("λ_norm = λ √steps")
            for axes in grid[2 * number : 2 * number + 2, len(group) :].ravel():
                axes.set_axis_off()
        add_footer(figure, [analysis], [panel.variant for group in groups for panel, _ in group])
    return figure


def _budget(axes: Axes, variant: VariantAnalysis, scale: float, norm: Scale) -> None:
    shape = variant.landscape
    positive = shape.wd > 0
    z = shape.mean()[:, positive]
    x, y = np.log2(shape.wd[positive] * scale), np.log2(shape.lr)
    finite = np.isfinite(z)
    half_x, half_y = (float(np.diff(values).mean()) / 2 if len(values) > 1 else 0.5 for values in (x, y))
    edges = (np.append(values - half, values[-1] + half) for values, half in ((x, half_x), (y, half_y)))
    axes.pcolormesh(*edges, np.ma.masked_where(~finite, norm.of(z)), norm=norm, cmap=COLORS)
    for i, j in np.argwhere(~finite):
        face, hatch = BLANKS[blank_state(shape.states[:, :, positive][:, i, j])]
        corner = (x[j] - half_x, y[i] - half_y)
        axes.add_patch(
            Rectangle(corner, 2 * half_x, 2 * half_y, facecolor=face, edgecolor="#8a8a8a", hatch=hatch, linewidth=0)
        )
    if variant.best is not None and variant.best.wd > 0:
        at = math.log2(variant.best.wd * scale)
        axes.axvline(at, color="#e3342f", linewidth=0.9)
        axes.plot(at, math.log2(variant.best.lr), "*", color="#e3342f", mec="white", markersize=8, mew=0.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"$2^{{{value:.0f}}}$"))
    axes.tick_params(length=2, labelbottom=True)
