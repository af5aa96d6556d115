"""How the best cells learnt: the metric over training."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from hpscan import numerals
from hpscan.analysis import Analysis
from hpscan.figures import PAGE, STYLE
from hpscan.footer import add_footer
from hpscan.scales import MetricTicks
from hpscan.spec import SpecError

__all__ = ["curves_chart", "has_curves"]


def has_curves(analysis: Analysis) -> bool:
    """Whether some best cell was evaluated on the way."""
    points, metric = analysis.curves, analysis.spec.metric
    best = [each.landscape.run_ids[:, *each.best.index] for each in analysis.variants if each.best is not None]
    if not best or metric not in points:
        return False
    return bool(points[metric][points["run_id"].isin(np.concatenate(best))].notna().any())


def curves_chart(analysis: Analysis) -> Figure:
    """The metric of each variant's best cell against the step: means over seeds, bands from the least seed to the largest.

    Raises
    ------
    SpecError
        If no best cell has been evaluated on the way.
    """
    metric, points = analysis.spec.metric, analysis.curves
    if not has_curves(analysis):
        raise SpecError(f"{analysis.spec.name}: learning curves need best cells with evaluations of {metric}")
    shown = [variant for variant in analysis.variants if variant.best is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
        axes = figure.subplots()
        colors = mpl.colormaps["tab10" if len(shown) <= 10 else "viridis"]
        dashes = ("-", "--", "-.", ":")
        for at, variant in enumerate(shown):
            assert variant.best is not None
            run_ids = variant.landscape.run_ids[:, *variant.best.index]
            own = points[points["run_id"].isin(run_ids)].groupby("step")[metric].agg(["mean", "min", "max"]).dropna()
            color = colors(at if len(shown) <= 10 else at / len(shown))
            axes.plot(own.index, own["mean"], color=color, linestyle=dashes[at % 4], marker=".", label=variant.name)
            axes.fill_between(own.index, own["min"], own["max"], color=color, alpha=0.15, linewidth=0)
        if all(np.asarray(line.get_ydata(), dtype=float).min(initial=1.0) > 0 for line in axes.lines):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(MetricTicks(metric))
        axes.set_xlabel("step")
        axes.set_ylabel(numerals.metric_name(metric))
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        add_footer(figure, [analysis], [variant.landscape.variant for variant in shown])
    return figure
