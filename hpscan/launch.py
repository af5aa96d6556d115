"""Launch a sweep: Ray Tune schedules packs on a local Ray; workers write what they trained to the store.

The only module that imports Ray. A trial is a pack; its worker process, its data and its compiled code outlive it
(``reuse_actors``). Results go to the store and nowhere else; the driver hears a summary a pack.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

# Ray reads these when it is imported or started.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # with verbose=0: Tune prints nothing, the display is ours
# The switch is named after two systems, but on any it makes a local Ray listen on loopback alone.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a pool of compilers a worker costs more than it saves
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no CSV, JSON and TensorBoard files a trial
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C reaches us
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"  # the store is what a relaunch reads, not Tune's state

import ray
from ray import tune

from hpscan.grid import Pack
from hpscan.progress import PackSummary
from hpscan.spec import Spec
from hpscan.store import Store, StoreError
from hpscan.workloads import Data

if TYPE_CHECKING:
    from hpscan.engine import RunResult

__all__ = ["launch"]

RETRIES = 3
"""How often Tune retries a pack whose worker died."""


@dataclass(frozen=True)
class _Assignment:
    """What every worker of a sweep is given once, through Ray's object store."""

    sweep: str
    metric: str
    store: str
    compile: bool
    packs: list[Pack]
    data: Data
    provenance: dict[str, Any]


class _PackTrainable(tune.Trainable):
    """Trains the pack whose number is in the trial's config."""

    def setup(self, config: dict[str, Any], assignment: _Assignment) -> None:  # type: ignore[override]
        from hpscan.hardware import prepare_worker

        self.hardware = prepare_worker()
        self.assignment = assignment
        self.store = Store(assignment.store)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        import torch

        from hpscan.engine import train_pack
        from hpscan.hardware import can_compile

        assignment = self.assignment
        pack = assignment.packs[self.config["pack"]]
        provenance = {
            **assignment.provenance,
            **asdict(self.hardware),
            "torch_version": torch.__version__,
            "compiled": assignment.compile and can_compile(),
            "pack_id": pack.pack_id,
            "pack_runs": len(pack.runs),
        }
        try:
            results = train_pack(pack, assignment.data, compile=assignment.compile, device=self.hardware.device)
            rows = [_row(result) for result in results]
            curves = [{"run_id": result.run.run_id, **asdict(point)} for result in results for point in result.curve]
        except Exception as error:  # noqa: BLE001  (a model or loss may raise anything; its runs are `failed`)
            rows, curves = _failed_rows(pack, error), []
        finished_at = datetime.now(UTC)
        try:
            self.store.save_pack(
                assignment.sweep,
                pack.pack_id,
                [{**row, **provenance, "finished_at": finished_at} for row in rows],
                curves,
            )
        except StoreError as error:
            return {"done": True, "store_error": str(error)}
        return {"done": True, "summary": _summary(pack.pack_id, rows, assignment.metric)}


def _identity(run: Any) -> dict[str, Any]:
    cell = run.cell
    config = json.dumps(run.config, sort_keys=True)
    return {
        "run_id": run.run_id,
        "variant": cell.variant,
        "lr": cell.lr,
        "wd": cell.wd,
        "seed": run.seed,
        "steps": run.recipe.steps,
        "config": config,
    }


def _row(result: RunResult) -> dict[str, Any]:
    best = {f"best_{name}": min((getattr(point, name) for point in result.curve), default=None)
            for name in ("val_loss", "val_error")}  # fmt: skip
    return {
        **_identity(result.run),
        "state": result.state,
        "steps_done": result.steps_done,
        **result.metrics,
        **best,
        "wall_s": result.wall_s,
        "device_s": result.device_s,
    }


def _failed_rows(pack: Pack, error: Exception) -> list[dict[str, Any]]:
    text = f"{type(error).__name__}: {error}"
    return [{**_identity(run), "state": "failed", "error": text} for run in pack.runs]


def _summary(pack_id: str, rows: Sequence[dict[str, Any]], metric: str) -> PackSummary:
    completed = [(row[metric], row["lr"], row["wd"]) for row in rows if row["state"] == "completed"]
    return PackSummary(
        pack_id, rows[0]["variant"], dict(Counter(row["state"] for row in rows)), min(completed, default=None)
    )


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


def launch(spec: Spec, store: Store, plan: list[Pack], on_pack: Callable[[PackSummary], None]) -> list[str]:
    """Train packs of a spec, in the order given, and store them.

    Parameters
    ----------
    spec
        The sweep.
    store
        Where packs are written; its spec for this sweep must have been saved.
    plan
        The packs to train, from :func:`hpscan.grid.packs`.
    on_pack
        Called in this process with a summary of each pack as it is stored.

    Returns
    -------
    One line for each pack that was lost for good, its worker having died time and again: why the last time.

    Raises
    ------
    StoreError
        If a worker could not write. What was stored before stays.
    KeyboardInterrupt
        On Ctrl-C, once Ray is down; packs already stored stay.
    """
    if not plan:
        return []
    workers = min(spec.resources.workers_here, len(plan))
    listener = _Listener(on_pack)
    with _local_ray(workers), tempfile.TemporaryDirectory(prefix="hpscan-tune-") as scratch:
        assignment = _Assignment(
            sweep=spec.name,
            metric=spec.metric,
            store=str(store.root),
            compile=spec.resources.compile,
            packs=plan,
            data=spec.workload.load(),
            provenance=_provenance(),
        )
        trainable = tune.with_resources(tune.with_parameters(_PackTrainable, assignment=assignment), {"cpu": 1})
        results = tune.Tuner(
            trainable,
            param_space={"pack": tune.grid_search(list(range(len(plan))))},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                max_concurrent_trials=workers,
                trial_dirname_creator=lambda trial: f"pack-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[listener],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        ).fit()
    if listener.store_error is not None:
        raise StoreError(listener.store_error)
    return [f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" for error in results.errors]


@contextmanager
def _local_ray(workers: int) -> Iterator[None]:
    """A Ray of our own on loopback, stopped at the end, whatever other Ray the machine runs."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost pack is told in one line, not by its traceback
    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()


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
