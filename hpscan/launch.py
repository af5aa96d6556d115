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

from hpscan.grid import Pack, Run
from hpscan.progress import PackSummary
from hpscan.spec import Resources, Spec
from hpscan.store import Store, StoreError
from hpscan.workloads import Data

if TYPE_CHECKING:
    from hpscan.session import RunResult

__all__ = ["RayStartError", "launch"]

RETRIES = 3
"""How often Tune retries a pack whose worker died."""


class RayStartError(Exception):
    """Ray could not be started; the message is one line."""


@dataclass(frozen=True)
class _Assignment:
    """What every worker of a sweep is given once, through Ray's object store."""

    sweep: str
    metric: str
    store: str
    resources: Resources
    workers: int
    gpu: bool
    """Whether each worker was given a GPU, or a share of one."""
    packs: list[Pack]
    data: Data | None
    """None for a trainable, which has its own."""
    provenance: dict[str, Any]

    @property
    def steps_to_come(self) -> float:
        """Run-steps that a worker will train, about."""
        return sum(len(pack.runs) * pack.runs[0].recipe.steps for pack in self.packs) / self.workers


class _PackTrainable(tune.Trainable):
    """Trains the pack whose number is in the trial's config."""

    def setup(self, config: dict[str, Any], assignment: _Assignment) -> None:  # type: ignore[override]
        from hpscan.hardware import prepare_worker

        self.hardware = prepare_worker(assignment.packs[0].runs[0].recipe.training.precision, gpu=assignment.gpu)
        self.assignment = assignment
        self.store = Store(assignment.store)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        import torch

        assignment = self.assignment
        pack = assignment.packs[self.config["pack"]]
        how: dict[str, Any] = {}
        try:
            results = self._trained(pack, how)
            rows = [_row(result) for result in results]
            curves = [{"run_id": result.run.run_id, **asdict(point)} for result in results for point in result.curve]
        except OSError:  # the machine's fault: the pack is retried, and its runs are missing if that does not help
            raise
        except Exception as error:  # noqa: BLE001  (a model or loss may raise anything; its runs are `failed`)
            rows, curves = _failed_rows(pack, error), []
        provenance = {
            **assignment.provenance,
            **asdict(self.hardware),
            "torch_version": torch.__version__,
            **how,
            "pack_id": pack.pack_id,
            "pack_runs": len(pack.runs),
            "finished_at": datetime.now(UTC),
        }
        try:
            self.store.save_pack(assignment.sweep, pack.pack_id, [{**row, **provenance} for row in rows], curves)
        except StoreError as error:
            return {"done": True, "store_error": str(error)}
        return {"done": True, "summary": _summary(pack.pack_id, rows, assignment.metric)}

    def _trained(self, pack: Pack, how: dict[str, Any]) -> list[RunResult]:
        """Train a pack; ``how`` is filled with what was chosen."""
        from hpscan.choice import Choice
        from hpscan.engine import train_pack
        from hpscan.trainable import train_one_by_one

        assignment = self.assignment
        if assignment.data is None:
            how |= {"strategy": "trainable", "compiled": False}
            return train_one_by_one(pack)

        def note(choice: Choice) -> None:
            how.update(
                strategy=choice.strategy,
                strategy_reason=choice.reason,
                choice_s=choice.seconds,
                compiled=choice.compiled,
            )

        return train_pack(
            pack,
            assignment.data,
            strategy=assignment.resources.strategy,
            compile=assignment.resources.compile,
            cuda_graphs=assignment.resources.cuda_graphs,
            device=self.hardware.device,
            steps_to_come=assignment.steps_to_come,
            memory_share=1 / assignment.workers,
            on_choice=note,
        )


def _identity(run: Run) -> dict[str, Any]:
    cell = run.cell
    config = json.dumps(run.config, sort_keys=True)
    return {
        "run_id": run.run_id,
        "variant": cell.variant,
        "lr": cell.lr,
        "wd": cell.wd,
        "seed": run.seed,
        **dict(cell.settings),
        "steps": run.recipe.steps,
        "config": config,
    }


def _row(result: RunResult) -> dict[str, Any]:
    curve = {name: [getattr(point, name) for point in result.curve] for name in ("val_loss", "val_error")}
    best = {f"best_{name}": min((v for v in values if v is not None), default=None) for name, values in curve.items()}
    return {
        **_identity(result.run),
        "state": result.state,
        "error": result.error,
        "steps_done": result.steps_done,
        **result.metrics,
        **best,
        "wall_s": result.wall_s,
        "device_s": result.device_s,
        "compile_s": result.compile_s,
    }


def _failed_rows(pack: Pack, error: Exception) -> list[dict[str, Any]]:
    text = f"{type(error).__name__}: {error}"
    return [{**_identity(run), "state": "failed", "error": text} for run in pack.runs]


def _summary(pack_id: str, rows: Sequence[dict[str, Any]], metric: str) -> PackSummary:
    completed = [(row[metric], row["lr"], row["wd"]) for row in rows if row["state"] == "completed" and metric in row]
    return PackSummary(
        pack_id,
        rows[0]["variant"],
        dict(Counter(row["state"] for row in rows)),
        min(completed, default=None),
        rows[0].get("compile_s", 0.0),
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


class _StopWhenUnwritable(tune.Stopper):
    """Ends a sweep at the first pack that could not be stored: the others could not be either."""

    def __init__(self) -> None:
        self.unwritable = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.unwritable |= "store_error" in result
        return False

    def stop_all(self) -> bool:
        return self.unwritable


def launch(
    spec: Spec, store: Store, plan: list[Pack], data: Data | None, on_pack: Callable[[PackSummary], None]
) -> list[str]:
    """Train packs of a spec, in the order given, and store them.

    Parameters
    ----------
    spec
        The sweep.
    store
        Where packs are written; its spec for this sweep must have been saved.
    plan
        The packs to train, from :func:`hpscan.grid.packs`.
    data
        What ``spec.workload.load()`` returned; None for a trainable.
    on_pack
        Called in this process with a summary of each pack as it is stored.

    Returns
    -------
    One line for each pack that was lost for good, its worker having died time and again: why the last time.

    Raises
    ------
    StoreError
        If a worker could not write; the sweep stops there. What was stored before stays.
    RayStartError
        If Ray does not start.
    KeyboardInterrupt
        On Ctrl-C, once Ray is down; packs already stored stay.
    """
    if not plan:
        return []
    listener = _Listener(on_pack)
    with _local_ray(spec.resources) as gpus, tempfile.TemporaryDirectory(prefix="hpscan-tune-") as scratch:
        workers = min(spec.resources.workers or gpus or spec.resources.workers_here, len(plan))
        assignment = _Assignment(
            sweep=spec.name,
            metric=spec.metric,
            store=str(store.root),
            resources=spec.resources,
            workers=workers,
            gpu=gpus > 0,
            packs=plan,
            data=data,
            provenance=_provenance(),
        )
        # more workers than GPUs share them; a GPU is not split between more workers than there are packs
        share = {"gpu": min(1.0, gpus / workers)} if gpus else {}
        trainable = tune.with_resources(
            tune.with_parameters(_PackTrainable, assignment=assignment), {"cpu": 1, **share}
        )
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
                stop=_StopWhenUnwritable(),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        ).fit()
    if listener.store_error is not None:
        raise StoreError(listener.store_error)
    return [f"{type(error).__name__}: {_last_line(error)}" for error in results.errors]


@contextmanager
def _local_ray(resources: Resources) -> Iterator[int]:
    """A Ray of our own on loopback, stopped at the end, whatever other Ray the machine runs; yields its GPUs."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost pack is told in one line, not by its traceback
    try:
        ray.init(
            address="local",
            num_cpus=max(resources.workers_here, resources.gpus or 0),
            num_gpus=resources.gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (RuntimeError, ConnectionError, TimeoutError) as error:
        raise RayStartError(f"Ray did not start: {_last_line(error)}") from None
    try:
        yield int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


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
