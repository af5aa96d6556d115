"""The command line: parse, call one library function, present. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from hpscan.cli import diagnosing, exchange, launching, refining, reproducing, results, serving
from hpscan.cli.output import one_line_errors

__all__ = ["COMMANDS", "app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Map a network's error over learning rate × weight decay, coupled and decoupled decay side by side.",
)
COMMANDS: dict[str, tuple[tuple[Callable[..., None], str], ...]] = {
    "Train": (
        (launching.launch, "launch quickstart --set seeds=3"),
        (refining.refine, "refine quickstart --dry-run"),
        (launching.status, "status quickstart"),
        (reproducing.reproduce, "reproduce 3f9a52c1"),
    ),
    "Look at what came of it": (
        (results.analyze, "analyze quickstart --axes wd lr"),
        (results.figures, "figures quickstart --kind slices"),
        (results.report, "report quickstart --format html,csv"),
        (results.compare, "compare quickstart mine"),
        (serving.dashboard, "dashboard --port 8051"),
    ),
    "On a cluster": (
        (launching.submit, "submit spec.yaml --address http://HEAD:8265 --store s3://bucket/results"),
        (launching.logs, "logs mine --address http://HEAD:8265"),
        (launching.cancel, "cancel mine --address http://HEAD:8265"),
    ),
    "Results in and out": (
        (exchange.import_, "import csv wandb.csv --sweep mine --columns lr=learning_rate --variant adamw-torch"),
        (exchange.export, "export quickstart --format csv"),
        (results.compact, "compact quickstart"),
    ),
    "Before you begin": (
        (diagnosing.doctor, "doctor --store /shared/results"),
        (results.specs, "specs"),
        (results.schedule, "schedule quickstart --set schedule=wsd"),
    ),
}
"""Every command with an example, below the heading that ``hpscan --help`` has it under."""
for heading, commands in COMMANDS.items():
    for command, example in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel=heading, epilog=f"For example: hpscan {example}")(
            command
        )


def main() -> None:
    """Run the command line; what a user can cause ends in one line on stderr."""
    for stream in (sys.stdout, sys.stderr):  # of a locale without some characters, which are no reason to fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # the runs of a sweep, many and none of them garbage, are not worth looking through
    gc.set_threshold(100_000, 20, 20)
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
