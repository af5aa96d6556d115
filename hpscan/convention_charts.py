"""Figures of decay conventions: a landscape in both forms' units, beside one that was measured."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
from matplotlib.figure import Figure

from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.conventions import IN_TORCH, UNITS, agreement, partner, redrawn
from hpscan.figures import PAGE, STYLE, add_below, draw_landscape, heatmaps
from hpscan.landscape import Landscape
from hpscan.scales import colour_bar, shared_norm
from hpscan.spec import SpecError
from hpscan.variants import VARIANTS, Decay

__all__ = ["conventions_caption", "conventions_chart", "heatmaps_in", "in_convention"]


def in_convention(analysis: Analysis, to: Decay) -> Analysis:
    """The analysis with every landscape that has a form in ``to``'s units re-drawn in them, and without the others.

    Raises
    ------
    SpecError
        If there is none, or one's grid cannot be sheared.
    """
    shapes = [variant.landscape for variant in analysis.variants]
    kept = [shape if VARIANTS[shape.variant].decay is to else _changed(shape, to) for shape in shapes]
    drawn = [VariantAnalysis.of(shape) for shape in kept if shape is not None]
    if not drawn:
        raise SpecError(
            f"{analysis.spec.name}: no variant has a form in {UNITS[to]}; adamw, sgdw and their -torch have"
        )
    return Analysis(analysis.spec, drawn, analysis.store, analysis.planned)


def heatmaps_in(analysis: Analysis, to: Decay) -> Figure:
    """The heatmaps of the decoupled variants in one form's units; raises SpecError where there are none."""
    figure = heatmaps(in_convention(analysis, to))
    for axes in figure.axes:
        if to is Decay.TORCH and axes.images:
            axes.set_xlabel(IN_TORCH)
    return figure


def conventions_chart(analysis: Analysis) -> Figure:
    """A row for each pair of :attr:`Analysis.sheared`, on one colour scale; the last two have one weight-decay axis.

    Raises
    ------
    SpecError
        If the sweep has no such pair.
    """
    rows = analysis.sheared
    if not rows:
        raise SpecError(
            f"{analysis.spec.name}: conventions compares adamw with adamw-torch, or sgdw with sgdw-torch, on grids whose "
            "learning rates lie on the steps of the weight decays; the sweep has no such pair"
        )
    every = [variant for row in rows for variant in row]
    norm = shared_norm(every)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 2.3 * len(rows) + 0.4), layout="constrained")
        grid = figure.subplots(len(rows), 3, squeeze=False, width_ratios=(1.0, 1.3, 1.3))
        for axes_row, row in zip(grid, rows, strict=True):
            labels = ("As measured", "The same runs, in torch's units", "As measured")
            for axes, variant, label in zip(axes_row, row, labels, strict=True):
                draw_landscape(axes, variant, norm)
                axes.set_title(f"{label}\n{axes.get_title(loc='left')}", loc="left")
            for axes in axes_row[1:]:
                axes.set_xlabel(IN_TORCH)
        colour_bar(figure, norm, grid, every)
        add_below(figure, [analysis], every)
    return figure


def conventions_caption(analysis: Analysis) -> str:
    """What the chart says, in a sentence for people, with how well the two ways agree."""
    n_cells, median, largest = agreement([(one.landscape, other.landscape) for _, one, other in analysis.sheared])
    apart = (
        f"differ by {median:.2g} in the median, {largest:.2g} at most" if largest else "are the same to the last bit"
    )
    agree = f" The {n_cells} cells that were measured both ways {apart}." if n_cells else ""
    return (
        "One rule in two units: θ shrinks by η λ a step, which torch's AdamW writes as η α · weight_decay. Re-drawn in "
        "weight_decay = λ/α, a row of the upright basin moves sideways by its own learning rate, and the basin leans: "
        f"that is the coupling seen with torch's AdamW.{agree}"
    )


def _changed(shape: Landscape, to: Decay) -> Landscape | None:
    if not partner(shape.variant, to):
        return None
    changed = redrawn(shape, to)
    return replace(changed, name=f"{changed.name} from {shape.variant}")
