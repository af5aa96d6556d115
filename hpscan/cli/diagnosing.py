"""The command that says what a machine lacks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from hpscan.cli.output import DEFAULT_STORE, EXIT_FAILED, JsonOpt, StoreOpt, console, print_json

__all__ = ["doctor"]

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    *,
    store: StoreOpt = DEFAULT_STORE,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="A Ray cluster to look at, as for launch; by default a Ray of our own.", metavar="RAY"
        ),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Check this machine, the store and, with --address, a cluster: what works, what does not, and what to do about it.

    Ends with 1 if something fails.
    """
    from hpscan.doctor import checks

    found = []
    for check in checks(store, address):
        found.append(check)
        if not as_json:
            colour = COLOURS[check.state]
            console.print(
                f"[{colour}]{check.state:<4}[/]  {escape(check.name)}: {escape(check.found)}",
                highlight=False,
                soft_wrap=True,
            )
            if check.remedy:
                console.print(f"      {escape(check.remedy)}", highlight=False, soft_wrap=True)
    fails = any(check.state == "fail" for check in found)
    if as_json:
        print_json({"ok": not fails, "checks": [asdict(check) for check in found]})
    if fails:
        raise typer.Exit(EXIT_FAILED)
