"""What the commands have in common: options, tables, errors in one line."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from hpscan.cli import completing
from hpscan.errors import ClusterError, SweepIncompleteError
from hpscan.progress import shown

if TYPE_CHECKING:
    from hpscan.store import Store

__all__ = [
    "DEFAULT_STORE",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "JsonOpt",
    "SetOpt",
    "SpecArg",
    "StoreOpt",
    "SweepArg",
    "console",
    "fail",
    "folder_for",
    "one_line_errors",
    "opened",
    "print_json",
    "shown",
    "store_option",
    "table_of",
]

console = Console(width=None if sys.stdout.isatty() else 120)  # a file has no 80 columns

DEFAULT_STORE = "results"
SweepArg = Annotated[
    str,
    typer.Argument(help="Name of a sweep in the store.", show_default=False, autocompletion=completing.sweeps),
]
SpecArg = Annotated[
    str,
    typer.Argument(metavar="SPEC", help="A YAML file, or the name of a shipped spec.", autocompletion=completing.specs),
]
StoreOpt = Annotated[
    str,
    typer.Option("--store", envvar="HPSCAN_STORE", help="Folder or URI that holds the sweeps.", metavar="STORE"),
]
SetOpt = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field: dotted key, YAML value. Repeatable."),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON.")]

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line on stderr for whatever a user can cause."""
    try:
        yield
    except (ClusterError, SweepIncompleteError) as error:
        fail(str(error), EXIT_FAILED)
    except OSError as error:
        fail(f"{error.filename or 'output'}: {error.strerror or error}", EXIT_FAILED)
    except Exception as error:
        from hpscan.spec import SpecError
        from hpscan.store import StoreError
        from hpscan.workloads import WorkloadError

        if isinstance(error, StoreError):
            fail(str(error), EXIT_BAD_INPUT if error.bad_input else EXIT_FAILED)
        if isinstance(error, (SpecError, WorkloadError)):
            fail(str(error), EXIT_BAD_INPUT)
        raise


def fail(message: str, code: int) -> NoReturn:
    """Say why and end the process."""
    print(f"hpscan: {message}", file=sys.stderr)
    sys.exit(code)


def opened(path: str) -> Store:
    """The store; what of it cannot be read is told on stderr and left out."""
    from hpscan.store import Store

    return Store(path, on_broken=lambda line: print(f"hpscan: {line}", file=sys.stderr))


def store_option(path: str) -> str:
    """What of a command line to suggest names the store: nothing for the one that is the default."""
    return "" if path == DEFAULT_STORE else f" --store {shlex.quote(path)}"


def folder_for(kind: str, out: Path | None, store: Store, sweep: str) -> Path:
    """Where a sweep's figures or report go: where it was asked for, else beside its results."""
    if out is not None:
        return out
    return store.folder(sweep) / kind


def print_json(value: Any) -> None:
    """Print JSON for programs."""
    print(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def table_of(*titles: str) -> Table:
    """An empty table without lines."""
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table
