"""Several sweeps side by side: two models, two budgets, two data sets, on scales that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np

from hpscan import numerals
from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.caveats import caveats
from hpscan.content import answers, best_table, recommended, rise, separability
from hpscan.costs import cost
from hpscan.intervals import Interval
from hpscan.landscape import is_chosen_by
from hpscan.pages import Block, Facts, Page, Paragraph, Picture, Points, Section, Table
from hpscan.provenance import setting_of
from hpscan.recommendation import less
from hpscan.spec import SpecError

__all__ = ["LANDSCAPES", "check_comparable", "comparison_page"]

LANDSCAPES = Picture(
    "landscapes",
    "Heatmaps of each sweep's variants over learning rate and weight decay; the tables say what they show.",
    "A column for each sweep, a row for each variant, all on one colour scale.",
)


def check_comparable(analyses: Sequence[Analysis]) -> None:
    """Raise SpecError if there are not two sweeps, one is given twice, or no one metric chooses the best of all."""
    names = [analysis.spec.name for analysis in analyses]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise SpecError(f"compare: needs two different sweeps or more; got {', '.join(names) or 'none'}")
    metrics = {analysis.spec.name: analysis.spec.metric for analysis in analyses}
    if len(set(metrics.values())) > 1:
        told = ", ".join(f"{name} by {metric}" for name, metric in metrics.items())
        raise SpecError(f"compare: sweeps must be chosen by one metric; {told}. Choose one with --metric")
    metric = analyses[0].spec.metric
    if not is_chosen_by(metric):
        raise SpecError(f"--metric {metric}: best cells are chosen by a validation metric, such as val_loss")


def comparison_page(analyses: Sequence[Analysis]) -> Page:
    """The report across sweeps; its one picture is :data:`LANDSCAPES`."""
    names = [analysis.spec.name for analysis in analyses]
    warnings = [
        (f"{analysis.spec.name} · {about}", text, command)
        for analysis in analyses
        for about, text, command in caveats(analysis)
    ]
    sections = [
        Section("", [Points([*_moves_in_words(analyses), *answers(analyses)])], tone="answer"),
        Section("What differs", [_differences(analyses)]),
        Section("Landscapes", [LANDSCAPES]),
        Section("Best configuration of each variant", best_table(analyses)),
        *recommended(analyses),
        *_transfer(analyses),
        Section("To know before relying on this", [Points(warnings)], tone="warning"),
        *separability(analyses),
        *[Section(f"Cost of {analysis.spec.name}", [Facts(cost(analysis))], level=2) for analysis in analyses],
    ]
    return Page(f"{' against '.join(names)}: the sweeps compared", sections)


def _differences(analyses: Sequence[Analysis]) -> Block:
    settings = [dict(setting_of(analysis)) for analysis in analyses]
    fields = list(dict.fromkeys(field for setting in settings for field in setting))
    rows = [[field, *(setting.get(field, "—") for setting in settings)] for field in fields]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    if not differing:
        return Paragraph("Their grids, seeds or variants only.")
    columns = ["", *(analysis.spec.name for analysis in analyses)]
    return Table("What differs between the sweeps", columns, differing, wraps=tuple(range(1, len(columns))))


def _moved(one: VariantAnalysis, other: VariantAnalysis) -> tuple[float, float] | None:
    """By how many octaves the recommended lr and wd move from one landscape to another."""
    before, after = one.recommendation, other.recommendation
    if before is None or after is None or min(before.wd, after.wd, before.lr, after.lr) <= 0:
        return None
    return math.log2(after.lr / before.lr), math.log2(after.wd / before.wd)


def _moves_in_words(analyses: Sequence[Analysis]) -> list[tuple[str, str, str]]:
    """From the first sweep to each of the others."""
    first, *others = analyses
    told = []
    for other in others:
        by_name = {variant.name: variant for variant in other.variants}
        parts = []
        for variant in first.variants:
            moved = _moved(variant, by_name[variant.name]) if variant.name in by_name else None
            if moved is not None:
                lr, wd = (numerals.minus(f"{octaves:+z.1f}") for octaves in moved)
                parts.append(f"{variant.name} lr {lr}, wd {wd}")
        if parts:
            text = f"what is recommended moves by these octaves: {'; '.join(parts)}."
            told.append((f"From {first.spec.name} to {other.spec.name}", text, ""))
    return told


def _transfer(analyses: Sequence[Analysis]) -> list[Section]:
    """What it costs to train one sweep's setting with what another recommends."""
    metric, rows = analyses[0].spec.metric, []
    for one, other in permutations(analyses, 2):
        there = {variant.name: variant for variant in other.variants}
        for variant in one.variants:
            advice = variant.recommendation
            if advice is None or variant.name not in there or there[variant.name].best is None:
                continue
            lr, wd = numerals.power(advice.lr), numerals.power(advice.wd)
            paid = rise(_paid(there[variant.name], advice.lr, advice.wd), metric)
            rows.append([variant.name, one.spec.name, lr, wd, other.spec.name, paid])
    if not rows:
        return []
    told = (
        "What one sweep recommends, trained in the setting of another: how much worse than the best cell there, paired over "
        "seeds; “—” where that grid does not have the cell."
    )
    columns = ["variant", "recommended by", "lr", "wd", "trained as in", "costs"]
    return [Section("What carries over", [Paragraph(told), Table("What carries over", columns, rows)])]


def _paid(variant: VariantAnalysis, lr: float, wd: float) -> Interval:
    """The metric at a cell less that of the best one; inf where it diverged."""
    shape = variant.landscape
    assert variant.best is not None
    rows, columns = (
        np.flatnonzero(np.isclose(axis, at, rtol=1e-6, atol=0.0)) for axis, at in ((shape.lr, lr), (shape.wd, wd))
    )
    if not len(rows) or not len(columns):
        return Interval(math.nan, math.nan, math.nan)
    cell = int(rows[0]), int(columns[0])
    if (shape.states[:, *cell] == "diverged").any():
        return Interval(math.inf, math.nan, math.nan)
    return less(shape, cell, shape, variant.best.index)
