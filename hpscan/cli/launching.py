"""Commands that start, watch and end sweeps."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

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
    SweepIncompleteError,
    console,
    fail,
    opened,
    print_json,
    shown,
    store_option,
)
from hpscan.cli.results import print_analysis

if TYPE_CHECKING:
    import pandas as pd

    from hpscan.cluster import Slots
    from hpscan.grid import Pack
    from hpscan.jobs import Job
    from hpscan.spec import Spec
    from hpscan.store import Store
    from hpscan.workloads import Data

__all__ = ["cancel", "check_cluster", "launch", "launch_spec", "logs", "status", "submit"]

RetryOpt = Annotated[bool, typer.Option("--retry-failed", help="Train failed runs again, too.")]
ReviseOpt = Annotated[
    bool, typer.Option("--revise", help="Go on under the same name though the spec makes every run another one.")
]
JobsOpt = Annotated[
    str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's job server.", metavar="URL")
]
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
    from hpscan.spec import Spec

    spec = Spec.load(source, set_ or ()).resolved()
    check_cluster(address)
    if dry_run:
        from hpscan.estimate import estimate

        cost = estimate(spec, opened(store), retry_failed=retry_failed)
        console.print(cost.text(), highlight=False, soft_wrap=True, markup=False)
        return
    launch_spec(spec, store=store, address=address, retry_failed=retry_failed, revise=revise)


def check_cluster(address: str | None) -> None:
    """Refuse what cannot be a cluster's address, before anything is shown or written."""
    if address is not None:  # or Ray need not be imported yet
        from hpscan.cluster import check_address

        check_address(address)


def launch_spec(
    spec: Spec, *, store: str, address: str | None = None, retry_failed: bool = False, revise: bool = False
) -> None:
    """Train the runs of a resolved spec that the store lacks, and print what came of them."""
    from hpscan.lease import held

    data = _data(spec)  # before anything is written
    held_store = opened(store)
    with held(held_store, spec.name) as lease:
        _launch(
            spec, data, held_store, given_store=store, address=address, lease_lost=lambda: lease.lost,
            retry_failed=retry_failed, revise=revise,
        )  # fmt: skip


def _launch(
    spec: Spec,
    data: Data | None,
    store: Store,
    *,
    given_store: str,
    address: str | None,
    lease_lost: Callable[[], bool],
    retry_failed: bool,
    revise: bool,
) -> None:
    from hpscan.analysis import analyze as analyze_sweep

    option = store_option(given_store)
    lost = _train(
        spec, data, store, option, address=address, lease_lost=lease_lost, retry_failed=retry_failed, revise=revise
    )
    gc.collect()  # Ray's cycles hold on to the plan of 100,000 runs, and the analysis needs as much
    if lease_lost():
        fail(f"{spec.name}: stopped, another launch has taken the sweep over; what is trained is stored", EXIT_FAILED)
    analysis = analyze_sweep(store, spec.name)
    states = analysis.states
    missing = bool(lost) if spec.adaptive else states["missing"]  # an adaptive sweep leaves cells out
    store.tidy(spec.name, complete=not missing)
    print_analysis(analysis)
    print(f"Next: hpscan report {spec.name}{option}")
    if states["failed"] or missing:
        why = f" ({len(lost)} packs were lost: {lost[0]})" if lost else ""
        raise SweepIncompleteError(
            f"{states['failed']} runs failed and {states['missing']} are missing{why}; see hpscan status {spec.name}{option}"
        )


def _train(
    spec: Spec,
    data: Data | None,
    store: Store,
    option: str,
    *,
    address: str | None,
    lease_lost: Callable[[], bool],
    retry_failed: bool,
    revise: bool,
) -> list[str]:
    """Train what the store lacks and say how it goes; one line for each pack that was lost."""
    from hpscan.grid import runs
    from hpscan.progress import Progress
    from hpscan.rungs import next_round

    every = {run.run_id for run in runs(spec)}
    rows = store.runs(spec.name, without=["config"])
    if not revise:
        _refuse_another_recipe(spec, store, len(rows))
    first = next_round(spec, store, rows, retry_failed=retry_failed)
    revised = store.save_spec(spec)
    if first.stopped:  # a launch was killed before it could
        store.stop(spec.name, first.stopped)
        rows = store.runs(spec.name, without=["config"])
    here = len(every - first.open)
    total = len(every) if spec.adaptive is None else _most_runs(spec, store, first.done, here)
    waiting = total - here
    where = escape(shown(store.folder(spec.name)) if store.is_local else store.files.shown(spec.name))
    most = "at most " if spec.adaptive and waiting else ""
    console.print(f"{spec.name}: {len(every)} runs, {here} in {where}, {most}{waiting} to train",
                  highlight=False, soft_wrap=True)  # fmt: skip
    left_out = len(set(rows["run_id"]) - every)
    if revised and left_out:
        console.print(
            f"The spec differs from the one launched before: {left_out} stored runs are not part of it and stay as they are.",
            soft_wrap=True,
        )
    if not waiting:
        return []
    before, best = _stored(rows, spec, every - first.open)
    run_steps = sum(first.run_steps.values()) * waiting / len(first.open)
    progress = Progress(console, spec.name, spec.metric, spec.variants, total, before, run_steps, best=best)
    from hpscan.cluster import ClusterError
    from hpscan.launch import launch as launch_packs

    try:
        with progress:
            return launch_packs(
                spec, store, first, data, progress.add, address=address, on_plan=_tell_plan, stop=lease_lost
            )
    except ClusterError as error:
        fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        fail(
            "stopped; what is trained is stored. The same command goes on from here. "
            f"Look at it now: hpscan report {spec.name}{option}",
            EXIT_INTERRUPTED,
        )


def _most_runs(spec: Spec, store: Store, stored: set[str], here: int) -> int:
    """The runs that an adaptive sweep has at the end, at most; as many as are here if it is done."""
    from hpscan.rounds import AdaptiveRounds

    rounds = AdaptiveRounds(spec, store.location, frozenset(stored), spec.resources.workers_here)
    return max(rounds.most_runs, here) if rounds.next() else here


def _tell_plan(plan: list[Pack], slots: Slots) -> None:
    at_once = f"{slots.workers} at once" if slots.workers else f"none yet: no node has {slots.per_pack.told()}"
    console.print(f"{len(plan)} packs, {at_once}", highlight=False, markup=False, soft_wrap=True)


def _refuse_another_recipe(spec: Spec, store: Store, n_stored: int) -> None:
    """Raise SpecError if a sweep of this name holds runs that the spec would train otherwise."""
    from hpscan.differences import differences
    from hpscan.spec import SpecError

    if not n_stored:
        return
    changed = differences(store.spec(spec.name), spec)
    if changed:
        field, (earlier, now) = next(iter(changed.items()))
        more = f" (and {', '.join(list(changed)[1:])})" if len(changed) > 1 else ""
        raise SpecError(
            f"{spec.name}: {field} is {earlier!r} in the store and {now!r} in this spec{more}: every run would be "
            f"another one, and none of the {n_stored} stored would count. Give it another name (--set name=…), or go on "
            "under this one with --revise; the stored runs stay"
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
    from hpscan.workloads import PackedWorkload, WorkloadError

    if not isinstance(spec.workload, PackedWorkload):
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
    with _cluster_errors():
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

    with _cluster_errors():
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

    with _cluster_errors():
        job = jobs.cancel(address, sweep)
    print(f"{sweep}: job {job.job_id} is told to stop; the same submit goes on from what is stored")


@contextmanager
def _cluster_errors() -> Iterator[None]:
    """End in one line where the cluster does not answer."""
    from hpscan.cluster import ClusterError

    try:
        yield
    except ClusterError as error:
        fail(str(error), EXIT_FAILED)


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

    source = opened(store)
    found = [sweep_status(source, name) for name in ([sweep] if sweep else source.sweeps())]
    if as_json:
        print_json(found[0] if sweep else found)
        return
    if not found:
        console.print(
            f"No sweeps in {escape(source.files.shown())}. Start one: hpscan launch quickstart", soft_wrap=True
        )
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
        for text, count in found[0]["errors"].items():
            console.print(f"failed, {count} runs: {escape(text)}", soft_wrap=True)
    if sweep and address:
        from hpscan import jobs

        with _cluster_errors():
            job = jobs.latest(address, sweep)
        console.print(f"job {job.job_id}: {job.status.lower()} {escape(job.message)}".rstrip(), soft_wrap=True)
