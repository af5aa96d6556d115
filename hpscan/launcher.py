"""Launch a sweep: hold its lease, look up what the store lacks, have it trained, say how it goes.

What trains it, with Ray and torch, is imported when there is something to train.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from hpscan.differences import objection
from hpscan.errors import SweepIncompleteError
from hpscan.grid import Pack, runs
from hpscan.landscape import recorded
from hpscan.lease import held
from hpscan.progress import PackSummary, Progress, shown
from hpscan.rounds import to_train
from hpscan.rungs import next_round
from hpscan.spec import Spec, SpecError, is_validation
from hpscan.store import Store, StoreError
from hpscan.sweep import Sweep
from hpscan.workloads import Data, Factory, PackedWorkload, WorkloadError

if TYPE_CHECKING:
    import pandas as pd

    from hpscan.cluster import Slots

__all__ = ["check_cluster", "check_workload", "launch_sweep", "train_missing"]


def launch_sweep(
    spec: Spec | str | Path,
    store: Store | str | Path = "results",
    *,
    overrides: Sequence[str] = (),
    address: str | None = None,
    retry_failed: bool = False,
    revise: bool = False,
) -> Sweep:
    """Train the runs of a spec that the store lacks, coarse cells first, as ``hpscan launch`` does; returns the sweep.

    It prints how it goes. Interrupted, it leaves what is trained in the store, and the same call goes on from there.

    Parameters
    ----------
    spec
        A spec, the path of one, or the name of a shipped one.
    store
        A path, a URI such as ``s3://bucket/prefix``, or a :class:`hpscan.Store`.
    overrides
        ``dotted.key=value`` strings with YAML values, for a path or name.
    address
        A Ray cluster: ``auto``, ``HOST:PORT``, or as a client ``ray://HOST:PORT``; by default a Ray of our own on this machine.
    retry_failed
        Train runs that failed again, too.
    revise
        Go on under the same name though the spec makes every run another one.

    Raises
    ------
    SpecError, WorkloadError
        If the spec, or what it names, is not valid: before anything is written.
    StoreError
        If another launch holds the sweep or has taken it over, or the store cannot be read or written.
    ClusterError
        If Ray does not start, cannot be reached, or is lost on the way to it.
    SweepIncompleteError
        If runs failed, or are missing, their workers having died time and again.
    """
    if isinstance(spec, str | Path):
        spec = Spec.load(str(spec), overrides)
    elif not isinstance(spec, Spec):
        raise SpecError(
            f"spec: must be a Spec, or the path or name of one; got a {type(spec).__name__}; "
            "Spec.validated makes one of a mapping"
        )
    elif overrides:
        raise SpecError("overrides: go with a path or a name, and this is a Spec; change that")
    sweep = Sweep(store if isinstance(store, Store) else Store(store), spec.name)
    train_missing(
        spec.resolved(), sweep.store, Console(), lambda: sweep.status["states"],
        address=address, retry_failed=retry_failed, revise=revise,
    )  # fmt: skip
    return sweep


def train_missing(
    spec: Spec,
    store: Store,
    console: Console,
    at_end: Callable[[], Mapping[str, int]],
    *,
    address: str | None,
    retry_failed: bool,
    revise: bool,
) -> None:
    """The same of a resolved spec, with a console to print to.

    ``at_end`` is called while the sweep is still held; it returns how many runs are in each state.
    """
    check_cluster(address)
    data = _data(spec, address)  # before anything is written
    with held(store, spec.name) as lease:
        lost = _train(
            spec,
            data,
            store,
            console,
            address=address,
            stop=lambda: lease.lost,
            retry_failed=retry_failed,
            revise=revise,
        )
        gc.collect()  # Ray's cycles hold on to the plan of 100,000 runs, and the analysis needs as much
        if lease.lost:
            raise StoreError(
                f"{spec.name}: stopped, another launch has taken the sweep over; what is trained is stored"
            )
        states = at_end()
        missing = bool(lost) if spec.adaptive else states["missing"]  # an adaptive sweep leaves cells out
        store.tidy(spec.name, complete=not missing)
    if states["failed"] or missing:
        why = f" ({len(lost)} {'pack was' if len(lost) == 1 else 'packs were'} lost: {lost[0]})" if lost else ""
        told = [f"{_counted(states['failed'])} failed"] * bool(states["failed"])
        if missing:
            verb = "is" if states["missing"] == 1 else "are"
            told.append("some runs are missing" if spec.adaptive else f"{_counted(states['missing'])} {verb} missing")
        raise SweepIncompleteError(f"{' and '.join(told)}{why}")


def _counted(n_runs: int) -> str:
    return f"{n_runs} run{'s' * (n_runs != 1)}"


def check_cluster(address: str | None) -> None:
    """Refuse what cannot be a cluster's address, before anything is shown or written."""
    if address is not None:  # or Ray need not be imported yet
        from hpscan.cluster import check_address

        check_address(address)


def _train(
    spec: Spec,
    data: Data | None,
    store: Store,
    console: Console,
    *,
    address: str | None,
    stop: Callable[[], bool],
    retry_failed: bool,
    revise: bool,
) -> list[str]:
    """Train what the store lacks and say how it goes; one line for each pack that was lost."""
    every = {run.run_id for run in runs(spec)}
    rows = store.runs(spec.name, without=["config"])
    refused = None if revise else objection(spec, store, rows)
    if refused is not None:
        raise SpecError(refused)
    first = next_round(spec, store, rows, retry_failed=retry_failed)
    revised = store.save_spec(spec)
    if first.stopped:  # a launch was killed before it could
        store.stop(spec.name, first.stopped)
        rows = store.runs(spec.name, without=["config"])
    here = len(every - first.open)
    waiting = len(to_train(spec, store.location, first.done, first.open) if spec.adaptive else first.open)
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
    progress = Progress(console, spec.name, spec.metric, spec.variants, here + waiting, before, run_steps, best=best)

    def tell_plan(plan: list[Pack], slots: Slots) -> None:
        at_once = f"{slots.workers} at once" if slots.workers else f"none yet: no node has {slots.per_pack.told()}"
        console.print(
            f"{len(plan)} pack{'s' * (len(plan) > 1)}, {at_once}", highlight=False, markup=False, soft_wrap=True
        )

    from hpscan.launch import launch

    blind: list[PackSummary] = []

    def tell_pack(summary: PackSummary) -> None:
        progress.add(summary)
        if summary.states.get("completed") and summary.best is None:
            blind.append(summary)

    with progress:
        lost = launch(
            spec, store, first, data, tell_pack, address=address, on_plan=tell_plan, stop=lambda: bool(blind) or stop()
        )
    if blind:  # a trainable, of which nothing was known before
        rows = store.runs(spec.name, without=["config"])
        known = [name for name in recorded(rows) if is_validation(name) and rows[name].notna().any()]
        raise WorkloadError(f"metric: the trainable yields {', '.join(sorted(known))}; got {spec.metric!r}")
    return lost


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


def _data(spec: Spec, address: str | None) -> Data | None:
    """The data of a sweep, read before anything is written; None where a trainable has its own."""
    if not isinstance(spec.workload, PackedWorkload):
        return None
    data = spec.workload.load()
    check_workload(spec, address)
    return data


def check_workload(spec: Spec, address: str | None) -> None:
    """Refuse what a sweep asks of its workload that this does not have: a metric, averaged predictions, smooth labels.

    A user's own is tried on a few examples, too. Of a trainable nothing is known before it was called.
    """
    if not isinstance(spec.workload, PackedWorkload):
        return
    if spec.training.label_smoothing or spec.training.snapshots:
        from hpscan.program import check_task

        check_task(spec.workload.task(), spec.training)
    shipped = not isinstance(spec.workload, Factory)  # their losses and errors are known without importing torch
    if not shipped or spec.metric not in {"val_loss", "val_error", "ensemble_val_loss", "ensemble_val_error"}:
        known = {f"val_{name}" for name in spec.workload.task().judges}
        if spec.metric.removeprefix("ensemble_") not in known:
            raise WorkloadError(f"metric: the workload reports {', '.join(sorted(known))}; got {spec.metric!r}")
    if isinstance(spec.workload, Factory):
        from hpscan.rehearsal import rehearse

        rehearse(spec.workload, spec.training, spec.batch_size // spec.training.accumulate, on_gpus=address is not None)
