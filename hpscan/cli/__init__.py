"""The command line: parse, call one library function, present. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from hpscan.cli import exchange, launching, refining, reproducing, results, serving
from hpscan.cli.output import one_line_errors

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Map a network's error over learning rate × weight decay, coupled and decoupled decay side by side.",
)
for command in (
    launching.launch,
    refining.refine,
    launching.status,
    results.analyze,
    results.figures,
    results.report,
    results.compare,
    exchange.export,
    reproducing.reproduce,
    launching.submit,
    launching.logs,
    launching.cancel,
    results.compact,
    serving.dashboard,
    results.specs,
    results.schedule,
):
    app.command()(command)
app.command("import")(exchange.import_)


def main() -> None:
    """Run the command line; what a user can cause ends in one line on stderr."""
    gc.set_threshold(
        100_000, 20, 20
    )  # the runs of a sweep, many and none of them garbage, are not worth looking through
    with one_line_errors():
        app()


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
