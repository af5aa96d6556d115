"""Figures of a sweep: the landscapes side by side, and their separability in numbers."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline

from hpscan import numerals
from hpscan.analysis import AXES_IN_WORDS, Analysis, VariantAnalysis
from hpscan.conventions import OUTSIDE
from hpscan.files import write_whole
from hpscan.footer import CONVENTIONS, add_footer
from hpscan.intervals import Interval
from hpscan.landscape import Landscape
from hpscan.scales import COLORS, Scale, colour_bar, shared_norm
from hpscan.spec import Spec
from hpscan.variants import VARIANTS

__all__ = [
    "BLANKS",
    "COLUMN",
    "COUPLING",
    "FIGURES",
    "PAGE",
    "STYLE",
    "add_below",
    "add_legend",
    "blank_state",
    "draw_landscape",
    "heatmaps",
    "save_figure",
    "save_figures",
    "save_schedule",
    "schedule_chart",
    "separability_chart",
    "to_svg",
]

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 7,  # as printed: a figure is drawn at the width of a column or of a page
    "axes.titlesize": 7.5,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # text stays text
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "hpscan",  # the same data give the same file
    "hatch.linewidth": 0.6,
}
N_CIRCLED = 10
MOST_COLUMNS = 5
PREDICTED = ("////", "#5a5a5a", 0.45)
"""Hatch, its colour and the colour's strength of a cell that was predicted, not trained."""
BLANKS = {  # how a cell without a finite mean is painted: (face, hatch)
    "diverged": ("#d9d9d9", "xxxx"),
    "stopped": ("#eef1f5", "----"),
    "failed": ("#f4c7c3", "////"),
    OUTSIDE: ("#ffffff", ""),
    "missing": ("#ffffff", "...."),
}
SYMBOLS = {"lr": "learning rate α", "wd": "weight decay λ"}
COUPLING = {True: "#c2410c", False: "#0f766e"}
"""Colours of coupled variants and of the paper's form."""
DPI = 200
"""Of PNGs, and of what is a bitmap within the other formats."""
COLUMN, PAGE = 3.35, 7.0
"""Inches that a figure is wide in print."""


def heatmaps(analysis: Analysis) -> Figure:
    """All landscapes side by side, one row an optimizer, on one robust colour scale.

    Means over seeds; the best cell has a star and the ten best of more have circles, as in the paper's Figure 2. Cells
    without a finite mean are painted by their state and never interpolated; a dot marks cells with fewer seeds than
    planned.
    """
    rows = _rows_by_optimizer(analysis.variants)
    n_columns = max(map(len, rows))
    norm = shared_norm(analysis.variants)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.13 * n_columns + 0.6, 2.3 * len(rows) + 0.4), layout="constrained")
        grid = figure.subplots(len(rows), n_columns, squeeze=False)
        for axes_row, row in zip(grid, rows, strict=True):
            for axes, variant in zip(axes_row, row, strict=False):
                draw_landscape(axes, variant, norm)
            for axes in axes_row[len(row) :]:
                axes.set_axis_off()
        colour_bar(figure, norm, grid, analysis.variants)
        add_below(figure, [analysis], analysis.variants)
    return figure


def separability_chart(analysis: Analysis) -> Figure:
    """Contour slope, interaction share and independent-tuning regret of every variant, with intervals."""
    names = [variant.name for variant in analysis.variants]
    metric = numerals.metric_name(analysis.spec.metric)
    panels = (
        (
            "contour_slope",
            "contour slope  dlog wd / dlog lr",
            {0.0: ("separable", "left"), -1.0: ("only lr·wd matters", "right")},
        ),
        ("interaction_share", "interaction share of variance", {0.0: ("", "left")}),
        (
            "independent_tuning_regret",
            f"regret of tuning one axis at a time\n({metric}, mean over starts)",
            {0.0: ("", "left")},
        ),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 0.28 * len(names) + 1.1), layout="constrained")
        for axes, (attribute, title, marks) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
            for at, (note, side) in marks.items():
                axes.axvline(at, color="#9a9a9a", linewidth=0.8, linestyle=":")
                axes.annotate(
                    note,
                    (at, 1.0),
                    (0, 3),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    ha=side,
                    fontsize=6,
                    color="#606060",
                )
            for y, variant in enumerate(analysis.variants):
                _dot(
                    axes,
                    y,
                    getattr(variant.separability, attribute),
                    coupled=VARIANTS[variant.landscape.variant].coupled,
                )
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_xlabel(title)
            in_percent = attribute == "independent_tuning_regret" and analysis.spec.metric.endswith("_error")
            axes.xaxis.set_major_formatter(_percent if in_percent else _plain)
            axes.margins(x=0.12)
        add_footer(figure, [analysis], [variant.landscape.variant for variant in analysis.variants])
    return figure


FIGURES = {"heatmaps": heatmaps, "separability": separability_chart}


def schedule_chart(spec: Spec) -> Figure:
    """η_t over the budget of a spec, step by step, with its restarts; of several budgets, over the last."""
    spec = spec.at(spec.points()[-1])
    schedule, steps = spec.schedule_in_steps, spec.steps
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
        axes = figure.subplots()
        shown = np.unique(np.linspace(0, steps - 1, min(steps, 4000)).astype(int))
        axes.plot(
            shown, [schedule.multiplier(int(step), steps) for step in shown], color="#31688e", drawstyle="steps-post"
        )
        for restart in schedule.restarts(steps)[1:]:
            axes.axvline(restart, color="#9a9a9a", linewidth=0.8, linestyle=":")
        axes.set_title(f"{spec.name} · {schedule.name.replace('_', ' ')} schedule", loc="left")
        axes.set_xlabel(f"step, of {steps:,}")
        axes.set_ylabel("multiplier η")
        axes.set_ylim(-0.02, 1.05)
        axes.margins(x=0.01)
    return figure


def save_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Draw every figure as PNG, SVG and PDF into ``folder`` and return the paths."""
    return [path for name, draw in FIGURES.items() for path in save_figure(draw(analysis), folder, name)]


def save_schedule(spec: Spec, folder: Path) -> list[Path]:
    """Draw a spec's schedule as PNG, SVG and PDF into ``folder`` and return the paths."""
    return save_figure(schedule_chart(spec), folder, f"{spec.name}-schedule")


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG, SVG and PDF into ``folder`` and return the paths; each is written whole or not at all."""
    paths = []
    _settle(figure)
    for suffix, metadata in (
        ("png", {"Software": "hpscan"}),
        ("svg", {"Date": None}),
        ("pdf", {"CreationDate": None}),
    ):
        drawn = io.BytesIO()
        with mpl.rc_context(STYLE):
            figure.savefig(drawn, format=suffix, dpi=DPI, metadata=metadata)
        paths.append(folder / f"{name}.{suffix}")
        write_whole(paths[-1], drawn.getvalue())
    return paths


def to_svg(figure: Figure) -> bytes:
    """A figure as SVG; the same figure gives the same bytes."""
    drawn = io.BytesIO()
    _settle(figure)
    with mpl.rc_context(STYLE):
        # savefig would draw all of it once more, to see where it ends
        FigureCanvasSVG(figure).print_svg(drawn, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return drawn.getvalue()


def _settle(figure: Figure) -> None:
    """Lay a figure out, once for all its formats, and the same on every call: the solver's last bits are not."""
    figure.dpi = DPI
    engine = figure.get_layout_engine()
    if engine is None:
        return
    with mpl.rc_context(STYLE):
        engine.execute(figure)
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(np.round(axes.get_position(original=True).bounds, 6))


def _rows_by_optimizer(variants: Sequence[VariantAnalysis]) -> list[list[VariantAnalysis]]:
    rows: dict[str, list[VariantAnalysis]] = {}
    for variant in variants:
        rows.setdefault(VARIANTS[variant.landscape.variant].optimizer, []).append(variant)
    if all(len(row) == 1 for row in rows.values()):
        rows = {"": [variant for row in rows.values() for variant in row]}
    return [row[start : start + MOST_COLUMNS] for row in rows.values() for start in range(0, len(row), MOST_COLUMNS)]


def draw_landscape(axes: Axes, variant: VariantAnalysis, norm: Scale) -> None:
    """Paint one landscape, its best cells marked, with its numbers in the title."""
    shape, numbers = variant.landscape, variant.separability
    z = shape.mean()
    finite = np.isfinite(z)
    axes.imshow(np.ma.masked_where(~finite, norm.of(z)), norm=norm, cmap=COLORS, origin="lower", aspect="auto")
    faces, hatched = np.zeros((*z.shape, 4)), defaultdict(list)
    for i, j in np.argwhere(~finite):
        face, hatch = BLANKS[blank_state(shape.states[:, i, j])]
        faces[i, j], edge = to_rgba(face), "#8a8a8a"
        if variant.belief is not None and variant.predicted[i, j]:
            hatch, edge, strength = PREDICTED
            full = np.array(mpl.colormaps[COLORS](norm(norm.of(variant.belief.mean)[i, j])))
            faces[i, j] = 1 - strength * (1 - full)
        hatched[hatch, edge].append((j, i))
    if hatched:
        axes.imshow(faces, origin="lower", aspect="auto")
    for (hatch, edge), cells in hatched.items():  # all in one: a grid of many thousands has as many
        square = Outline.unit_rectangle()
        corners = np.asarray(square.vertices, dtype=float) - 0.5
        squares = Outline.make_compound_path(*(Outline(corners + np.array(cell), square.codes) for cell in cells))
        axes.add_patch(PathPatch(squares, facecolor="none", edgecolor=edge, hatch=hatch, linewidth=0))
    incomplete = np.argwhere(finite & (shape.known < len(shape.seeds)))
    axes.plot(incomplete[:, 1], incomplete[:, 0], ".", color="black", markersize=2)
    circled = np.array(_circled(shape)).reshape(-1, 2)
    axes.plot(circled[:, 1], circled[:, 0], "o", mfc="none", mec="black", markersize=6.5, mew=0.7)
    best = np.array(shape.ranked(1)).reshape(-1, 2)
    axes.plot(best[:, 1], best[:, 0], "*", color="#e3342f", mec="white", markersize=9, mew=0.5)
    _ticks(axes, shape.wd, shape.lr)
    lr_label, wd_label = (SYMBOLS.get(axis, AXES_IN_WORDS.get(axis, axis)) for axis in shape.axes)
    axes.set_xlabel(wd_label)
    axes.set_ylabel(lr_label)
    convention = CONVENTIONS[VARIANTS[shape.variant].decay].partition(" (")[0]
    settings = shape.name.removeprefix(shape.variant).strip()
    further = f"{settings}\n" if settings else ""
    axes.set_title(
        f"{shape.variant} · {convention}\n{further}"
        f"slope {numerals.interval(numbers.contour_slope, sign=True)}\n"
        f"interaction {numerals.interval(numbers.interaction_share)}",
        loc="left",
    )
    axes.tick_params(length=2)


def _circled(shape: Landscape) -> list[tuple[int, int]]:
    """The ten best cells; none where that would be all that can be compared."""
    ranked = shape.ranked(N_CIRCLED + 1)
    return ranked[:N_CIRCLED] if len(ranked) > N_CIRCLED else []


def blank_state(states: np.ndarray) -> str:
    """What a cell without a finite mean shows: any diverged seed makes its mean infinite, or a stopped one; then failed, then missing."""
    return next(state for state in BLANKS if state in set(states) or state == "missing")


def _ticks(axes: Axes, wd: np.ndarray, lr: np.ndarray) -> None:
    """At most six ticks an axis, on cells, as powers where they are powers; along wd three where some are long numbers."""
    for values, set_ticks in ((wd, axes.set_xticks), (lr, axes.set_yticks)):
        told = [numerals.power(float(value), style="mathtext") for value in values]
        long = set_ticks == axes.set_xticks and any(len(text) > 5 and "^" not in text for text in told)
        step = math.ceil(len(values) / (3 if long else 6))
        positions = list(range((len(values) - 1) % step // 2, len(values), step))
        set_ticks(positions, [told[index] for index in positions])


def legend_entries(variants: Sequence[VariantAnalysis]) -> list[Line2D | Patch]:
    """Legend entries of what the heatmaps show, and of nothing else."""
    star = Line2D([], [], marker="*", linestyle="", color="#e3342f", mec="white", markersize=9, label="best cell")
    circle = Line2D([], [], marker="o", linestyle="", mfc="none", mec="black", markersize=6.5, label="ten best cells")
    shapes = [variant.landscape for variant in variants]
    handles: list[Line2D | Patch] = [star] * any(variant.best for variant in variants)
    handles += [circle] * any(map(_circled, shapes))
    if any((np.isfinite(shape.mean()) & (shape.known < len(shape.seeds))).any() for shape in shapes):
        handles.append(Line2D([], [], marker=".", linestyle="", color="black", label="fewer seeds than planned"))
    shown = {
        blank_state(variant.landscape.states[:, i, j])
        for variant in variants
        for i, j in np.argwhere(~np.isfinite(variant.landscape.mean()) & ~variant.predicted)
    }
    if any(variant.predicted.any() for variant in variants):
        hatch, edge, _ = PREDICTED
        handles.append(
            Patch(facecolor="#ffffff", edgecolor=edge, hatch=hatch, linewidth=0.5, label="predicted, not trained")
        )
    for state, (face, hatch) in BLANKS.items():
        if state in shown - {OUTSIDE}:
            label = {"diverged": "a seed diverged", "stopped": "stopped at a rung"}.get(state, state)
            handles.append(Patch(facecolor=face, edgecolor="#8a8a8a", hatch=hatch, linewidth=0.5, label=label))
    return handles


def add_below(figure: Figure, analyses: Sequence[Analysis], variants: Sequence[VariantAnalysis]) -> None:
    """Put what belongs below landscapes: their legend, and the line that says what they are of."""
    add_legend(figure, variants)
    add_footer(figure, analyses, [variant.landscape.variant for variant in variants])


def add_legend(figure: Figure, variants: Sequence[VariantAnalysis]) -> None:
    """Put :func:`legend_entries` below a figure."""
    entries = legend_entries(variants)
    columns = 6 if figure.get_figwidth() > 6 else 3 if figure.get_figwidth() > 4 else 2
    if entries:
        figure.legend(handles=entries, loc="outside lower center", ncols=columns, frameon=False, handlelength=1.4)


def _plain(value: float, _: int | None) -> str:
    return numerals.minus(f"{value:g}")


def _percent(value: float, _: int | None) -> str:
    return numerals.minus(f"{100 * value:g} %")


def _dot(axes: Axes, y: int, number: Interval, *, coupled: bool) -> None:
    color = COUPLING[coupled]
    if math.isinf(number.low) or math.isinf(number.high):
        return  # the data set no bound, and a dot alone would look like one
    if not math.isnan(number.low):
        axes.plot([number.low, number.high], [y, y], color=color, linewidth=2.2, alpha=0.5, solid_capstyle="round")
    axes.plot([number.value], [y], "s" if coupled else "o", color=color, markersize=4.5)
