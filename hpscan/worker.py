"""What a worker does with a pack: train it, go on from a checkpoint, write what came of it to the store.

A trial of Ray Tune is a pack, a step of it a part of the pack; the worker's process, its data and its compiled code
outlive it (``reuse_actors``).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from hpscan.cluster import alive_nodes, packs_at_once
from hpscan.errors import told
from hpscan.grid import Pack, Recipe, Run
from hpscan.progress import PackSummary
from hpscan.resources import PerPack, Resources
from hpscan.store import Store, StoreError
from hpscan.workloads import Data, Workload

if TYPE_CHECKING:
    from hpscan.session import RunResult

__all__ = ["Assignment", "PackTrainable", "order"]


@dataclass(frozen=True)
class Assignment:
    """What every worker of a sweep is given once, through Ray's object store."""

    sweep: str
    metric: str
    store: str
    resources: Resources
    workers: int
    """Of the whole sweep, about: nodes may join."""
    per_pack: PerPack
    """What was reserved for each worker."""
    runs: list[Run]
    """What may be trained; trials name them by their place."""
    run_steps: dict[str, float]
    """To come in the sweep, by the recipe's identity."""
    data: Data | None
    """None for a trainable, which has its own."""
    provenance: dict[str, Any]

    def pack(self, config: Mapping[str, Any]) -> Pack:
        """The pack of a trial, which was given its :func:`order`."""
        return Pack(
            tuple(self.runs[place] for place in config["runs"]),
            config["capacity"],
            config["since"],
            config["until"],
            tuple(config["sources"]),
            config["rest_of"],
            config["first_look"],
        )

    def steps_to_come(self, pack: Pack, trained: Mapping[str, int]) -> float:
        """Run-steps that a worker will train, about, with what is compiled for a pack: its workload and batch size.

        What it has ``trained`` is given by the recipe's identity.
        """
        return max(
            pack.run_steps,
            sum(
                self.run_steps[identity] / self.workers - trained.get(identity, 0)
                for identity in self._compiled_alike(pack)
            ),
        )

    def first_steps(self, pack: Pack) -> float | None:
        """Those of them that somebody waits to see, if the pack is among these: each variant and recipe has one such pack."""
        if not pack.first_look:
            return None
        alike = self._compiled_alike(pack)
        kinds = {(run.cell.variant, run.recipe.identity) for run in self.runs if run.recipe.identity in alike}
        return pack.run_steps * max(1.0, len(kinds) / self.workers)

    def _compiled_alike(self, pack: Pack) -> set[str]:
        """The identities of recipes that share what is compiled for a pack."""

        def compiled_for(recipe: Recipe) -> tuple[Workload, int]:
            return recipe.workload, recipe.batch_size

        wanted = compiled_for(pack.runs[0].recipe)
        recipes = {run.recipe.identity: run.recipe for run in self.runs}
        return {identity for identity, recipe in recipes.items() if compiled_for(recipe) == wanted}


def order(pack: Pack, places: Mapping[str, int]) -> dict[str, Any]:
    """A pack as a trial's config: small, since Tune keeps and copies it; ``places`` are those of runs in the assignment."""
    return {
        "runs": [places[run.run_id] for run in pack.runs],
        "capacity": pack.capacity,
        "since": pack.since,
        "until": pack.until,
        "sources": list(pack.sources),
        "rest_of": pack.rest_of,
        "first_look": pack.first_look,
    }


@dataclass(frozen=True)
class _Checkpoints:
    """The checkpoints of one pack in the store."""

    store: Store
    sweep: str
    pack: Pack
    every_s: float
    kept: dict[str, str] = field(default_factory=dict)
    """Which of them holds a run that has come to the rung."""

    def load(self) -> bytes | None:
        return self.store.checkpoint(self.sweep, self.pack.name)

    def save(self, content: bytes) -> None:
        _require(self.store, self.sweep)
        self.store.save_checkpoint(self.sweep, self.pack.name, content)

    def sources(self) -> Iterator[bytes]:
        found = (self.store.checkpoint(self.sweep, name) for name in self.pack.sources)
        return (content for content in found if content is not None)

    def keep_rung(self, name: str, run_ids: Sequence[str], content: bytes) -> None:
        _require(self.store, self.sweep)
        self.store.save_checkpoint(self.sweep, name, content)
        self.kept.update(dict.fromkeys(run_ids, name))


def _require(store: Store, sweep: str) -> None:
    """Raise StoreError if a sweep's folder is gone: writing would make it anew, where nobody looks for it."""
    if sweep not in store.sweeps():
        raise StoreError(f"{store.files.shown(sweep)}: is not there any more; nothing more was stored")


class PackTrainable(tune.Trainable):
    """Trains the pack that the trial's config describes."""

    def setup(self, config: dict[str, Any], assignment: Assignment) -> None:  # type: ignore[override]
        """Prepare the process, once for all its packs."""
        from hpscan.hardware import prepare_worker

        reserved = assignment.per_pack
        precision = assignment.runs[0].recipe.training.precision
        self.hardware = prepare_worker(precision, gpu=bool(reserved.gpus), threads=max(1, int(reserved.cpus)))
        self.assignment = assignment
        self.store = Store(assignment.store)
        self.flop: dict[str, float | None] = {}
        self.run_steps: Counter[str] = Counter()
        """Trained by this process, by the recipe's identity."""
        self.parts: Iterator[dict[str, Any]] | None = None
        on_gpu = self.hardware.device != "cpu"
        self.memory_share = reserved.gpus or 1.0 if on_gpu else 1 / _packs_on_this_node(reserved)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with another pack in the same process."""
        self.parts = None
        return True

    def step(self) -> dict[str, Any]:
        """Train a part of a pack and store it; what the driver is told of it."""
        self.parts = self.parts or self._stored()
        try:
            return next(self.parts)
        except StoreError as error:
            return {"done": True, "store_error": str(error)}

    def _stored(self) -> Iterator[dict[str, Any]]:
        """Train a pack and store its parts as they end."""
        import torch

        assignment = self.assignment
        pack = assignment.pack(self.config)
        checkpoints = _Checkpoints(self.store, assignment.sweep, pack, assignment.resources.checkpoint_s)
        how: dict[str, Any] = {}
        for results, left in self._trained(pack, checkpoints, how):
            part = replace(pack, runs=tuple(result.run for result in results))
            first = len(pack.runs) - left - len(results)
            self.run_steps[pack.runs[0].recipe.identity] += part.run_steps
            provenance = {
                **assignment.provenance,
                **asdict(self.hardware),
                "torch_version": torch.__version__,
                **how,
                "pack_id": part.pack_id,
                "pack_runs": len(part.runs),
                "finished_at": datetime.now(UTC),
            }
            _require(self.store, assignment.sweep)
            rows = [{**_row(result), **provenance} for result in results]
            curves = [{"run_id": result.run.run_id, **vars(point)} for result in results for point in result.curve]
            self._save_rung(part, [row for row in rows if row["state"] == "stopped"], checkpoints.kept)
            ended = [row for row in rows if row["state"] != "stopped"]
            self.store.save_pack(assignment.sweep, part.pack_id, ended, curves)
            if not left and pack.name not in checkpoints.kept.values():
                self.store.drop_checkpoint(assignment.sweep, pack.name)
            yield {"done": not left, "summary": _summary(pack, part, first, rows, assignment.metric)}

    def _flop_per_step(self, recipe: Recipe) -> float | None:
        """Counted once for each recipe."""
        from hpscan.flops import flop_per_run_step
        from hpscan.workloads import PackedWorkload

        if recipe.identity not in self.flop:
            assert isinstance(recipe.workload, PackedWorkload)
            assert self.assignment.data is not None
            batch = self.assignment.data.train.inputs[: recipe.batch_size].copy()  # what Ray shares cannot be written
            self.flop[recipe.identity] = flop_per_run_step(recipe.workload, batch)
        return self.flop[recipe.identity]

    def _save_rung(self, pack: Pack, rows: list[dict[str, Any]], kept: Mapping[str, str]) -> None:
        """Store the rows of runs at a rung; before their curves, which say that they have come there."""
        if rows:
            at_rung = [{**row, "pack_id": kept[row["run_id"]]} for row in rows]
            self.store.save_rung(self.assignment.sweep, pack.pack_id, at_rung)

    def _trained(
        self, pack: Pack, checkpoints: _Checkpoints, how: dict[str, Any]
    ) -> Iterator[tuple[list[RunResult], int]]:
        """Train a pack part by part; with each the number of runs that are left. ``how`` is filled with what was chosen.

        A model may raise anything before its training begins, too; what is left then has failed.
        """
        from hpscan.session import RunResult

        left = {run.run_id: run for run in pack.runs}
        try:
            for number, part in enumerate(self._parts(pack, checkpoints, how)):
                for result in part:
                    del left[result.run.run_id]
                if number:  # the first had ended before
                    yield part, len(left)
        except (StoreError, OSError):
            raise  # the machine's fault: the pack is retried, and runs are missing if that does not help
        except Exception as error:  # noqa: BLE001
            yield [RunResult(run, "failed", error=told(error)) for run in left.values()], 0

    def _parts(self, pack: Pack, checkpoints: _Checkpoints, how: dict[str, Any]) -> Iterator[list[RunResult]]:
        """What had ended before, then each part as it ends."""
        from hpscan.choice import Choice
        from hpscan.engine import train_parts
        from hpscan.trainable import train_one_by_one

        assignment = self.assignment
        if assignment.data is None:
            how |= {"strategy": "trainable", "compiled": False}
            return itertools.chain([[]], train_one_by_one(pack))

        def note(choice: Choice) -> None:
            how.update(
                strategy=choice.strategy,
                strategy_reason=choice.reason,
                choice_s=choice.seconds,
                compiled=choice.compiled,
                flop_per_step=self._flop_per_step(pack.runs[0].recipe),
            )

        return train_parts(
            pack,
            assignment.data,
            strategy=assignment.resources.strategy,
            compile=assignment.resources.compile,
            cuda_graphs=assignment.resources.cuda_graphs,
            device=self.hardware.device,
            steps_to_come=assignment.steps_to_come(pack, self.run_steps),
            first_steps=assignment.first_steps(pack),
            memory_share=self.memory_share,
            on_choice=note,
            checkpoints=checkpoints,
        )


def _packs_on_this_node(per_pack: PerPack) -> int:
    here = ray.get_runtime_context().get_node_id()
    nodes = [node["Resources"] for node in alive_nodes() if node["NodeID"] == here]
    return max([packs_at_once(node, per_pack) for node in nodes] + [1])


MOST_OF_AN_ERROR = 2000
"""Characters of what a run raised: some print a tensor with it."""


def _row(result: RunResult) -> dict[str, Any]:
    curve = {name: [getattr(point, name) for point in result.curve] for name in ("val_loss", "val_error")}
    best = {f"best_{name}": min((v for v in values if v is not None), default=None) for name, values in curve.items()}
    return {
        **result.run.columns(),
        "state": result.state,
        "error": result.error and result.error[:MOST_OF_AN_ERROR],
        "steps_done": result.steps_done,
        **result.metrics,
        **result.diagnostics,
        **best,
        "wall_s": result.wall_s,
        "device_s": result.device_s,
        "compile_s": result.compile_s,
    }


def _summary(pack: Pack, part: Pack, first: int, rows: Sequence[dict[str, Any]], metric: str) -> PackSummary:
    """What became of a part of a pack, which begins at its run ``first``; what is at a rung has not ended."""
    completed = [
        (math.inf if math.isnan(row[metric]) else row[metric], row["lr"], row["wd"])
        for row in rows
        if row["state"] == "completed" and metric in row
    ]
    return PackSummary(
        f"{pack.pack_id} until {pack.end}",
        pack.runs[0].cell.variant,
        dict(Counter(row["state"] for row in rows if row["state"] != "stopped")),
        min(completed, default=None),
        rows[0]["compile_s"],
        part.run_steps,
        first,
    )
