"""The command that trains a stored run once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hpscan.cli import completing
from hpscan.cli.output import DEFAULT_STORE, EXIT_FAILED, JsonOpt, StoreOpt, console, opened, print_json, table_of

if TYPE_CHECKING:
    from hpscan.reproduce import Reproduction, StoredRun

__all__ = ["reproduce"]


def reproduce(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN_ID", help="A run_id of the store, or its first digits.", show_default=False)
    ],
    *,
    store: StoreOpt = DEFAULT_STORE,
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", help="Look in this sweep; in all by default.", autocompletion=completing.sweeps),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Train one stored run again, here, and say whether its metrics come back; nothing is stored."""
    from hpscan.reproduce import find_run
    from hpscan.reproduce import reproduce as train_again

    stored = find_run(opened(store), run_id.lower(), sweep)
    if not as_json:
        _tell(stored)
    found = train_again(stored)
    if as_json:
        print_json(found.summary())
    else:
        _show(found)
    if not found.came_back:
        raise typer.Exit(EXIT_FAILED)


def _tell(stored: StoredRun) -> None:
    from hpscan.numerals import quantity

    run = stored.run
    cell = f"{run.cell.variant}, lr {quantity(run.cell.lr)}, wd {quantity(run.cell.wd)}, seed {run.seed}"
    steps = stored.until or run.recipe.steps
    console.print(f"{escape(stored.sweep)}: run {run.run_id}, {cell}, {steps} steps", highlight=False, soft_wrap=True)


def _show(found: Reproduction) -> None:
    from hpscan.numerals import minus

    table = table_of("", "stored", "now", "difference")
    table.add_row("state", found.state, found.result.state)
    table.add_row("steps done", str(found.steps_done), str(found.result.steps_done))
    for metric in found.metrics:
        now, difference = "", ""
        if metric.now is not None and metric.difference is not None:
            now, difference = f"{metric.now:.9g}", minus(f"{metric.difference:.1e}" if metric.difference else "0")
        table.add_row(escape(metric.metric), f"{metric.stored:.9g}", now, difference)
    console.print(table)
    for when, error in (("stored", found.error), ("now", found.result.error)):
        if error:
            console.print(f"error {when}: {escape(error)}", highlight=False, soft_wrap=True)
    for name, (stored, now) in found.differs.items():
        text = f"{name.replace('_', ' ')}: {escape(str(stored))} stored, {escape(str(now))} now"
        console.print(text, highlight=False, soft_wrap=True)
    console.print(escape(f"run {found.stored.run.run_id} {found.verdict()}"), highlight=False, soft_wrap=True)
    if not found.came_back and "pack_runs" in found.differs:
        console.print(
            f"It was trained uncompiled in a pack of {found.differs['pack_runs'][0]} and now alone: such a run rounds by how many "
            "are beside it, and long training can make any difference of that. Trained with resources: {strategy: loop}, "
            "a run comes back to the last digit.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
