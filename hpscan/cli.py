"""The command line: parse, call one library function, present. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from hpscan.analysis import Analysis
    from hpscan.spec import Spec
    from hpscan.store import Store
    from hpscan.workloads import Data

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Map a network's error over learning rate × weight decay, coupled and decoupled decay side by side.",
)
console = Console(width=None if sys.stdout.isatty() else 120)  # a file has no 80 columns

SweepArg = Annotated[str, typer.Argument(help="Name of a sweep in the store.", show_default=False)]
StoreOpt = Annotated[
    str, typer.Option("--store", envvar="HPSCAN_STORE", help="Folder that holds the sweeps.", metavar="DIR")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_STORE = "results"

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


class _SweepIncompleteError(Exception):
    """The sweep ended with runs that failed or are missing."""


def main() -> None:
    """Run the command line; what a user can cause ends in one line on stderr."""
    with _one_line_errors():
        app()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    from hpscan.spec import SpecError
    from hpscan.store import StoreError
    from hpscan.workloads import WorkloadError

    try:
        yield
    except (SpecError, WorkloadError) as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except StoreError as error:
        _fail(str(error), EXIT_BAD_INPUT if error.bad_input else EXIT_FAILED)
    except OSError as error:
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", EXIT_FAILED)
    except _SweepIncompleteError as error:
        _fail(str(error), EXIT_FAILED)


def _fail(message: str, code: int) -> None:
    print(f"hpscan: {message}", file=sys.stderr)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        from hpscan import __version__

        print(f"hpscan {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def launch(
    source: Annotated[str, typer.Argument(metavar="SPEC", help="A YAML file, or the name of a shipped spec.")],
    store: StoreOpt = DEFAULT_STORE,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field: dotted key, YAML value. Repeatable."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train failed runs again, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run and what it would cost.")] = False,
) -> None:
    """Train the runs of SPEC that the store lacks; the coarse grid first."""
    from hpscan.spec import Spec

    spec = Spec.load(source, set_ or ()).resolved()
    if dry_run:
        _dry_run(spec, _store(store), retry_failed=retry_failed)
    else:
        _launch(spec, _store(store), store, retry_failed=retry_failed)


@app.command()
def schedule(
    source: Annotated[str, typer.Argument(metavar="SPEC", help="A YAML file, or the name of a shipped spec.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field: dotted key, YAML value.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path(),
) -> None:
    """Draw the schedule of SPEC: the multiplier of the learning rate, step by step."""
    from hpscan.figures import save_schedule
    from hpscan.spec import Spec

    for path in save_schedule(Spec.load(source, set_ or ()), out):
        print(_shown(path.absolute()))


@app.command()
def specs(as_json: JsonOpt = False) -> None:
    """List the specs that come with hpscan."""
    from hpscan.grid import runs
    from hpscan.spec import Spec, shipped_specs

    rows: list[dict[str, Any]] = []
    for name in shipped_specs():
        spec = Spec.load(name)
        rows.append({
            "name": name,
            "workload": spec.workload.name,
            "variants": list(spec.variants),
            "runs": len(runs(spec)),
            "steps": spec.steps,
            "notes": spec.notes.strip(),
        })  # fmt: skip
    if as_json:
        _print_json(rows)
        return
    table = _table("spec", "workload", "runs", "steps a run", "variants", "notes")
    for row in rows:
        table.add_row(row["name"], row["workload"], str(row["runs"]), str(row["steps"]),
                      ", ".join(row["variants"]), row["notes"])  # fmt: skip
    console.print(table)


@app.command()
def status(
    sweep: Annotated[str | None, typer.Argument(help="One sweep; all of them by default.")] = None,
    store: StoreOpt = DEFAULT_STORE,
    as_json: JsonOpt = False,
) -> None:
    """Show how far the sweeps of the store are."""
    from hpscan.analysis import status as status_of

    opened = _store(store)
    found = [status_of(opened, name) for name in ([sweep] if sweep else opened.sweeps())]
    if as_json:
        _print_json(found[0] if sweep else found)
        return
    if not found:
        console.print(f"No sweeps in {escape(str(opened.root))}. Start one: hpscan launch quickstart", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("sweep")
    for title in ("runs", *found[0]["states"]):
        table.add_column(title, justify="right")
    for row in found:
        table.add_row(row["sweep"], str(row["runs"]), *map(str, row["states"].values()))
        if sweep:
            for variant in row["variants"]:
                states = variant["states"].values()
                table.add_row(f"  {variant['variant']}", str(sum(states)), *map(str, states))
    console.print(table)
    if sweep:
        for text, count in opened.errors(sweep).items():
            console.print(f"failed, {count} runs: {escape(text)}", soft_wrap=True)


@app.command()
def analyze(sweep: SweepArg, store: StoreOpt = DEFAULT_STORE, as_json: JsonOpt = False) -> None:
    """Print each variant's best cell and how separable its learning rate and weight decay are."""
    from hpscan.analysis import analyze as analyze_sweep

    analysis = analyze_sweep(_store(store), sweep)
    if as_json:
        _print_json(analysis.to_json())
        return
    _print_analysis(analysis)


@app.command()
def figures(sweep: SweepArg, store: StoreOpt = DEFAULT_STORE) -> None:
    """Draw the heatmaps and the separability chart as PNG and SVG."""
    from hpscan.analysis import analyze as analyze_sweep
    from hpscan.figures import save_figures

    opened = _store(store)
    for path in save_figures(analyze_sweep(opened, sweep), opened.folder(sweep) / "figures"):
        print(_shown(path))


@app.command()
def report(
    sweep: SweepArg,
    store: StoreOpt = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to; by default in the store.")] = None,
) -> None:
    """Write report.md and a self-contained report.html."""
    from hpscan.analysis import analyze as analyze_sweep
    from hpscan.report import save_report

    opened = _store(store)
    for path in save_report(analyze_sweep(opened, sweep), out or opened.folder(sweep) / "report"):
        print(_shown(path))


def _store(path: str) -> Store:
    from hpscan.store import Store

    return Store(path)


def _shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def _dry_run(spec: Spec, store: Store, *, retry_failed: bool) -> None:
    from hpscan.estimate import estimate

    cost = estimate(spec, store, retry_failed=retry_failed)
    console.print(cost.text(), highlight=False, soft_wrap=True, markup=False)


def _launch(spec: Spec, store: Store, given_store: str, *, retry_failed: bool) -> None:
    from hpscan.analysis import analyze as analyze_sweep
    from hpscan.grid import packs, runs
    from hpscan.progress import Progress
    from hpscan.store import ended

    every = {run.run_id for run in runs(spec)}
    rows = store.runs(spec.name)
    stored = ended(rows, retry_failed=retry_failed)
    data = _data(spec)
    revised = store.save_spec(spec)
    plan = packs(spec, stored)
    waiting = sum(len(pack.runs) for pack in plan)
    where = _shown(store.folder(spec.name))
    console.print(
        f"{spec.name}: {len(every)} runs, {len(every) - waiting} in {where}, {waiting} to train in {len(plan)} packs",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    left_out = len(stored - every)
    if revised and left_out:
        console.print(
            f"The spec differs from the one launched before: {left_out} stored runs are not part of it and stay as they are.",
            soft_wrap=True,
        )
    option = "" if given_store == DEFAULT_STORE else f" --store {shlex.quote(given_store)}"
    lost: list[str] = []
    if plan:
        before, best = _stored(rows, spec, every & stored)
        progress = Progress(console, spec.name, spec.metric, spec.variants, len(every), before, best=best)
        from hpscan.launch import RayStartError
        from hpscan.launch import launch as launch_packs

        try:
            with progress:
                lost = launch_packs(spec, store, plan, data, progress.add)
        except RayStartError as error:
            _fail(str(error), EXIT_FAILED)
        except KeyboardInterrupt:
            _fail(
                "stopped; what is trained is stored. The same command goes on from here. "
                f"Look at it now: hpscan report {spec.name}{option}",
                EXIT_INTERRUPTED,
            )
    analysis = analyze_sweep(store, spec.name)
    _print_analysis(analysis)
    print(f"Next: hpscan report {spec.name}{option}")
    states = analysis.states
    if states["failed"] or states["missing"]:
        why = f" ({len(lost)} packs were lost: {lost[0]})" if lost else ""
        raise _SweepIncompleteError(
            f"{states['failed']} runs failed and {states['missing']} are missing{why}; see hpscan status {spec.name}{option}"
        )


def _stored(
    rows: pd.DataFrame, spec: Spec, run_ids: set[str]
) -> tuple[dict[str, int], dict[str, tuple[float, float, float]]]:
    """The states of runs that the store holds, and the best (metric, lr, wd) of each variant."""
    rows = rows[rows["run_id"].isin(run_ids)]
    best: dict[str, tuple[float, float, float]] = {}
    if spec.metric in rows:
        completed = rows[(rows["state"] == "completed") & rows[spec.metric].notna()]
        for row in completed.sort_values(spec.metric).drop_duplicates("variant").itertuples():
            best[str(row.variant)] = (float(getattr(row, spec.metric)), float(str(row.lr)), float(str(row.wd)))
    return {str(state): int(count) for state, count in rows["state"].value_counts().items()}, best


def _data(spec: Spec) -> Data | None:
    """The data of a sweep, read before anything is written; None where a trainable has its own."""
    from hpscan.workloads import Trainable, WorkloadError

    if isinstance(spec.workload, Trainable):
        return None
    data = spec.workload.load()
    if spec.training.label_smoothing or spec.training.snapshots:
        from hpscan.program import check_task

        check_task(spec.workload.task(), spec.training)
    if spec.metric not in {"val_loss", "val_error", "ensemble_val_loss", "ensemble_val_error"}:
        known = {f"val_{name}" for name in spec.workload.task().judges}
        if spec.metric.removeprefix("ensemble_") not in known:
            raise WorkloadError(f"metric: the workload reports {', '.join(sorted(known))}; got {spec.metric!r}")
    return data


def _print_analysis(analysis: Analysis) -> None:
    from hpscan import numerals

    metric = analysis.spec.metric
    best_cells = _table("variant", "best lr", "best wd", metric, "test error", "seeds")
    separable = _table("variant", "contour slope", "interaction", "regret", "verdict")
    for variant in analysis.variants:
        best, numbers = variant.best, variant.separability
        if best is None:
            best_cells.add_row(variant.name, *["—"] * 5)
        else:
            best_cells.add_row(
                variant.name,
                numerals.power(best.lr),
                numerals.power(best.wd) + (" (on the edge)" if best.on_edge else ""),
                numerals.metric_value(metric, best.means[metric], best.standard_errors[metric]),
                numerals.metric_value("test_error", best.means["test_error"], best.standard_errors["test_error"]),
                str(best.n_seeds),
            )
        separable.add_row(
            variant.name,
            numerals.interval(numbers.contour_slope, sign=True),
            numerals.interval(numbers.interaction_share),
            numerals.interval(numbers.independent_tuning_regret, 3),
            numbers.verdict,
        )
    console.print(best_cells, "", separable, highlight=False)
    absent = {
        state: count for state, count in analysis.states.items() if count and state not in {"completed", "diverged"}
    }
    if absent:
        counts = ", ".join(f"{count} {state}" for state, count in absent.items())
        console.print(f"Not the whole sweep: {counts} of {sum(analysis.states.values())} runs.", highlight=False)


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table
