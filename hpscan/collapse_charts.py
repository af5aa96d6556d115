"""The collapse figure: the metric of every cell against each parameter that might be the one that matters."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from hpscan import numerals
from hpscan.analysis import Analysis
from hpscan.collapse import Collapse
from hpscan.figures import STYLE
from hpscan.footer import CONVENTIONS, add_footer
from hpscan.scales import MetricTicks
from hpscan.spec import SpecError
from hpscan.variants import VARIANTS

__all__ = ["collapse_chart"]

LABELS = {
    "lr": "learning rate α",
    "wd": "weight decay λ",
    "lr·wd": "α · λ",
    "rotation": "rotation a step, measured (radians)",
}
LEARNING_RATES = "cividis"


def collapse_chart(analysis: Analysis) -> Figure:
    """A row for each landscape, a column for each parameter; a dot is a cell, its colour the learning rate.

    Where the metric is a function of the parameter, dots lie on the curve whatever their colour.
    """
    rows = analysis.collapses
    if not rows:
        raise SpecError(f"--kind collapse: {analysis.spec.name} has no landscape with cells enough for a curve")
    n_columns = max(map(len, rows.values()))
    metric = analysis.spec.metric
    rates = np.log2(np.concatenate([row[0].lr for row in rows.values()]))
    norm = Normalize(float(rates.min()), float(rates.max()))
    variants = {variant.name: variant.landscape.variant for variant in analysis.variants}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * n_columns + 1.0, 2.1 * len(rows) + 0.6), layout="constrained")
        grid = figure.subplots(len(rows), n_columns, squeeze=False, sharey="row", sharex="col")
        for axes_row, (name, row) in zip(grid, rows.items(), strict=True):
            least = min(row, key=lambda collapse: collapse.unexplained.value)
            for axes, collapse in zip(axes_row, row, strict=False):
                _collapse(axes, collapse, norm, is_least=collapse is least)
                if name == [*rows][-1]:
                    axes.set_xlabel(LABELS[collapse.parameter])
            for axes in axes_row[len(row) :]:
                axes.set_axis_off()
            convention = CONVENTIONS[VARIANTS[variants[name]].decay]
            axes_row[0].set_ylabel(f"{name}\n{convention}\n{numerals.metric_name(metric)}")
            axes_row[0].yaxis.set_major_locator(MaxNLocator(4))
            axes_row[0].yaxis.set_major_formatter(MetricTicks(metric))
        bar = figure.colorbar(ScalarMappable(norm, LEARNING_RATES), ax=grid, shrink=0.6, aspect=40, pad=0.02)
        bar.set_label("learning rate α")
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: numerals.power(2.0**value, style="mathtext")))
        figure.legend(
            handles=[
                Line2D([], [], marker="o", linestyle="", color="#4a5a75", label="cell, mean over seeds"),
                Line2D([], [], marker="x", linestyle="", color="#4a5a75", label="above the cut, or diverged"),
                Line2D([], [], color="#c2410c", label="best curve"),
            ],
            loc="outside lower center", ncols=3, frameon=False,
        )  # fmt: skip
        add_footer(figure, [analysis], variants.values())
    return figure


def _collapse(axes: Axes, collapse: Collapse, norm: Normalize, *, is_least: bool) -> None:
    order = np.argsort(collapse.x)
    colors = np.log2(collapse.lr)
    for shown, marker in ((~collapse.censored, "o"), (collapse.censored, "x")):
        axes.scatter(
            collapse.x[shown], collapse.z[shown], c=colors[shown], cmap=LEARNING_RATES, norm=norm, marker=marker, s=11,
            linewidths=0.8 if marker == "x" else 0,
        )  # fmt: skip
    axes.plot(collapse.x[order], collapse.fitted[order], color="#c2410c", linewidth=1.2)
    axes.set_xscale("log", base=10 if collapse.parameter == "rotation" else 2)
    axes.xaxis.set_major_locator(LogLocator(base=10 if collapse.parameter == "rotation" else 16, numticks=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numerals.power(value, style="mathtext")))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(
        f"unexplained {numerals.interval(collapse.unexplained)}",
        loc="left", fontsize=8, fontweight="bold" if is_least else "normal",
    )  # fmt: skip
