"""Commands that take results in from other tools, and hand them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hpscan.cli import completing
from hpscan.cli.output import (
    DEFAULT_STORE,
    SetOpt,
    StoreOpt,
    SweepArg,
    console,
    folder_for,
    opened,
    shown,
    store_option,
)

if TYPE_CHECKING:
    from hpscan.importing import ImportSummary

__all__ = ["export", "import_"]

FORMATS = {"csv": "runs.csv", "optuna": "optuna.log", "yaml": "best_config.yaml", "json": "best_config.json"}
SCATTERED = 0.25
"""Share of a grid's cells below which trials are points, hardly a grid."""


def import_(
    kind: Annotated[str, typer.Argument(metavar="ray|optuna|csv", help="What SOURCE is.", show_default=False)],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A Ray Tune experiment's folder; an Optuna database or journal; a CSV such as W&B exports.",
            show_default=False,
        ),
    ],
    *,
    sweep: Annotated[str, typer.Option("--sweep", help="Name of the new sweep.", metavar="NAME", show_default=False)],
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns",
            metavar="OURS=THEIRS,…",
            help="lr, wd, seed, variant, val_loss and so on by the source's names; also 1-accuracy, 0.01*error. Repeatable.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="COLUMN=VALUE",
            help="Take the trials of which a column of the source holds this, as in study=mine. Repeatable.",
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="[NAME=]VARIANT",
            help="The variant of all trials, or of those so named. Repeatable.",
            autocompletion=completing.variants,
        ),
    ] = None,
    set_: SetOpt = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Relative difference up to which two lr, or two wd, are one.", min=0.0)
    ] = 0.01,
    store: StoreOpt = DEFAULT_STORE,
) -> None:
    """Take in results of another tool as a sweep, which analyze, figures, report and export read like any other."""
    from hpscan.importing import import_sweep
    from hpscan.sources import SOURCES
    from hpscan.spec import SpecError

    if kind not in SOURCES:
        raise SpecError(f"import {kind}: must be {', '.join(SOURCES)}")
    mapped = {}
    for text in (pair for given in columns or () for pair in given.split(",")):
        ours, equals, theirs = text.partition("=")
        if not (ours.strip() and equals and theirs.strip()):
            raise SpecError(f"--columns: must be OURS=THEIRS, as in lr=learning_rate; got {text!r}")
        mapped[ours.strip()] = theirs.strip()
    summary = import_sweep(
        opened(store), sweep, kind, source,
        columns=mapped, only=only or (), variants=variant or (), overrides=set_ or (), tolerance=tolerance,
    )  # fmt: skip
    _tell(summary, source)
    print(f"Next: hpscan report {sweep}{store_option(store)}")


def _tell(summary: ImportSummary, source: str) -> None:
    from hpscan.grid import panels
    from hpscan.variants import VARIANTS

    def say(text: str) -> None:
        console.print(escape(text), highlight=False, soft_wrap=True)

    spec = summary.spec
    kept = sum(map(sum, (states.values() for states in summary.runs.values())))
    say(f"{spec.name}: {kept} runs from {summary.n_trials} trials of {source}; compared by {spec.metric}")
    for variant, states in summary.runs.items():
        own = [panel for panel in panels(spec) if panel.variant == variant]
        cells = sum(len(panel.lr) * len(panel.wd) for panel in own)
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        say(
            f"  {variant}: {told}; {len(own[0].lr)} lr × {len(own[0].wd)} wd"
            + (f", {len(own)} landscapes" if len(own) > 1 else "")
            + f"; read as {VARIANTS[variant].rule}"
        )
        if states.total() < SCATTERED * cells:
            say(
                f"  {variant}: only {states.total()} runs for {cells} cells: the trials lie scattered, not on a grid; "
                "a landscape needs one (--tolerance merges neighbours)"
            )
    for axis, (written, meant) in summary.spellings.items():
        if written > meant:
            say(f"  {axis}: {written} values written, {meant} meant")
    if summary.seeds_counted and len(spec.seeds) > 1:
        say("  no column for seeds: a cell's trials are taken as seeds 0, 1, …")
    if summary.lost:
        reasons = ", ".join(f"{count} {why}" for why, count in summary.lost.items())
        say(f"  left out: {reasons}")
    if spec.unknown:
        say(
            f"  not known: {', '.join(spec.unknown)}; tell with --set, as in --set budget.steps=1000 --set schedule=cosine"
        )


def export(
    sweep: SweepArg,
    *,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="All runs as csv or optuna; the best configurations, as they are in the report, as yaml or json.",
            metavar="csv|optuna|yaml|json",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; by default in the store.")] = None,
    store: StoreOpt = DEFAULT_STORE,
) -> None:
    """Write a sweep for other tools."""
    from hpscan import exporting
    from hpscan.configs import configs_as
    from hpscan.files import write_whole
    from hpscan.spec import SpecError
    from hpscan.sweep import open_sweep

    if format_ not in FORMATS:
        raise SpecError(f"--format {format_}: must be {', '.join(FORMATS)}")
    if format_ == "optuna" and out is not None and out.exists():
        raise SpecError(f"--out {out}: exists, and may hold other studies; give a new file")
    source = opened(store)
    opened_sweep = open_sweep(source, sweep)
    path = out if out is not None else folder_for("export", None, source, sweep) / FORMATS[format_]
    path.parent.mkdir(parents=True, exist_ok=True)
    if format_ in {"yaml", "json"}:
        write_whole(path, configs_as(format_, opened_sweep.spec, opened_sweep.landscapes()).encode())
    else:
        {"csv": exporting.to_csv, "optuna": exporting.to_optuna}[format_](opened_sweep, path)
    print(shown(path))
