"""Figures after those of Loshchilov & Hutter 2019, of sweeps of one's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hpscan import numerals
from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.comparison_charts import side_by_side
from hpscan.differences import differences
from hpscan.evolution import evolution
from hpscan.figures import PAGE, STYLE, add_below, draw_landscape
from hpscan.footer import CONVENTIONS, add_footer
from hpscan.grid import panels
from hpscan.landscape import Landscape
from hpscan.scales import MetricTicks, colour_bar, shared_norm
from hpscan.schedules import CosineRestarts
from hpscan.separation import coordinates
from hpscan.spec import Spec, SpecError
from hpscan.surfaces import CUT
from hpscan.variants import VARIANTS, Decay

__all__ = ["paper_fig1", "paper_fig2", "paper_fig3", "paper_fig4"]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe & Ito's colours, which the colour-blind can tell apart."""
MARKERS = ("o", "s", "D", "^", "v", "P")
LEGEND = 128
"""Characters that a page is wide; an entry's mark takes eight."""


def paper_fig1(analyses: Sequence[Analysis]) -> Figure:
    """Figure 1: a column for each sweep, which differ in their schedule, and a row for each variant that all have.

    One colour scale for all; the ten best cells of each landscape are circled.

    Raises
    ------
    SpecError
        If there is one sweep only, or they differ in anything else, or have no variant in common.
    """
    _comparable("fig1", analyses, ("schedule",))
    columns = [{variant.name: variant for variant in analysis.variants} for analysis in analyses]
    names = [name for name in columns[0] if all(name in column for column in columns)]
    if not names:
        raise SpecError(f"fig1: {_named(analyses)} have no variant in common")
    common = [
        replace(analysis, variants=[column[name] for name in names])
        for analysis, column in zip(analyses, columns, strict=True)
    ]
    return side_by_side(common, [_schedule(analysis.spec) for analysis in analyses], _best)


def paper_fig2(analysis: Analysis) -> Figure:
    """Figure 2: L2 on the left, the paper's form on the right, a row for each optimizer that has both; ten best circled.

    Raises
    ------
    SpecError
        If there is no such optimizer.
    """
    by_kind = {
        (VARIANTS[variant.landscape.variant].optimizer, VARIANTS[variant.landscape.variant].decay, variant.landscape.at): variant
        for variant in analysis.variants
    }  # fmt: skip
    rows = [
        (variant, by_kind[optimizer, Decay.PAPER, at])
        for (optimizer, decay, at), variant in by_kind.items()
        if decay is Decay.L2 and (optimizer, Decay.PAPER, at) in by_kind
    ]
    if not rows:
        raise SpecError(
            f"{analysis.spec.name}: fig2 sets L2 beside decoupled decay: it needs sgd and sgdw, or adam and adamw"
        )
    every = [variant for row in rows for variant in row]
    norm = shared_norm(every)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 2.2 * len(rows) + 0.4), layout="constrained")
        grid = figure.subplots(len(rows), 2, squeeze=False)
        for axes, variant in zip(grid.ravel(), every, strict=True):
            draw_landscape(axes, variant, norm)
            convention = CONVENTIONS[VARIANTS[variant.landscape.variant].decay].partition(" (")[0]
            axes.set_title(f"{variant.name} · {convention}\n{_best(variant)}", loc="left")
        colour_bar(figure, norm, grid, every)
        add_below(figure, [analysis], every)
    return figure


def paper_fig3(analysis: Analysis) -> Figure:
    """Figure 3: learning curves above; below, the metric against weight decay, and against the final training loss.

    Each variant at the learning rate of its best cell; a thin line or a point for each weight decay, a heavy line for
    the best. Bars reach from the least seed to the largest.

    Raises
    ------
    SpecError
        If no variant has two weight decays with a result.
    """
    shown = [variant for variant in analysis.variants if variant.best is not None and len(variant.landscape.wd) > 1]
    if not shown:
        raise SpecError(f"{analysis.spec.name}: fig3 needs a variant with results at two weight decays or more")
    metric = analysis.spec.metric
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 4.6), layout="constrained")
        (loss, error), (against_wd, against_loss) = figure.subplots(2, 2)
        for number, variant in enumerate(shown):
            color = PALETTE[number % len(PALETTE)]
            marker = MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]  # of one colour, each another
            shape = variant.landscape.at_lr(variant.landscape.ranked()[0][0])
            for axes, name in ((loss, "batch_loss"), (error, metric)):
                _learning_curves(axes, _trained(shape, analysis, name), shape.ranked()[0][1], color)
            z = shape.z[:, 0]
            mean = shape.mean()[0]
            finite = np.isfinite(mean)
            bars = np.abs(np.stack([np.nanmin(z[:, finite], axis=0), np.nanmax(z[:, finite], axis=0)]) - mean[finite])
            label = f"{variant.name}, lr {numerals.power(float(shape.lr[0]), style='mathtext')}"
            x = coordinates("wd", shape.wd)
            against_wd.errorbar(x[finite], mean[finite], bars, fmt=f"{marker}-", color=color, capsize=1.5, label=label)
            train = shape.values["train_loss"][:, 0].mean(axis=0)
            against_loss.errorbar(
                train[finite], mean[finite], bars, fmt=marker, color=color, capsize=1.5, alpha=0.8, label=label
            )
        decays = np.unique(np.concatenate([variant.landscape.wd for variant in shown]))
        x = coordinates("wd", decays)
        whole = [k for k in range(len(x)) if decays[k] == 0 or math.isclose(x[k], round(x[k]), abs_tol=1e-9)]
        told_at = whole if len(whole) > 2 else list(range(len(x)))  # no decay alone is no axis
        spread = told_at[:: math.ceil(len(told_at) / 8)]
        against_wd.set_xticks(x[spread], [numerals.power(float(decays[k]), style="mathtext") for k in spread])
        told = numerals.metric_name(metric)
        against_wd.set_xlabel("weight decay, in each variant's own units")
        against_loss.set_xlabel("final training loss")
        loss.set_ylabel("training loss")
        for axes in (error, against_wd, against_loss):
            axes.set_ylabel(told)
        _metric_axis(error, metric, np.concatenate([line.get_ydata() for line in error.lines]))
        for axes in (against_wd, against_loss):
            _metric_axis(axes, metric, np.concatenate([variant.landscape.mean().ravel() for variant in shown]))
        for axes in (loss, error):
            axes.set_xlabel("step")
        handles, labels = against_loss.get_legend_handles_labels()
        beside = int(LEGEND // (max(map(len, labels)) + 8))
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3, max(1, beside)), frameon=False)
        add_footer(figure, [analysis], [variant.landscape.variant for variant in shown])
    return figure


def paper_fig4(analyses: Sequence[Analysis]) -> Figure:
    """Figure 4: the metric against steps with warm restarts and without, each at its best cell; a panel an optimizer.

    Lines are means over seeds, bands reach from the least seed to the largest; marks stand where a period of the
    schedule ends. Where a sweep has several budgets, each is a thin line: what training for just so long would have given.

    Raises
    ------
    SpecError
        If the sweeps differ in more than schedule and budget, or nothing has a result.
    """
    _comparable("fig4", analyses, ("schedule", "steps", "snapshots"))
    metric = analyses[0].spec.metric
    curves: dict[str, list[tuple[int, VariantAnalysis, str]]] = {}
    for number, analysis in enumerate(analyses):
        for panel, variant in zip(panels(analysis.spec), analysis.variants, strict=True):
            if variant.best is not None:
                told = f"{panel.variant}, {_schedule(analysis.spec)}"
                curves.setdefault(VARIANTS[panel.variant].optimizer, []).append((number, variant, told))
    if not curves:
        raise SpecError(f"fig4: {_named(analyses)} have no result yet")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
        for axes, (optimizer, group) in zip(
            figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
        ):
            drawn = [_anytime(axes, number, variant, told, analyses[number]) for number, variant, told in group]
            axes.set_xscale("log", base=2)
            axes.set_xlim(left=min(line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None") / 4)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.set_xlabel("step")
            axes.set_ylabel(numerals.metric_name(metric))
            axes.set_title(optimizer, loc="left")
            _metric_axis(axes, metric, np.concatenate(drawn))
        entries = [axes.get_legend_handles_labels() for axes in figure.axes]
        handles, labels = ([entry for one in both for entry in one] for both in zip(*entries, strict=True))
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        add_footer(
            figure, analyses, [variant.landscape.variant for group in curves.values() for _, variant, _ in group]
        )
    return figure


def _anytime(axes: Axes, number: int, variant: VariantAnalysis, told: str, analysis: Analysis) -> np.ndarray:
    """The curve of a landscape's best cell, with a dot where a period of the schedule ends; returns its means."""
    i, j = variant.landscape.ranked()[0]
    trained = _trained(variant.landscape, analysis, analysis.spec.metric)
    steps = np.array([step for step, _ in trained])
    seeds = np.array([shape.z[:, i, j] for _, shape in trained])
    spec = analysis.spec.at(
        {name: value for name, value in variant.landscape.at if name in analysis.spec.grid.recipe()}
    )
    ends = [*spec.schedule_in_steps.restarts(spec.steps)[1:], spec.steps]
    several = len(analysis.spec.points()) > 1  # budgets, of which the ends alone matter
    color = PALETTE[number % len(PALETTE)]
    style = "--" if VARIANTS[variant.landscape.variant].decay is Decay.L2 else "-"
    if several:
        axes.plot(steps, seeds.mean(axis=1), style, color=color, linewidth=0.5, alpha=0.6)
    else:
        axes.fill_between(steps, seeds.min(axis=1), seeds.max(axis=1), color=color, alpha=0.18, linewidth=0)
        axes.plot(steps, seeds.mean(axis=1), style, color=color)
    at = np.isin(steps, ends)
    label = told if told not in axes.get_legend_handles_labels()[1] else None
    axes.plot(
        steps[at], seeds[at].mean(axis=1), MARKERS[number % len(MARKERS)], color=color, mec="white", mew=0.5,
        markersize=5, label=label, zorder=4,
    )  # fmt: skip
    return seeds.mean(axis=1)


def _comparable(kind: str, analyses: Sequence[Analysis], free: tuple[str, ...]) -> None:
    """Refuse sweeps that differ in more than what the figure compares."""
    specs = [analysis.spec for analysis in analyses]
    if len(specs) < 2:
        raise SpecError(
            f"{kind}: compares sweeps that differ in their {free[0]}; got {specs[0].name} alone, "
            f"give another: hpscan figures {specs[0].name} OTHER --kind {kind}"
        )
    for other in specs[1:]:
        found = differences(specs[0], other) | ({"metric": ()} if specs[0].metric != other.metric else {})
        others = [field for field in found if field.split(".")[0] not in {*free, "evaluations"}]
        if others:
            raise SpecError(
                f"{kind}: {specs[0].name} and {other.name} differ in {', '.join(others)}; "
                f"they may differ in {' and '.join(free)} only"
            )


def _named(analyses: Sequence[Analysis]) -> str:
    return " and ".join(analysis.spec.name for analysis in analyses)


def _schedule(spec: Spec) -> str:
    schedule = spec.schedule
    if isinstance(schedule, CosineRestarts):
        return f"cosine, restarts from {schedule.first:g} × {schedule.mult:g}"
    return schedule.name.replace("_", " ")


def _best(variant: VariantAnalysis) -> str:
    if variant.best is None:
        return "no result"
    metric = variant.landscape.metric
    return f"best {numerals.metric_value(metric, variant.best.means[metric])}"


def _trained(shape: Landscape, analysis: Analysis, metric: str) -> list[tuple[int, Landscape]]:
    """The landscape at each evaluation of its runs."""
    found = evolution(shape, analysis.curves, metric)
    if not found:
        raise SpecError(f"{analysis.spec.name}: {shape.name} has no evaluations on the way")
    return found


def _learning_curves(axes: Axes, trained: list[tuple[int, Landscape]], best: int, color: str) -> None:
    """The mean over seeds at each evaluation, a line for each weight decay of a landscape of one learning rate."""
    steps = [step for step, _ in trained]
    means = np.array([shape.mean()[0] for _, shape in trained])
    for j in range(means.shape[1]):
        heavy = j == best
        axes.plot(
            steps, np.where(np.isfinite(means[:, j]), means[:, j], np.nan), color=color, alpha=1.0 if heavy else 0.35,
            linewidth=1.8 if heavy else 0.6, zorder=3 if heavy else 2,
        )  # fmt: skip


def _metric_axis(axes: Axes, metric: str, values: np.ndarray) -> None:
    """Label the metric as people read it, from the least of some values to the quantile at which colours are cut."""
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(MetricTicks(metric))
    finite = values[np.isfinite(values)]
    if len(finite):
        low, high = float(finite.min()), float(np.quantile(finite, CUT))
        room = 0.08 * (high - low) or 0.01 * abs(low) or 0.01
        axes.set_ylim(low - room, high + 4 * room)
