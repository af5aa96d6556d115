"""The kinds of figure there are, and which of them a sweep calls for: what ``figures`` draws and a report shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from hpscan import numerals
from hpscan.analysis import Analysis
from hpscan.animation import save_animation
from hpscan.collapse_charts import collapse_chart
from hpscan.convention_charts import conventions_caption, conventions_chart, heatmaps_in
from hpscan.curve_charts import curves_chart, has_curves
from hpscan.figures import FIGURES, heatmaps, save_figure, save_figures, separability_chart
from hpscan.paper_charts import paper_fig1, paper_fig2, paper_fig3, paper_fig4
from hpscan.scaling_charts import budgets_chart, budgets_groups, scaling_chart, shown_scalings
from hpscan.slice_charts import ridge_chart, ridge_shown, slices_chart
from hpscan.spec import SpecError
from hpscan.variants import Decay

__all__ = [
    "COMPARED",
    "KINDS",
    "Drawing",
    "check_kind",
    "report_drawings",
    "save_gallery",
    "save_in_convention",
    "save_kind",
    "save_metric",
]

KINDS: dict[str, Callable[[Analysis], Figure]] = {
    **FIGURES,
    "conventions": conventions_chart,
    "scaling": scaling_chart,
    "budgets": budgets_chart,
    "collapse": collapse_chart,
    "slices": slices_chart,
    "ridge": ridge_chart,
    "curves": curves_chart,
    "fig2": paper_fig2,
    "fig3": paper_fig3,
}
"""Figures of one sweep. Each raises SpecError where the sweep has no data for it."""
COMPARED: dict[str, Callable[[Sequence[Analysis]], Figure]] = {"fig1": paper_fig1, "fig4": paper_fig4}
"""Figures of several sweeps together."""
ANIMATION = "animation"

HEATMAPS = (
    "The landscapes: one panel a variant, all on one colour scale. Where learning rate and weight decay separate, "
    "the bright basin stands upright: the best weight decay is the same at every learning rate. Where they are "
    "tied, it leans."
)
SEPARABILITY = (
    "Separability in numbers, with 95 % intervals over seeds. Squares: variants whose shrink depends on "
    "the learning rate; circles: the paper's decoupled decay."
)
SLICES = (
    "Through the best cell, the heavy line, and two and four cells beside it. Means over seeds; bands reach from the least "
    "seed to the largest. A line ends where a seed diverged."
)
RIDGE = (
    "The best weight decay at each learning rate with its 95 % interval, over the landscape. Upright where the two "
    "separate, leaning where they are tied."
)
CURVES = "Means over the best cell's seeds; bands reach from the least seed to the largest."
SCALING = (
    "The best weight decay against the axis of the sweep, with the fitted exponent and two that have been predicted for "
    "decoupled decay: constant normalised decay (Loshchilov & Hutter 2019, appendix B.1) and an EMA timescale that is a "
    "constant share of the training (after Wang & Aitchison 2024). Optima on an edge of the grid are not fitted."
)
BUDGETS = (
    "The same runs over the weight decay as given, and over the normalised λ √steps. Where normalised decay holds, the "
    "line moves to the left from budget to budget above and stays where it is below. Bright is good, on a scale of each "
    "landscape's own."
)
COLLAPSE = (
    "Every cell against one number at a time: learning rate, weight decay, their product, and the angle by which the weights "
    "were measured to turn in a step. Unexplained is the share of the variance over cells that the best curve leaves, the "
    "seeds' noise taken out, with its 95 % interval: 0 where that number alone decides. The least of a row is in bold."
)


@dataclass(frozen=True)
class Drawing:
    """A figure that a sweep calls for."""

    name: str
    """Its file, without a suffix."""
    title: str
    alt: str
    """What it shows, for those who do not see it."""
    caption: str
    draw: Callable[[Analysis], Figure]


def report_drawings(analysis: Analysis) -> list[Drawing]:
    """The figures of a report: the heatmaps, the separability chart, what else the sweep calls for, and cuts through it."""
    metric = numerals.metric_name(analysis.spec.metric)
    heat = (
        f"Heatmaps of {metric} over learning rate and weight decay, one panel a variant; the tables say what they show."
    )
    dots = (
        "Contour slope, interaction share and regret of each variant with intervals; the same numbers as in the table."
    )
    drawings = [
        Drawing("heatmaps", "Landscapes", heat, HEATMAPS, heatmaps),
        Drawing("separability", "Separability", dots, SEPARABILITY, separability_chart),
        *further_drawings(analysis),
    ]
    if any(variant.best for variant in analysis.variants):
        cut = f"{metric.capitalize()} of each variant along one axis at some values of the other."
        drawings.append(Drawing("slices", "Slices through the best cell", cut, SLICES, slices_chart))
    if ridge_shown(analysis):
        alt = "The best weight decay at each learning rate, over each variant's landscape; its slope is in the panel's title."
        drawings.append(Drawing("ridge", "The best weight decay at each learning rate", alt, RIDGE, ridge_chart))
    if has_curves(analysis):
        alt = f"{metric.capitalize()} of each variant's best cell against the training step."
        drawings.append(Drawing("curves", "How the best cells learnt", alt, CURVES, curves_chart))
    return drawings


def further_drawings(analysis: Analysis) -> list[Drawing]:
    """What a sweep calls for beside its heatmaps and the separability chart."""
    pictures = []
    if analysis.sheared:
        caption = conventions_caption(analysis)
        pictures.append(Drawing("conventions", "Two units of one rule", caption, caption, conventions_chart))
    if shown_scalings(analysis):
        pictures.append(Drawing("scaling", "How the best weight decay scales", SCALING, SCALING, scaling_chart))
    if budgets_groups(analysis):
        pictures.append(Drawing("budgets", "Raw and normalised decay", BUDGETS, BUDGETS, budgets_chart))
    if analysis.collapses:
        pictures.append(Drawing("collapse", "One effective parameter?", COLLAPSE, COLLAPSE, collapse_chart))
    return pictures


def save_gallery(analysis: Analysis, folder: Path) -> list[Path]:
    """Draw all figures as PNG, SVG and PDF into ``folder`` and return the paths."""
    further = [(picture.draw(analysis), picture.name) for picture in further_drawings(analysis)]
    paths = save_figures(analysis, folder)
    paths += [path for drawn, name in further for path in save_figure(drawn, folder, name)]
    if not analysis.predictions.empty:
        table = folder / "predicted.csv"
        analysis.predictions.to_csv(table, index=False)
        paths.append(table)
    return paths


def save_metric(analysis: Analysis, folder: Path) -> list[Path]:
    """Draw the heatmaps of another metric than the spec's, beside those of that one."""
    return save_figure(heatmaps(analysis), folder, f"heatmaps-{analysis.spec.metric}")


def check_kind(kind: str) -> None:
    """Raise SpecError, with those that there are, if there is no such kind of figure."""
    if kind not in {*KINDS, *COMPARED, ANIMATION}:
        raise SpecError(f"--kind {kind}: must be one of {', '.join([*KINDS, *COMPARED, ANIMATION])}")


def save_kind(
    kind: str, analyses: Sequence[Analysis], folders: Sequence[Path], *, metric: str | None = None
) -> list[Path]:
    """Draw one kind of figure: of all sweeps together into the first folder, or of each into its own.

    Those of another ``metric`` than the spec's have its name and lie beside those of that one.

    Raises
    ------
    SpecError
        If a sweep has no data for it.
    """
    name = _named(kind, metric)
    if kind in COMPARED:
        return save_figure(COMPARED[kind](analyses), folders[0], name)
    if kind == ANIMATION:
        saved = [save_animation(analysis, folder, name) for analysis, folder in zip(analyses, folders, strict=True)]
    else:
        drawn = [KINDS[kind](analysis) for analysis in analyses]
        saved = [save_figure(figure, folder, name) for figure, folder in zip(drawn, folders, strict=True)]
    return [path for paths in saved for path in paths]


def save_in_convention(analysis: Analysis, to: Decay, folder: Path, *, metric: str | None = None) -> list[Path]:
    """Draw the heatmaps of the decoupled variants in one form's units; raises SpecError where there are none."""
    return save_figure(heatmaps_in(analysis, to), folder, _named(f"heatmaps-{to}", metric))


def _named(kind: str, metric: str | None) -> str:
    return f"{kind}-{metric}" if metric else kind
