"""The landscapes of several sweeps on one colour scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.figures import STYLE, add_below, draw_landscape
from hpscan.scales import colour_bar, shared_norm

__all__ = ["side_by_side"]


def side_by_side(
    analyses: Sequence[Analysis], headings: Sequence[str], told: Callable[[VariantAnalysis], str] | None = None
) -> Figure:
    """A column for each sweep, under its heading, and a row for each variant that any of them has.

    ``told`` is what is written above a landscape; its numbers by default. The metric of all is the first's.
    """
    columns = [{variant.name: variant for variant in analysis.variants} for analysis in analyses]
    names = list(dict.fromkeys(name for column in columns for name in column))
    every = [variant for column in columns for variant in column.values()]
    norm = shared_norm(every)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.35 * len(columns) + 0.8, 2.2 * len(names) + 0.5), layout="constrained")
        grid = figure.subplots(len(names), len(columns), squeeze=False)
        for axes_row, name in zip(grid, names, strict=True):
            for axes, column, heading in zip(axes_row, columns, headings, strict=True):
                if name not in column:
                    axes.set_axis_off()
                    continue
                draw_landscape(axes, column[name], norm)
                if told is not None:
                    axes.set_title(told(column[name]), loc="left")
                if name == next(top for top in names if top in column):
                    axes.set_title(f"{heading}\n{axes.get_title(loc='left')}", loc="left")
            first = next(axes for axes, column in zip(axes_row, columns, strict=True) if name in column)
            first.set_ylabel(f"{name}\n{first.get_ylabel()}")
        colour_bar(figure, norm, grid, every)
        add_below(figure, analyses, every)
    return figure
