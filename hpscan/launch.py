"""Launch a sweep: Ray Tune schedules packs; workers write what they trained to the store.

A trial is a pack. Results go to the store and nowhere else; the driver hears a summary a pack. Tune runs in this process,
or, where this one is only a client of the cluster (``ray://``), in an actor there that is asked for the summaries.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

# Tune reads these when it is imported.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # with verbose=0: Tune prints nothing, the display is ours
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no CSV, JSON and TensorBoard files a trial
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C reaches us
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"  # the store is what a relaunch reads, not Tune's state

from hpscan.cluster import Slots, connected, is_client, reason
from hpscan.errors import ClusterError

# isort: split
import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpscan.course import Course
from hpscan.errors import last_line
from hpscan.grid import Pack, packs, runs
from hpscan.progress import PackSummary
from hpscan.resources import PerPack
from hpscan.rounds import AdaptiveRounds, affordable
from hpscan.rungs import Round
from hpscan.searcher import AdaptiveSearcher, CourseSearcher, KeptWorkers, PackSearcher
from hpscan.spec import Spec
from hpscan.store import Store, StoreError
from hpscan.worker import Assignment, PackTrainable
from hpscan.workloads import Data, Factory, Trainable

__all__ = ["launch"]

RETRIES = 4
"""How often a pack whose worker died is tried again by Tune: nodes come and go, and it goes on from a checkpoint."""
POLL_S = 0.5
"""How often a client asks the cluster what is new."""
LEAVE_S = 5.0
"""How long a client that is interrupted waits for the cluster to clear up."""


class _Listener(tune.Callback):
    """Hands each pack's summary to the caller, and tells the searcher which trials ended with one and which without."""

    def __init__(self, searcher: PackSearcher, on_pack: Callable[[PackSummary], None]) -> None:
        self.searcher, self.on_pack = searcher, on_pack
        self.seen = 0
        self.open: dict[str, Any] = {}
        """Trials that have not ended."""
        self.store_error: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks into a state that we never restore; a terminal cannot be pickled."""
        return {}

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        if "summary" in result:
            self.on_pack(result["summary"])
            if result["done"]:
                self.searcher.ended(trial.trial_id)
        self.store_error = result.get("store_error", self.store_error)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.open |= {trial.trial_id: trial for trial in trials[self.seen :]}
        self.seen = len(trials)
        for trial in [trial for trial in self.open.values() if trial.is_finished()]:
            del self.open[trial.trial_id]
            if trial.trial_id in self.searcher.handed:
                error = trial.get_error()
                why = f"{type(error).__name__}: {last_line(error, 'no message')}" if error else "Tune dropped it"
                self.searcher.dropped(trial.trial_id, why)


class _Stopper(tune.Stopper):
    """Ends a sweep at the first pack that could not be stored, the others could not be either, or when it is told to."""

    def __init__(self, told_to: Callable[[], bool]) -> None:
        self.told_to = told_to
        self.unwritable = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.unwritable |= "store_error" in result
        return False

    def __getstate__(self) -> dict[str, Any]:
        """As the listener's."""
        return {}

    def stop_all(self) -> bool:
        return self.unwritable or self.told_to()


def launch(
    spec: Spec,
    store: Store,
    first: Round,
    data: Data | None,
    on_pack: Callable[[PackSummary], None],
    *,
    address: str | None = None,
    on_plan: Callable[[list[Pack], Slots], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Train the runs of a spec that are not stored, coarse cells first, round by round, and store them.

    Parameters
    ----------
    spec
        The sweep.
    store
        Where packs are written; its spec for this sweep must have been saved.
    first
        The round to begin with.
    data
        What ``spec.workload.load()`` returned; None for a trainable.
    on_pack
        Called in this process with a summary of each pack as it is stored.
    address
        ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT`` of a Ray cluster; None for a Ray of our own on this machine.
    on_plan
        Called once with the packs of the first round and what of the cluster they will use.
    stop
        Asked after every pack whether to end the sweep.

    Returns
    -------
    One line for each pack that was lost for good, its worker having died time and again: why the last time.

    Raises
    ------
    SpecError
        If ``address`` cannot be one.
    StoreError
        If a worker could not read or write the store; the sweep stops there. What was stored before stays.
    ClusterError
        If Ray does not start, cannot be reached, or is lost on the way to it.
    KeyboardInterrupt
        On Ctrl-C, once Ray is down; packs already stored stay.
    """
    user_folder = spec.workload.folder if isinstance(spec.workload, Factory | Trainable) else None
    with connected(spec.resources, address, user_folder) as slots:
        every, workers = runs(spec), max(1, slots.workers)
        course: Course | AdaptiveRounds
        if spec.adaptive:
            chosen = affordable(spec, first.open)
            share = len(chosen) / len(first.open)
            course = AdaptiveRounds(spec, store.location, frozenset(first.done), workers)
            others = (run.run_id for run in every if run.run_id not in chosen)
            plan = packs(every, spec.resources.most_runs, others, workers)
        else:
            course, share = Course(spec, store.location, every, workers, first), 1.0
            plan = course.packs()
        on_plan(plan, slots)
        # later rounds are planned from the store: whatever they call for has a place
        later = spec.adaptive is not None or first.legs is not None
        wanted = [run for run in every if later or run.run_id in first.open]
        most = len(plan) if first.legs is None else len(every)  # packs at once; a later round may have more of them
        assignment = Assignment(
            sweep=spec.name,
            metric=spec.metric,
            store=store.location,
            resources=spec.resources,
            workers=max(1, min(slots.workers, most)),
            per_pack=slots.per_pack,
            runs=wanted,
            run_steps={recipe: share * steps for recipe, steps in first.run_steps.items()},
            data=data,
            provenance=_provenance(),
        )
        trials = _Trials(
            sweep=spec.name,
            course=course,
            places={run.run_id: place for place, run in enumerate(wanted)},
            at_once=slots.most and min(slots.most, most),
            reserved=_reserved(slots.per_pack),
            assignment=ray.put(assignment),
        )
        outcome = _tune_there(trials, on_pack, stop) if is_client() else _tune(trials, _scratch(), on_pack, stop)
    if outcome.store_error is not None:
        raise StoreError(outcome.store_error)
    return outcome.lost


@dataclass(frozen=True)
class _Trials:
    """What Tune is given to run."""

    sweep: str
    course: Course | AdaptiveRounds
    places: dict[str, int]
    """Of runs in the assignment."""
    at_once: int | None
    reserved: dict[str, float]
    """For each of them."""
    assignment: Any
    """An :class:`Assignment` in the object store."""


@dataclass(frozen=True)
class _Outcome:
    """What came of them, besides what is in the store."""

    store_error: str | None
    lost: list[str]


Scratch = tempfile.TemporaryDirectory[str]


def _scratch() -> Scratch:
    """A folder for Tune's own state, which nothing reads; on the node where Tune runs."""
    return tempfile.TemporaryDirectory(prefix="hpscan-tune-", ignore_cleanup_errors=True)


def _tune(
    trials: _Trials, scratch: Scratch, on_pack: Callable[[PackSummary], None], stop: Callable[[], bool]
) -> _Outcome:
    """Run the trials from this process, which is one of the cluster's."""
    course, scheduler = trials.course, None
    searcher: PackSearcher
    pending = "200"  # workers start together, not one after another
    if isinstance(course, Course):
        searcher = CourseSearcher(course, trials.places, on_pack)
        scheduler = None if course.round.legs is None else KeptWorkers()
    else:
        searcher = AdaptiveSearcher(course, trials.places)
        pending = "auto"  # what is chosen late is chosen well
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = pending
    listener = _Listener(searcher, on_pack)
    trainable = tune.with_parameters(PackTrainable, assignment=trials.assignment)
    with scratch as folder:
        tune.Tuner(
            tune.with_resources(trainable, trials.reserved),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
                max_concurrent_trials=trials.at_once,
                trial_dirname_creator=lambda trial: f"pack-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name=trials.sweep,
                storage_path=folder,
                verbose=0,
                callbacks=[listener],
                stop=_Stopper(stop),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        ).fit()
    return _Outcome(listener.store_error, searcher.lost)


class _Tuning:
    """The trials in an actor of the cluster: one thread runs them, another answers to the client."""

    def __init__(self) -> None:
        self.scratch = _scratch()
        self.summaries: deque[PackSummary] = deque()
        self.told_to_stop = False

    def run(self, trials: _Trials) -> _Outcome:
        return _tune(trials, self.scratch, self.summaries.append, lambda: self.told_to_stop)

    def news(self, stop: bool) -> list[PackSummary]:
        """The summaries that were not told yet."""
        self.told_to_stop |= stop
        return [self.summaries.popleft() for _ in range(len(self.summaries))]

    def leave(self) -> None:
        """Leave nothing behind: this process is killed when its client goes."""
        self.scratch.cleanup()


def _tune_there(trials: _Trials, on_pack: Callable[[PackSummary], None], stop: Callable[[], bool]) -> _Outcome:
    """Run the trials from a process on the cluster's head: this one is a client, which Tune's callbacks do not reach."""
    head = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": 2, "scheduling_strategy": head}
    there: Any = ray.remote(**options)(_Tuning).remote()
    running = there.run.remote(trials)
    outcome: _Outcome | None = None
    try:
        while outcome is None:
            ended, _ = ray.wait([running], timeout=POLL_S)
            summaries = ray.get(there.news.remote(stop()))
            outcome = ray.get(running) if ended else None
            for summary in summaries:
                on_pack(summary)
    except RayError as error:
        why = last_line(error, "no message") if isinstance(error, RayTaskError) else reason(error)
        raise ClusterError(f"the sweep's process on the cluster ended: {why}; what is trained is stored") from error
    except (KeyboardInterrupt, SystemExit):
        with suppress(Exception):
            ray.get(there.leave.remote(), timeout=LEAVE_S)
        raise
    return outcome


def _reserved(per_pack: PerPack) -> dict[str, float]:
    """What Tune is to reserve for a trial."""
    memory = int((per_pack.memory_gb or 0) * 2**30)
    amounts = {"cpu": per_pack.cpus, "gpu": per_pack.gpus or 0.0, "memory": memory, **per_pack.custom}
    return {name: amount for name, amount in amounts.items() if amount}


def _provenance() -> dict[str, Any]:
    return {
        "hpscan_version": version("hpscan"),
        "ray_version": ray.__version__,
        "python_version": platform.python_version(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the folder we were launched in, with ``+`` if it has uncommitted changes; None outside git."""
    try:
        commit, status = (
            subprocess.run(command, capture_output=True, check=True, timeout=10).stdout.decode(errors="replace").strip()
            for command in (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if status else "")
