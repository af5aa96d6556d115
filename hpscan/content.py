"""What the best-config report says, section by section."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from hpscan import numerals
from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.caveats import caveats
from hpscan.costs import cost
from hpscan.footer import CONVENTIONS
from hpscan.gallery import Drawing, report_drawings
from hpscan.grid import Panel, panels
from hpscan.intervals import NOTHING, Interval
from hpscan.pages import Block, Code, Facts, Page, Paragraph, Picture, Points, Section, Table
from hpscan.provenance import reproducing, setting, spec_told
from hpscan.recommendation import Range, Recommendation, less
from hpscan.scaling import Scaling
from hpscan.snippets import torch_snippet
from hpscan.variants import VARIANTS
from hpscan.verdicts import Pair

__all__ = [
    "answers",
    "best_table",
    "each_variant",
    "recommended",
    "report_page",
    "rise",
    "separability",
]

READ_SEPARABILITY = Points([
    ("Contour slope", "dlog wd / dlog lr: 0 where the best weight decay does not depend on the learning rate, −1 where "
     "only their product matters.", ""),
    ("Interaction share", "the part of the variance over cells, without the seeds' noise, that no sum f(lr) + g(wd) explains.", ""),
    ("Regret", "tune lr at a fixed wd and wd at a fixed lr, combine; how much worse than the joint best, over all starting "
     "points, on seeds not used for choosing.", ""),
    ("Intervals", "95 % bootstrap intervals over seeds; “—” where the data set no bound.", ""),
])  # fmt: skip
READ_BASIN = Points([
    ("Tilt", "correlation of log lr and log wd among the best fifth of the cells.", ""),
    ("Trend", "Kendall's τ between lr and the best wd at it.", ""),
    ("Rank agreement", "how alike learning rates rank the weight decays (Spearman).", ""),
    ("Octaves", "how wide the basin is along one axis through the best cell; ≥ where it reaches the edge of the grid, “—” where "
     "nothing bounds it.", ""),
    ("p", "permutation tests against noise.", ""),
])  # fmt: skip


def report_page(analysis: Analysis) -> Page:
    """The report of a sweep; its pictures are those of :func:`hpscan.gallery.report_drawings`."""
    found, pictures = caveats(analysis), report_drawings(analysis)
    sections = [
        Section("", [Points([*answers([analysis]), *_on_caveats(len(found))])], tone="answer"),
        Section("Best configuration of each variant", [*best_table([analysis]), _shown(pictures[0])]),
        Section("To know before relying on this", [Points(found)], tone="warning"),
        *recommended([analysis]),
        *_ready_to_paste(analysis),
        *separability([analysis], _shown(pictures[1])),
        *[_further(analysis, picture) for picture in pictures[2:]],
        Section("Cost", [Facts(cost(analysis))]),
        setting(analysis),
        *reproducing(analysis),
        spec_told(analysis.spec),
    ]
    return Page(f"{analysis.spec.name}: best configurations", sections)


def _shown(picture: Drawing) -> Picture:
    return Picture(picture.name, picture.alt, picture.caption)


def _on_caveats(count: int) -> list[tuple[str, str, str]]:
    told = "1 thing" if count == 1 else f"{count} things"
    return [("Before relying on it", f"{told} to know, below the landscapes.", "")]


def each_variant(analyses: Sequence[Analysis]) -> Iterator[tuple[str, Analysis, VariantAnalysis, Panel]]:
    """Every variant with its name, which has the sweep's before it where there are several."""
    for analysis in analyses:
        before = f"{analysis.spec.name} · " if len(analyses) > 1 else ""
        for variant, panel in zip(analysis.variants, panels(analysis.spec), strict=True):
            yield before + variant.name, analysis, variant, panel


def _each_pair(analyses: Sequence[Analysis]) -> Iterator[tuple[str, Pair]]:
    for analysis in analyses:
        before = f"{analysis.spec.name} · " if len(analyses) > 1 else ""
        yield from ((before, pair) for pair in analysis.pairs)


def answers(analyses: Sequence[Analysis]) -> list[tuple[str, str, str]]:
    """How to tune each variant and where to start, what decoupling did, and whether the best variant is ahead."""
    sentences = [
        (name, _in_short(each, analysis.spec.metric), "") for name, analysis, each, _ in each_variant(analyses)
    ]
    pairs = [
        (f"{before}{pair.coupled} against {pair.decoupled}", pair.verdict.sentence, "")
        for before, pair in _each_pair(analyses)
    ]
    return [*sentences, *pairs, *(_between(analyses[0]) if len(analyses) == 1 else [])]


IN_SHORT = {
    "separable": "tune lr and wd one after the other.",
    "tied": "tune lr and wd together.",
    "unclear": "whether lr and wd can be tuned apart is not settled.",
    "no evidence": "no evidence of coupling or of separation.",
}


def _in_short(variant: VariantAnalysis, metric: str) -> str:
    """How to tune a variant, in short, and where to start."""
    advice = variant.recommendation
    if advice is None:
        diverged = (variant.landscape.states == "diverged").all()
        return "all runs diverged." if diverged else "no cell has a result to compare."
    along_lr, along_wd = (_span(reach) for reach in advice.ranges)
    return (
        f"{IN_SHORT[variant.verdict.word]} Start from lr {numerals.quantity(advice.lr)} and wd "
        f"{numerals.quantity(advice.wd)}; within {_within(advice, metric)} of the best: any lr {along_lr}, or any wd "
        f"{along_wd}."
    )


def _verdict(variant: VariantAnalysis, metric: str) -> str:
    """What a landscape says of separability, with its numbers."""
    told, numbers = variant.verdict.sentence, variant.separability
    if variant.verdict.word == "no evidence":
        return told
    slope = numerals.interval(numbers.contour_slope, sign=True)
    regret = numerals.difference(metric, numbers.independent_tuning_regret.value)
    return f"{told[:-1]} (contour slope {slope}; tuning each alone costs {regret} on average)."


def _within(advice: Recommendation, metric: str) -> str:
    return "2 %" if not advice.by_noise else f"{numerals.difference(metric, advice.within)} (the noise)"


def _span(reach: Range) -> str:
    """From where to where; bounds where the basin goes on beyond the grid."""
    low, high = (numerals.power(end, digits=2) for end in (reach.low, reach.high))
    if reach.low == reach.high:
        return f"of {low}"
    return f"from {low}{' or less' * reach.is_open[0]} to {high}{' or more' * reach.is_open[1]}"


def _between(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Whether the best variant is ahead of the next by more than noise."""
    metric = analysis.spec.metric
    ranked = sorted((each for each in analysis.variants if each.best), key=lambda each: each.best_metric.value)  # type: ignore[union-attr]
    if len(ranked) < 2:
        return []
    ahead, behind = ranked[:2]
    assert ahead.best is not None
    assert behind.best is not None
    gap = less(behind.landscape, behind.best.index, ahead.landscape, ahead.best.index)
    if math.isnan(gap.value):
        return [("Between variants", f"the best cells of {ahead.name} and {behind.name} have no seed in common.", "")]
    told = f"{behind.name}'s best cell is {rise(gap, metric, sign=False)} worse than {ahead.name}'s"
    if math.isnan(gap.low):
        verdict = "one seed cannot tell whether that is more than noise"
    else:
        verdict = "more than noise" if gap.low > 0 else "no more than noise"
    return [("Between variants", f"{told}: {verdict}.", "")]


def rise(rise: Interval, metric: str, *, sign: bool = True) -> str:
    """A difference in the metric, with its interval."""
    if math.isinf(rise.value):
        return "diverges"
    percent = metric.endswith("_error")
    scale = 100.0 if percent else 1.0
    scaled = Interval(*(end * scale for end in (rise.value, rise.low, rise.high)))
    digits = 1 if percent else numerals.decimals(scaled)
    return numerals.interval(scaled, digits, sign=sign) + (" %" if percent and not math.isnan(rise.value) else "")


def best_table(analyses: Sequence[Analysis]) -> list[Block]:
    """The best cell of each variant, with what was trained and whether it is ahead of the next cell."""
    metric, rows = analyses[0].spec.metric, []
    tested = sorted({"test_loss", *(analysis.tested for analysis in analyses)}, reverse=True)
    for name, analysis, variant, panel in each_variant(analyses):
        best, mean, shape, spec = variant.best, variant.best_metric, variant.landscape, analysis.spec
        recipe = panel.recipe
        convention = CONVENTIONS[VARIANTS[shape.variant].decay]
        schedule = "unknown" if "schedule" in spec.unknown else recipe.schedule.name.replace("_", " ")
        budget = "unknown" if "budget" in spec.unknown else f"{recipe.steps:,}"
        trained = (f"{budget} steps, {schedule}",)
        if best is None or mean is None:
            rows.append([name, "—", "—", convention, *trained, *["—"] * (len(tested) + 3)])
            continue
        ranked = shape.ranked()
        behind = less(shape, ranked[1], shape, ranked[0]) if len(ranked) > 1 else NOTHING
        ahead = rise(behind, metric) + (" (noise)" if behind.low <= 0 else "")
        rows.append([
            name,
            numerals.quantity(best.lr),
            numerals.quantity(best.wd),
            convention,
            *trained,
            numerals.metric_interval(metric, mean),
            *(numerals.metric_value(of, best.means[of], best.standard_errors[of]) for of in tested),
            str(best.n_seeds),
            ahead,
        ])  # fmt: skip
    told = (
        f"Chosen by {numerals.metric_name(metric)}, the least mean over seeds; [ ] is a 95 % interval (Student's t over "
        "seeds), ± one standard error. Next cell: how much worse the second best is, paired over seeds; “noise” where that "
        "may be nothing."
    )
    names = map(numerals.metric_name, [metric, *tested])
    columns = ["variant", "lr", "wd", "decay", "trained", *names, "seeds", "next cell"]
    table = Table("Best configuration of each variant", columns, rows, wraps=(3, 4, 5, len(columns) - 1))
    return [Paragraph(told), table]


def recommended(analyses: Sequence[Analysis]) -> list[Section]:
    """The middle of each variant's basin, how far it reaches, and what a slip costs; nothing where there is none."""
    metric, rows = analyses[0].spec.metric, []
    for name, _, variant, _ in each_variant(analyses):
        advice = variant.recommendation
        if advice is None:
            continue
        rows.append([
            name,
            numerals.quantity(advice.lr),
            numerals.quantity(advice.wd),
            numerals.metric_interval(metric, advice.metric),
            rise(advice.cost, metric),
            *(_tolerance(reach) for reach in advice.ranges),
            *(rise(reach.slip, metric) for reach in advice.ranges),
            _within(advice, metric),
        ])  # fmt: skip
    if not rows:
        return []
    columns = ["variant", "lr", "wd", numerals.metric_name(metric), "less the best", "lr may move, octaves", "wd may move, octaves",
               "an octave of lr costs", "an octave of wd costs", "within"]  # fmt: skip
    told = (
        "The best cell is the luckiest of many and may lie at the rim of its basin. This is the cell nearest the middle of "
        "all that are about as good (“within” of the best: 2 %, or the noise of a difference if that is more). The octaves "
        "are how far one axis may move, the other held, before the metric leaves the basin; ≤ and ≥ where the grid ends first, "
        "“edge” where it ends with this cell. An "
        "octave's cost is the rise at half or double the value, the worse of the two, paired over seeds; “—” beyond the grid, from no "
        "decay, and where runs were stopped."
    )
    table = Table("Recommended configurations", columns, rows, wraps=(3, 4, 5, 6, 7, 8, 9))
    return [Section("Recommended: the middle of the basin", [Paragraph(told), table])]


def _tolerance(reach: Range) -> str:
    if math.isnan(reach.octaves[0]) or reach.low == reach.high:
        return "—"
    told = []
    for sign, bound, octaves, is_open in zip("−+", "≤≥", reach.octaves, reach.is_open, strict=True):
        far = f"{sign}{octaves:.1f}".replace("inf", "∞")
        told.append("edge" if is_open and octaves == 0 else f"{bound} {far}" if is_open else far)
    return ", ".join(told)


def _ready_to_paste(analysis: Analysis) -> list[Section]:
    sections = []
    for variant, panel in zip(analysis.variants, panels(analysis.spec), strict=True):
        if variant.best is None:
            continue
        code = torch_snippet(analysis.spec, panel, variant.best.lr, variant.best.wd)
        blocks: list[Block] = [Code(code.rstrip(), "python")] if code else [Paragraph(_no_code(analysis))]
        sections.append(Section(f"{variant.name} in torch", blocks, level=3))
    if not sections:
        return []
    told = (
        "The best configuration of each variant, its weight decay in torch's units. Model, data and loss are yours; inputs "
        "prepared and augmented as in the sweep."
    )
    return [Section("Ready to paste", [Paragraph(told)]), *sections]


def _no_code(analysis: Analysis) -> str:
    unknown = analysis.spec.unknown
    if unknown:
        return f"The source of this sweep does not say {', '.join(unknown)}, so no code can be given."
    return "torch.optim has no such optimizer."


def separability(analyses: Sequence[Analysis], picture: Picture | None = None) -> list[Section]:
    """How separable the axes are: every number with its interval, the differences of pairs, the basin's shape."""
    metric = analyses[0].spec.metric
    rows, basins = [], []
    for name, _, variant, _ in each_variant(analyses):
        numbers, evidence = variant.separability, variant.separability.evidence
        worst = numerals.difference(metric, numbers.worst_regret) if math.isfinite(numbers.worst_regret) else "—"
        rows.append([
            name,
            VARIANTS[variant.landscape.variant].rule,
            numerals.interval(numbers.contour_slope, sign=True),
            numerals.interval(numbers.interaction_share),
            numerals.regret(numbers.independent_tuning_regret, metric),
            worst,
            variant.verdict.word,
        ])  # fmt: skip
        p_values = (evidence.surface, evidence.first, evidence.second, evidence.interaction)
        basins.append([
            name,
            numerals.interval(numbers.tilt, sign=True),
            numerals.interval(numbers.best_wd_trend, sign=True),
            numerals.interval(numbers.rank_agreement, sign=True),
            *(numerals.extent(extent) for extent in numbers.extents),
            numerals.regret(numbers.one_pass_regret, metric),
            ", ".join("—" if math.isnan(p) else f"{p:.3f}" for p in p_values),
        ])  # fmt: skip
    title = "How separable learning rate and weight decay are"
    columns = ["variant", "update", "contour slope", "interaction share", "regret, mean", "regret, worst", "verdict"]
    told = Points([(name, _verdict(each, metric), "") for name, _, each, _ in each_variant(analyses)])
    sections = [Section(title, [told, Table(title, columns, rows, wraps=(1,)), READ_SEPARABILITY])]
    pairs = [_difference(before, pair, metric) for before, pair in _each_pair(analyses)]
    if pairs:
        columns = ["pair", "contour slope", "interaction share", "regret", "verdict"]
        table = Table("Coupled less decoupled", columns, pairs)
        sections.append(Section("Coupled less decoupled", [table], level=3))
    columns = ["variant", "tilt", "trend of best wd", "rank agreement", "octaves of lr", "octaves of wd",
               "regret, one pass", "p: surface, lr, wd, interaction"]  # fmt: skip
    table = Table("The basin, and the evidence", columns, basins, wraps=(1, 2, 3, 7))
    blocks: list[Block] = [table, READ_BASIN, *([picture] if picture else [])]
    return [*sections, Section("The basin, and the evidence", blocks, level=3)]


def _difference(before: str, pair: Pair, metric: str) -> list[str]:
    return [
        f"{before}{pair.coupled} − {pair.decoupled}",
        numerals.interval(pair.contour_slope, sign=True),
        numerals.interval(pair.interaction_share, sign=True),
        numerals.regret(pair.independent_tuning_regret, metric, sign=True),
        pair.verdict.word,
    ]


def _further(analysis: Analysis, picture: Drawing) -> Section:
    table = [_scaling_table(analysis.scalings)] if picture.name == "scaling" else []
    return Section(picture.title, [*table, _shown(picture)])


def _scaling_table(scalings: Sequence[Scaling]) -> Table:
    rows = [
        [
            scaling.name,
            scaling.axis,
            scaling.symbol,
            numerals.optima(scaling),
            numerals.interval(scaling.exponent, sign=True),
            numerals.predictions(scaling),
        ]
        for scaling in scalings
    ]
    columns = ["variant", "axis", "best", "by its value", "exponent", "predicted"]
    return Table("How the best weight decay scales", columns, rows, wraps=(3, 5))
