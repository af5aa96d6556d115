"""What a run costs as a sweep grows from 10² to 10⁵ runs: hpscan, and a trial a run of Ray Tune and of Optuna.

    python -m benchmarks.growth [--write benchmarks/growth.md] [--most 100000]

Up to 10⁴ runs hpscan trains: an MLP 64-8-10 on the digits, 25 steps. At 10⁵, and with the others, ``noop.py`` stands in
for training: what is measured is what a tool adds to a run. The pace is that of the half of the runs that ended last.
The driver's memory is its peak, the verdict at the end included: until then it holds about 60 MB for the list of 10⁵ runs, and
from their first result to their last grows from 346 to 361 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.meter import OF_CONTENDERS, header, metered
from benchmarks.noop import stand_in
from hpscan.store import Store
from tests.processes import HPSCAN

HERE = Path(__file__).parent
AXES = {100: (10, 10, 1), 1_000: (10, 10, 10), 10_000: (50, 50, 4), 100_000: (100, 100, 10)}
"""Runs: learning rates, weight decays, seeds."""
TINY = {"name": "digits", "model": {"name": "plain_mlp", "hidden": [8]}, "train": 400}
MOST = {"ray": 10_000, "optuna": 1_000}
"""Runs beyond which a tool would take hours."""


def spec_of(n_runs: int, *, training: bool) -> dict:
    """One variant over a grid of this many runs."""
    lr, wd, seeds = AXES[n_runs]
    return {
        "name": "growth", "variants": ["sgd"], "seeds": seeds, "budget": {"steps": 25 if training else 1}, "batch_size": 16,
        "grid": {"lr": {"log2": [-9, 0], "points": lr}, "wd": {"log2": [-12, 0], "points": wd}},
        "workload": TINY if training else {"trainable": "noop:train", "folder": str(HERE)}, "evaluations": 1,
        "resources": {"workers": 2, "pack_size": 64 if training else 256},
    }  # fmt: skip


def hpscan(n_runs: int, folder: Path, *, training: bool) -> tuple[list[str], Path]:
    (folder / "spec.yaml").write_text(json.dumps(spec_of(n_runs, training=training)), encoding="utf-8")
    command = [HPSCAN, "launch", str(folder / "spec.yaml"), "--store", str(folder / "written")]
    return command, folder / "written"


def other(tool: str, n_runs: int, folder: Path) -> tuple[list[str], Path]:
    (folder / "written").mkdir()
    child = ["--child", tool, "--runs", str(n_runs), "--folder", str(folder)]
    return [sys.executable, "-m", "benchmarks.growth", *child], folder / "written"


def ray_trials(n_runs: int, folder: Path) -> list[float]:
    """A trial a run, actors reused; when each ended."""
    import ray
    from ray import tune

    class Trainable(tune.Trainable):
        def reset_config(self, new_config):
            return True

        def step(self):
            return {"loss": stand_in(0.1, 0.1, 0), "done": True}

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    results = tune.Tuner(
        Trainable,
        param_space={"run": tune.grid_search(list(range(n_runs)))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(folder / "written"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    return [result.metrics["timestamp"] for result in results]


def optuna_trials(n_runs: int, folder: Path) -> list[float]:
    """A trial a run, a file of SQLite; when each ended."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.GridSampler({"run": list(range(n_runs))}, seed=0)
    study = optuna.create_study(storage=f"sqlite:///{folder}/written/study.db", sampler=sampler)
    study.optimize(lambda trial: stand_in(0.1, trial.suggest_int("run", 0, n_runs), 0))
    return [trial.datetime_complete.timestamp() for trial in study.trials]


TOOLS = {"ray": ("Ray Tune, `reuse_actors`", ray_trials), "optuna": ("Optuna, GridSampler, SQLite", optuna_trials)}


def row(tool: str, n_runs: int, *, training: bool) -> dict:
    with tempfile.TemporaryDirectory(prefix="hpscan-growth-") as scratch:
        folder = Path(scratch)
        command, written = (
            hpscan(n_runs, folder, training=training) if tool == "hpscan" else other(tool, n_runs, folder)
        )
        taken = metered(command, cwd=HERE.parent, written=written)
        if tool == "hpscan":
            rows = Store(written).runs("growth")
            ends = [at.timestamp() for at in rows["finished_at"]]
        else:
            ends = json.loads((folder / "ends.json").read_text(encoding="utf-8"))
    assert len(ends) == n_runs, f"{tool}: {len(ends)} of {n_runs} runs"
    ends = np.sort(ends)
    last = ends[len(ends) // 2 :]
    # runs of a pack end together: of a few packs there is no pace
    pace = 1e3 * (last[-1] - last[0]) / (len(last) - 1) if len(set(last)) > 4 else float("nan")
    return {"tool": tool, "runs": n_runs, "training": training, "wall": taken.wall_s, "pace": pace, "driver": taken.driver_mb,
            "all": taken.memory_mb, "files": taken.files, "kb": taken.kilobytes / n_runs}  # fmt: skip


def in_short(found: list[dict]) -> str:
    def ends_of(tool: str, *, training: bool) -> tuple[dict, dict] | None:
        own = [r for r in found if (r["tool"], r["training"]) == (tool, training) and r["pace"] == r["pace"]]
        return (own[0], own[-1]) if len(own) > 1 else None

    parts = []
    for tool, training, name in (
        ("hpscan", True, "hpscan, training,"),
        ("ray", False, "Ray Tune"),
        ("optuna", False, "Optuna"),
    ):
        if pair := ends_of(tool, training=training):
            one, other_end = pair
            parts.append(
                f"{name} takes {one['pace']:.2g} ms a run at {one['runs']:,} runs and {other_end['pace']:.2g} at {other_end['runs']:,}, its "
                f"driver {one['driver']:.0f} and {other_end['driver']:.0f} MB"
            )
    wide = [r for r in found if (r["tool"], r["training"]) == ("hpscan", False)]
    if wide:
        r = wide[-1]
        parts.append(
            f"hpscan without training {r['pace']:.2g} ms a run at {r['runs']:,}, its driver {r['driver']:.0f} MB"
        )
    return "In short: " + "; ".join(parts) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--most", type=int, default=100_000)
    for hidden in ("--child", "--runs", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS, type={"--runs": int, "--folder": Path}.get(hidden))
    options = parser.parse_args()
    os.environ |= OF_CONTENDERS
    if options.child:
        ends = TOOLS[options.child][1](options.runs, options.folder)
        (options.folder / "ends.json").write_text(json.dumps(ends), encoding="utf-8")
        return
    asked = [("hpscan", n, True) for n in AXES if n <= 10_000]
    asked += [(tool, n, False) for tool in TOOLS for n in AXES if n <= MOST[tool]]
    asked += [("hpscan", n, False) for n in AXES if n > 100]
    lines = [
        "| | runs | wall s | ms a run | driver MB | all processes MB | files | kB a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = []
    for tool, n_runs, training in asked:
        if n_runs > options.most:
            continue
        found.append(row(tool, n_runs, training=training))
        name = TOOLS[tool][0] if tool in TOOLS else "**hpscan**"
        numbers = "{runs:,} | {wall:.0f} | {pace:.2g} | {driver:.0f} | {all:.0f} | {files:,} | {kb:.2g} |".format(
            **found[-1]
        )
        lines.append(f"| {name}, {'training' if training else 'no training'} | {numbers.replace('nan', '—')}")
        print(lines[-1], flush=True)
    about = (__doc__ or "").split("\n\n")[2].strip()
    title = "# What a run costs as a sweep grows"
    text = (
        "\n".join([title, "", header("python -m benchmarks.growth"), "", in_short(found), "", about, "", *lines]) + "\n"
    )
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
