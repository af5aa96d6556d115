"""Launch a sweep: Ray Tune schedules packs; workers write what they trained to the store.

A trial is a pack. Results go to the store and nowhere else; the driver hears a summary a pack.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

# Tune reads these when it is imported.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # with verbose=0: Tune prints nothing, the display is ours
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no CSV, JSON and TensorBoard files a trial
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C reaches us
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"  # the store is what a relaunch reads, not Tune's state

from hpscan.cluster import ClusterError, Slots, connected

# isort: split
import ray
from ray import tune

from hpscan.grid import Pack, packs, runs
from hpscan.progress import PackSummary
from hpscan.resources import PerPack
from hpscan.spec import Spec
from hpscan.store import Store, StoreError
from hpscan.worker import Assignment, PackTrainable
from hpscan.workloads import Data, Factory, Trainable

__all__ = ["ClusterError", "launch"]

RETRIES = 10
"""How often a pack whose worker died is tried again: nodes of a cluster come and go, and it goes on from a checkpoint."""


class _Listener(tune.Callback):
    """Hands each pack's summary to the caller."""

    def __init__(self, on_pack: Callable[[PackSummary], None]) -> None:
        self.on_pack = on_pack
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
        self.store_error = result.get("store_error", self.store_error)


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
    stored: Iterable[str],
    data: Data | None,
    on_pack: Callable[[PackSummary], None],
    *,
    address: str | None = None,
    on_plan: Callable[[list[Pack], Slots], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Train the runs of a spec that are not stored, coarse cells first, and store them.

    Parameters
    ----------
    spec
        The sweep.
    store
        Where packs are written; its spec for this sweep must have been saved.
    stored
        The run_ids of runs that need no training.
    data
        What ``spec.workload.load()`` returned; None for a trainable.
    on_pack
        Called in this process with a summary of each pack as it is stored.
    address
        ``auto`` or ``HOST:PORT`` of a Ray cluster; None for a Ray of our own on this machine.
    on_plan
        Called once with the packs and what of the cluster they will use.
    stop
        Asked after every pack whether to end the sweep.

    Returns
    -------
    One line for each pack that was lost for good, its worker having died time and again: why the last time.

    Raises
    ------
    StoreError
        If a worker could not read or write the store; the sweep stops there. What was stored before stays.
    ClusterError
        If Ray does not start or cannot be reached.
    KeyboardInterrupt
        On Ctrl-C, once Ray is down; packs already stored stay.
    """
    listener = _Listener(on_pack)
    user_folder = spec.workload.folder if isinstance(spec.workload, Factory | Trainable) else None
    with (
        connected(spec.resources, address, user_folder) as slots,
        tempfile.TemporaryDirectory(prefix="hpscan-tune-") as scratch,
    ):
        plan = packs(runs(spec), spec.resources.most_runs, stored, max(1, slots.workers))
        on_plan(plan, slots)
        assignment = Assignment(
            sweep=spec.name,
            metric=spec.metric,
            store=store.location,
            resources=spec.resources,
            workers=max(1, min(slots.workers, len(plan))),
            per_pack=slots.per_pack,
            packs=plan,
            data=data,
            provenance=_provenance(),
        )
        trainable = tune.with_resources(
            tune.with_parameters(PackTrainable, assignment=assignment), _reserved(slots.per_pack)
        )
        results = tune.Tuner(
            trainable,
            param_space={"pack": tune.grid_search(list(range(len(plan))))},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                max_concurrent_trials=slots.most and min(slots.most, len(plan)),
                trial_dirname_creator=lambda trial: f"pack-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[listener],
                stop=_Stopper(stop),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        ).fit()
    if listener.store_error is not None:
        raise StoreError(listener.store_error)
    return [f"{type(error).__name__}: {_last_line(error)}" for error in results.errors]


def _reserved(per_pack: PerPack) -> dict[str, float]:
    """What Tune is to reserve for a trial."""
    memory = int((per_pack.memory_gb or 0) * 2**30)
    amounts = {"cpu": per_pack.cpus, "gpu": per_pack.gpus or 0.0, "memory": memory, **per_pack.custom}
    return {name: amount for name, amount in amounts.items() if amount}


def _last_line(error: Exception) -> str:
    """What an error says at its end, where a chain of Ray's has the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


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
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for command in (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if status else "")
