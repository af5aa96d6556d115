"""Commands that show what a store holds, and what hpscan ships."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from hpscan.cli import completing
from hpscan.cli.output import (
    DEFAULT_STORE,
    JsonOpt,
    SetOpt,
    SpecArg,
    StoreOpt,
    SweepArg,
    console,
    folder_for,
    opened,
    print_json,
    shown,
    table_of,
)

if TYPE_CHECKING:
    from hpscan.analysis import Analysis

__all__ = ["analyze", "compact", "compare", "figures", "print_analysis", "report", "schedule", "specs"]

MetricOpt = Annotated[
    str | None,
    typer.Option("--metric", help="Show this in place of the spec's metric: a metric or diagnostic of the runs."),
]
OutOpt = Annotated[Path | None, typer.Option("--out", help="Folder to write to; by default in the store.")]


def schedule(
    source: SpecArg,
    set_: SetOpt = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path(),
) -> None:
    """Draw the schedule of SPEC: the multiplier of the learning rate, step by step."""
    from hpscan.figures import save_schedule
    from hpscan.spec import Spec

    for path in save_schedule(Spec.load(source, set_ or ()), out):
        print(shown(path.absolute()))


def specs(as_json: JsonOpt = False) -> None:
    """List the specs that come with hpscan."""
    from hpscan.grid import runs
    from hpscan.spec import Spec
    from hpscan.spec_text import shipped_specs

    rows: list[dict[str, Any]] = []
    for name in shipped_specs():
        spec = Spec.load(name)
        rows.append({
            "name": name,
            "workload": spec.workload.name,
            "variants": list(spec.variants),
            "runs": len(runs(spec)),
            "steps": sorted({spec.at(point).steps for point in spec.points()}),
            "notes": spec.notes.strip(),
        })  # fmt: skip
    if as_json:
        print_json(rows)
        return
    for row in rows:
        steps = ", ".join(map(str, row["steps"]))
        title = f"{row['name']}: {row['runs']} runs of {steps} steps on {row['workload']}; {', '.join(row['variants'])}"
        console.print(Text(title), Padding(Text(row["notes"]), (0, 0, 0, 2), expand=False), "")


def analyze(
    sweep: SweepArg,
    *,
    store: StoreOpt = DEFAULT_STORE,
    as_json: JsonOpt = False,
    axes: Annotated[
        tuple[str, str] | None,
        typer.Option("--axes", help="Two axes to lay the landscape out over.", show_default=False),
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", metavar="AXIS=VALUE", help="Hold an axis at a value. Repeatable.")
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option("--over", metavar="AXIS=best|mean", help="Take an axis together. Repeatable."),
    ] = None,
    metric: MetricOpt = None,
) -> None:
    """Print each variant's best cell and how separable its learning rate and weight decay are."""
    from hpscan.analysis import analyze as analyze_sweep

    held = {name: _number(f"--at {name}", value) for name, value in _pairs("--at", at).items()}
    analysis = analyze_sweep(opened(store), sweep, axes, held, _pairs("--over", over), metric=metric)
    if as_json:
        print_json(analysis.to_json())
        return
    print_analysis(analysis)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    from hpscan.spec import SpecError

    pairs = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise SpecError(f"{option}: must be AXIS=VALUE; got {text!r}")
        pairs[name] = value
    return pairs


def _number(option: str, text: str) -> float:
    from hpscan.spec import SpecError

    try:
        return float(text)
    except ValueError:
        raise SpecError(f"{option}: must be a number; got {text!r}") from None


def figures(
    sweeps: Annotated[
        list[str],
        typer.Argument(metavar="SWEEP...", help="Names of sweeps in the store.", autocompletion=completing.sweeps),
    ],
    *,
    store: StoreOpt = DEFAULT_STORE,
    out: OutOpt = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="Draw this one only: heatmaps, separability, conventions, scaling, budgets, collapse, slices, ridge, curves, animation, or "
            "after the paper's figures fig1, fig2, fig3, fig4; fig1 and fig4 compare several sweeps.",
        ),
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option("--convention", help="Draw the decoupled variants in these units only.", metavar="torch|paper"),
    ] = None,
    metric: MetricOpt = None,
) -> None:
    """Draw the heatmaps, the separability chart and what else each sweep calls for, as PNG, SVG and PDF."""
    from hpscan.analysis import analyze as analyze_sweep
    from hpscan.gallery import COMPARED, check_kind, save_gallery, save_in_convention, save_kind, save_metric
    from hpscan.spec import SpecError
    from hpscan.variants import Decay

    if convention not in {None, "torch", "paper"}:
        raise SpecError(f"--convention {convention}: must be torch or paper")
    if convention and kind not in {None, "heatmaps"}:
        raise SpecError(f"--convention {convention}: re-draws heatmaps; leave out --kind {kind}")
    if kind:
        check_kind(kind)
    source = opened(store)
    analyses = [analyze_sweep(source, sweep, metric=metric) for sweep in sweeps]
    if out is not None and len(sweeps) > 1 and kind not in COMPARED:
        folders = [out / sweep for sweep in sweeps]
    else:
        folders = [folder_for("figures", out, source, sweep) for sweep in sweeps]
    if kind and not convention:
        drawn = save_kind(kind, analyses, folders, metric=metric)
    else:
        drawn = []
        for analysis, folder in zip(analyses, folders, strict=True):
            if convention:
                drawn += save_in_convention(analysis, Decay(convention), folder, metric=metric)
            else:
                drawn += save_gallery(analysis, folder) if metric is None else save_metric(analysis, folder)
    for path in drawn:
        print(shown(path))
    if kind == "animation" and not any(path.suffix == ".mp4" for path in drawn):
        print("hpscan: no animation.mp4, which needs ffmpeg on the path", file=sys.stderr)


def report(
    sweep: SweepArg,
    *,
    store: StoreOpt = DEFAULT_STORE,
    out: OutOpt = None,
    format_: Annotated[
        list[str] | None,
        typer.Option("--format", help="Only these, with commas between; all of them by default.",
                     metavar="html,md,pdf,yaml,json,csv"),
    ] = None,
) -> None:  # fmt: skip
    """Write the report as HTML, Markdown and PDF; the best configurations as YAML and JSON; the landscape as CSV."""
    from hpscan.analysis import analyze as analyze_sweep
    from hpscan.report import FORMATS, check_formats, save_report

    formats = check_formats(format_) if format_ else _all_but_absent(FORMATS)
    source = opened(store)
    folder = folder_for("report", out, source, sweep)
    for path in save_report(analyze_sweep(source, sweep), folder, formats):
        print(shown(path))


def compare(
    sweeps: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP SWEEP...", help="Names of sweeps in the store.", autocompletion=completing.sweeps
        ),
    ],
    *,
    store: StoreOpt = DEFAULT_STORE,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; by default beside the first sweep's results.")
    ] = None,
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="Only these, with commas between; all of them by default.", metavar="html,md,pdf"
        ),
    ] = None,
    metric: MetricOpt = None,
) -> None:
    """Write one report across several sweeps: what differs, their landscapes on one scale, what carries over."""
    from hpscan.analysis import analyze as analyze_sweep
    from hpscan.report import PAGES, check_formats, save_comparison

    formats = check_formats(format_, tuple(PAGES)) if format_ else _all_but_absent(tuple(PAGES))
    source = opened(store)
    analyses = [analyze_sweep(source, sweep, metric=metric) for sweep in sweeps]
    folder = out if out is not None else folder_for("compare", None, source, sweeps[0]) / "-".join(sweeps[1:])
    for path in save_comparison(analyses, folder, formats):
        print(shown(path))


def _all_but_absent(formats: Sequence[str]) -> list[str]:
    """The formats that can be written here; says which one cannot, and what would mend it."""
    if find_spec("typst") is not None:
        return list(formats)
    print("hpscan: no PDF, which needs Typst: pip install 'hpscan[report]'", file=sys.stderr)
    return [name for name in formats if name != "pdf"]


def compact(sweep: SweepArg, store: StoreOpt = DEFAULT_STORE) -> None:
    """Merge a sweep's files, one a pack, into one; safe beside readers and while it is being launched."""
    source = opened(store)
    source.spec(sweep)  # or a slip in the name would look like a sweep without files
    done = source.compact(sweep)
    print(f"{sweep}: {done.files_before} files, now {done.files_after}")


def print_analysis(analysis: Analysis) -> None:
    """Print the best cells and the separability of each variant, what it means, and what is missing."""
    from hpscan import numerals
    from hpscan.landscape import is_chosen_by

    metric = analysis.spec.metric
    first, second = analysis.variants[0].landscape.axes
    if not is_chosen_by(metric):
        ways = table_of("variant", f"contour slope of {metric}", "interaction")
        for variant in analysis.variants:
            slope, share = variant.separability.contour_slope, variant.separability.interaction_share
            ways.add_row(variant.name, numerals.interval(slope, sign=True), numerals.interval(share))
        console.print(ways, highlight=False)
        return
    tested = analysis.tested
    best_cells = table_of("variant", f"best {first}", f"best {second}", metric, numerals.metric_name(tested), "seeds")
    separable = table_of("variant", "contour slope", "interaction", "regret", "tilt", "verdict")
    for variant in analysis.variants:
        best, numbers, best_metric = variant.best, variant.separability, variant.best_metric
        if best is None or best_metric is None:
            best_cells.add_row(variant.name, *["—"] * 5)
        else:
            best_cells.add_row(
                variant.name,
                numerals.power(best.lr),
                numerals.power(best.wd) + (" (on the edge)" if best.on_edge else ""),
                numerals.metric_interval(metric, best_metric),
                numerals.metric_value(tested, best.means[tested], best.standard_errors[tested]),
                str(best.n_seeds),
            )
        separable.add_row(
            variant.name,
            numerals.interval(numbers.contour_slope, sign=True),
            numerals.interval(numbers.interaction_share),
            numerals.regret(numbers.independent_tuning_regret, metric),
            numerals.interval(numbers.tilt, sign=True),
            variant.verdict.word,
        )
    console.print(best_cells, "", separable, "", highlight=False)
    for variant in analysis.variants:
        console.print(f"{variant.name}: {variant.verdict.sentence}", highlight=False)
    for pair in analysis.pairs:
        console.print(f"{pair.coupled} against {pair.decoupled}: {pair.verdict.sentence}", highlight=False)
    if analysis.scalings:
        scaling = table_of("variant", "axis", "best", "by its value", "exponent", "predicted")
        for each in analysis.scalings:
            scaling.add_row(
                each.name,
                each.axis,
                each.symbol,
                numerals.optima(each),
                numerals.interval(each.exponent, sign=True),
                numerals.predictions(each),
            )
        console.print("", scaling, highlight=False)
    _print_absent(analysis)


def _print_absent(analysis: Analysis) -> None:
    """Print what of the sweep has no result."""
    absent = {
        state: count for state, count in analysis.states.items() if count and state not in {"completed", "diverged"}
    }
    if absent:
        counts = ", ".join(f"{count} {state}" for state, count in absent.items())
        told = f"Not the whole sweep: {counts} of {sum(analysis.states.values())} runs."
        if analysis.spec.adaptive:
            told = f"An adaptive sweep: {counts} of {sum(analysis.states.values())} runs; no number uses predictions."
        console.print(told, highlight=False)
    if analysis.states["stopped"]:
        from hpscan.verdicts import STOPPED

        console.print(f"Stopped runs: {STOPPED}.", highlight=False)
