"""Commands that start, watch and end sweeps."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hpscan.cli import completing
from hpscan.cli.output import (
    DEFAULT_STORE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    JsonOpt,
    SetOpt,
    SpecArg,
    StoreOpt,
    SweepArg,
    console,
    fail,
    opened,
    print_json,
    store_option,
    table_of,
)
from hpscan.cli.results import print_analysis
from hpscan.errors import SweepIncompleteError

if TYPE_CHECKING:
    from hpscan.jobs import Job
    from hpscan.spec import Spec

__all__ = ["cancel", "launch", "launch_spec", "logs", "status", "submit"]

RetryOpt = Annotated[bool, typer.Option("--retry-failed", help="Train failed runs again, too.")]
ReviseOpt = Annotated[
    bool, typer.Option("--revise", help="Go on under the same name though the spec makes every run another one.")
]
JobsOpt = Annotated[
    str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's job server.", metavar="URL")
]
MOST_ERRORS = 3
"""Different errors that a launch tells at its end; `hpscan status` tells all."""
DEFAULT_JOBS = "http://127.0.0.1:8265"


def launch(
    source: SpecArg,
    *,
    store: StoreOpt = DEFAULT_STORE,
    set_: SetOpt = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="A Ray cluster: `auto`, HOST:PORT, or as a client ray://HOST:PORT; by default a Ray of our own.",
            metavar="RAY",
        ),
    ] = None,
    retry_failed: RetryOpt = False,
    revise: ReviseOpt = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run and what it would cost.")] = False,
) -> None:
    """Train the runs of SPEC that the store lacks; the coarse grid first."""
    from hpscan.launcher import check_cluster, check_workload
    from hpscan.spec import Spec

    spec = Spec.load(source, set_ or ()).resolved()
    check_cluster(address)
    if dry_run:
        from hpscan.estimate import estimate

        check_workload(spec, address)
        cost = estimate(spec, opened(store), retry_failed=retry_failed, revise=revise)
        console.print(cost.text(), highlight=False, soft_wrap=True, markup=False)
        return
    launch_spec(spec, store=store, address=address, retry_failed=retry_failed, revise=revise)


def launch_spec(
    spec: Spec, *, store: str, address: str | None = None, retry_failed: bool = False, revise: bool = False
) -> None:
    """Train the runs of a resolved spec that the store lacks, and print what came of them."""
    from hpscan.analysis import analyze as analyze_sweep
    from hpscan.analysis import status as sweep_status
    from hpscan.launcher import train_missing

    option, source = store_option(store), opened(store)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: schedulers and containers end a process so

    def told() -> dict[str, int]:
        analysis = analyze_sweep(source, spec.name)
        print_analysis(analysis)
        if analysis.states["failed"]:
            _print_errors(sweep_status(source, spec.name)["errors"], most=MOST_ERRORS)
        if analysis.states["completed"]:
            print(f"Next: hpscan report {spec.name}{option}")
        return analysis.states

    try:
        train_missing(spec, source, console, told, address=address, retry_failed=retry_failed, revise=revise)
    except SweepIncompleteError as error:
        raise SweepIncompleteError(f"{error}; see hpscan status {spec.name}{option}") from None
    except KeyboardInterrupt:
        fail(
            "stopped; what is trained is stored. The same command goes on from here. "
            f"Look at it now: hpscan report {spec.name}{option}",
            EXIT_INTERRUPTED,
        )


def submit(
    source: SpecArg,
    *,
    store: StoreOpt = DEFAULT_STORE,
    set_: SetOpt = None,
    address: JobsOpt = DEFAULT_JOBS,
    retry_failed: RetryOpt = False,
    revise: ReviseOpt = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show its output until it ends.")] = True,
) -> None:
    """Launch SPEC as a job of a Ray cluster, with a copy of this folder; it goes on when this terminal is closed."""
    from hpscan import jobs
    from hpscan.spec import Spec, SpecError
    from hpscan.spec_text import shipped_specs

    spec = Spec.load(source, set_ or ())
    if "://" not in store and not Path(store).is_absolute():
        raise SpecError(
            f"--store {store}: the job runs on the cluster; give a path that all its nodes share (/…) or a URI (s3://…)"
        )
    path = Path(source)
    if path.is_file() and source not in shipped_specs():
        if not path.resolve().is_relative_to(Path.cwd()):
            raise SpecError(f"spec {source!r}: must be in this folder or below, which is copied to the cluster")
        source = str(path.resolve().relative_to(Path.cwd()))
    options = ["--store", store, *(word for value in set_ or () for word in ("--set", value))]
    options += ["--retry-failed"] * retry_failed + ["--revise"] * revise
    job = jobs.submit(address, spec.name, source, options, Path.cwd())
    print(f"{spec.name}: job {job.job_id}; follow it: hpscan logs {spec.name} --address {address}")
    if wait:
        _follow(address, job)


def logs(
    sweep: SweepArg,
    address: JobsOpt = DEFAULT_JOBS,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on until the job ends.")] = True,
) -> None:
    """Show what the job of a submitted sweep prints."""
    from hpscan import jobs

    job = jobs.latest(address, sweep)
    if follow and not job.ended:
        _follow(address, job)
    else:
        print(jobs.logs(address, job), end="")


def _follow(address: str, job: Job) -> None:
    from hpscan import jobs

    try:
        ended = jobs.follow(address, job, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        print(f"\n{job.sweep}: the job goes on; hpscan logs {job.sweep} shows it, hpscan cancel {job.sweep} ends it")
        return
    if ended.status != "SUCCEEDED":
        fail(f"{job.sweep}: job {ended.job_id} {ended.status.lower()}", EXIT_FAILED)


def cancel(sweep: SweepArg, address: JobsOpt = DEFAULT_JOBS) -> None:
    """End the job of a submitted sweep; what it has trained stays."""
    from hpscan import jobs

    job = jobs.cancel(address, sweep)
    print(f"{sweep}: job {job.job_id} is told to stop; the same submit goes on from what is stored")


def status(
    sweep: Annotated[
        str | None, typer.Argument(help="One sweep; all of them by default.", autocompletion=completing.sweeps)
    ] = None,
    store: StoreOpt = DEFAULT_STORE,
    address: Annotated[
        str | None, typer.Option("--address", help="Ask this job server for the sweep's job, too.", metavar="URL")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Show how far the sweeps of the store are."""
    from hpscan.analysis import status as sweep_status
    from hpscan.store import StoreError

    source = opened(store)
    found, broken = [], 0
    for name in [sweep] if sweep else source.sweeps():
        try:
            found.append(sweep_status(source, name))
        except StoreError as error:
            if sweep:
                raise
            broken += 1
            print(f"hpscan: {error}", file=sys.stderr)
    if as_json:
        print_json(found[0] if sweep else found)
    elif found:
        _print_status(found, of_one=sweep is not None)
    elif not broken:
        console.print(
            f"No sweeps in {escape(source.files.shown())}. Start one: hpscan launch quickstart", soft_wrap=True
        )
    if broken:
        sys.exit(EXIT_FAILED)
    if sweep and address and not as_json:
        from hpscan import jobs

        job = jobs.latest(address, sweep)
        console.print(f"job {job.job_id}: {job.status.lower()} {escape(job.message)}".rstrip(), soft_wrap=True)


def _print_status(found: list[dict[str, Any]], *, of_one: bool) -> None:
    """Print the runs of each sweep by state; of one alone by variant, too, and what failed runs raised."""
    table = table_of("sweep")
    for title in ("runs", *found[0]["states"]):
        table.add_column(title, justify="right", overflow="fold")
    for row in found:
        table.add_row(row["sweep"], str(row["runs"]), *map(str, row["states"].values()))
        if of_one:
            for variant in row["variants"]:
                states = variant["states"].values()
                table.add_row(f"  {variant['variant']}", str(sum(states)), *map(str, states))
    console.print(table)
    if of_one:
        _print_errors(found[0]["errors"])


def _print_errors(errors: dict[str, int], most: int | None = None) -> None:
    """What failed runs raised, in how many of them; of many errors the first."""
    for text, count in list(errors.items())[:most]:
        console.print(f"failed, {count} run{'s' * (count > 1)}: {escape(text)}", highlight=False, soft_wrap=True)
    if most is not None and len(errors) > most:
        print(f"and {len(errors) - most} other error{'s' * (len(errors) - most > 1)}")
