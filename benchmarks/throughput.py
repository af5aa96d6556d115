"""A grid of learning rate × weight decay × seeds: hpscan against what users would pick instead.

    python -m benchmarks.throughput [--repeats 3] [--workload mlp] [--contender hpscan] [--fresh]

Each contender is a process of its own, from the interpreter's start to the last result, start-up and compiling
included, with two workers of one thread. All have the same initialisations and batches, and the final validation loss
of each run is compared with hpscan's before any time is believed. hpscan trains the whole grid and also judges along the
way; the others train every k-th run of it, and their time for the whole grid is what they took, and for the runs that they
left out the pace between their first and their last result.

Measurements are kept in ``throughput.json``; ``throughput.md`` shows the medians of all that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from benchmarks.meter import OF_CONTENDERS, header, metered
from benchmarks.plain import WORKLOADS, data_of, entry, fast, planned, stock, train_stock
from tests.processes import HPSCAN

HERE = Path(__file__).parent
KEPT = HERE / "throughput.json"
WORKERS = 2
SUBSETS = {"mlp": 80, "cnn": 16, "gpt": 16}
"""Runs of those that train one at a time."""
SLOW = {"mlp": 16, "cnn": 16, "gpt": 8}
"""And of the one that starts a process for each."""
Found = dict[str, tuple[float | None, float]]
"""By run_id: the final validation loss, None if it is not finite, and when it was there."""


def chosen(workload: str, n: int) -> list[int]:
    """``n`` places spread over the list of all runs."""
    return np.linspace(0, len(planned(workload)) - 1, n).round().astype(int).tolist()


def collected(entries: Iterable[tuple[str, float | None, float]]) -> Found:
    return {run_id: (loss, at) for run_id, loss, at in entries}


def hpscan(workload: str, scratch: Path) -> Found:
    """The command line, into an empty store."""
    from hpscan.store import Store

    _, name, overrides = WORKLOADS[workload]
    words = [word for override in overrides for word in ("--set", override)]
    command = [HPSCAN, "launch", name, "--store", str(scratch), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = Store(scratch).runs(name)
    losses = [None if not np.isfinite(loss) else float(loss) for loss in rows["val_loss"].astype(float)]
    ended = (at.timestamp() for at in rows["finished_at"])
    return dict(zip(rows["run_id"], zip(losses, ended, strict=True), strict=True))


def ray_tune(workload: str, scratch: Path, *, reuse_actors: bool, cpus: float) -> Found:
    """A trial a run."""
    import ray
    from ray import tune

    class Trainable(tune.Trainable):
        def setup(self, config, every, data):
            self.every, self.data = every, data

        def reset_config(self, new_config):
            return True

        def step(self):
            run = self.every[self.config["run"]]
            return {"entry": entry(run, train_stock(run, self.data)), "done": True}

    places = chosen(workload, SUBSETS[workload] if reuse_actors else SLOW[workload])
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    every = [planned(workload)[place] for place in places]
    trainable = tune.with_parameters(Trainable, every=every, data=data_of(workload))
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": cpus}),
        param_space={"run": tune.grid_search(list(range(len(every))))},
        tune_config=tune.TuneConfig(reuse_actors=reuse_actors, trial_dirname_creator=lambda trial: trial.trial_id),
        run_config=tune.RunConfig(
            storage_path=str(scratch), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
        ),
    ).fit()
    return collected(result.metrics["entry"] for result in results)


def optuna_trials(workload: str, scratch: Path, *, processes: int) -> Found:
    """GridSampler in threads, or in processes that share a file of SQLite."""
    from multiprocessing import get_context

    where = f"sqlite:///{scratch}/study.db"
    places = chosen(workload, SUBSETS[workload])
    if processes == 1:
        return collected(optuna_worker(workload, None, places, WORKERS))
    optuna_study(where, places)
    with get_context("spawn").Pool(processes) as pool:
        parts = pool.starmap(optuna_worker, [(workload, where, places, 1)] * processes)
    return collected(each for part in parts for each in part)


def optuna_study(where: str | None, places: list[int]):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.GridSampler({"place": places}, seed=0)
    return optuna.create_study(storage=where, study_name="grid", sampler=sampler, load_if_exists=True)


def optuna_worker(workload: str, where: str | None, places: list[int], jobs: int):
    """Train trials until the sampler has no more; the entries of those trained here."""
    entries = []

    def objective(trial):
        entries.append(stock(workload, trial.suggest_int("place", 0, max(places))))
        return entries[-1][1] or float("inf")

    optuna_study(where, places).optimize(objective, n_jobs=jobs)
    return entries


def in_processes(workload: str, scratch: Path, train: Callable, *further: object) -> Found:
    """joblib over a function; a CSV at the end."""
    from joblib import Parallel, delayed

    places = chosen(workload, SUBSETS[workload])
    entries = Parallel(n_jobs=WORKERS)(delayed(train)(workload, place, *further) for place in places)
    Path(scratch, "results.csv").write_text(
        "\n".join(f"{run_id},{loss}" for run_id, loss, _ in entries), encoding="utf-8"
    )
    return collected(entries)


CONTENDERS: dict[str, tuple[str, Callable[[str, Path], Found]]] = {
    "hpscan_cold": ("**hpscan**, empty compile cache", hpscan),
    "hpscan_warm": ("**hpscan**, warm compile cache", hpscan),
    "ray_trial": (
        "Ray Tune, one trial a run", lambda *a: ray_tune(*a, reuse_actors=False, cpus=1)),
    "ray_reuse": ("Ray Tune, `reuse_actors`, 1 CPU a trial", lambda *a: ray_tune(*a, reuse_actors=True, cpus=1)),
    "ray_half": ("Ray Tune, `reuse_actors`, ½ CPU a trial", lambda *a: ray_tune(*a, reuse_actors=True, cpus=0.5)),
    "optuna_threads": ("Optuna, GridSampler, `n_jobs=2`", lambda *a: optuna_trials(*a, processes=1)),
    "optuna_processes": ("Optuna, GridSampler, 2 processes, SQLite", lambda *a: optuna_trials(*a, processes=2)),
    "joblib": ("joblib over a plain torch loop", lambda *a: in_processes(*a, stock)),
    "tuned": ("joblib over the tuned loop", lambda *a: in_processes(*a, fast, False)),
    "tuned_compiled": ("joblib over the tuned loop, compiled", lambda *a: in_processes(*a, fast, True)),
}  # fmt: skip


def measure(contender: str, workload: str, cache_folder: Path) -> dict:
    """Train with one contender; what it took, and what became of each run."""
    with tempfile.TemporaryDirectory(prefix="hpscan-bench-") as folder:
        scratch, out = Path(folder, "written"), Path(folder, "found.json")
        scratch.mkdir()
        command = [sys.executable, "-m", "benchmarks.throughput", "--child", contender, "--workload", workload]
        began = time.time()
        command += ["--runs", str((SLOW if contender == "ray_trial" else SUBSETS)[workload])]
        taken = metered([*command, "--out", str(out), "--scratch", str(scratch)], cwd=HERE.parent, written=scratch,
                        env={"TORCHINDUCTOR_CACHE_DIR": str(cache_folder)})  # fmt: skip
        found: Found = {run_id: (loss, at - began) for run_id, (loss, at) in json.loads(out.read_text()).items()}
    every = planned(workload)
    whole, n, ends = len(every), len(found), sorted(at for _, at in found.values())
    cpu_at = np.interp([ends[0], ends[-1]], *np.transpose(taken.cpu_seconds))
    left_out = (whole - n) / max(n - 1, 1)
    panels = len({run.cell.variant for run in every})
    coarse = {run.run_id for run in every[: coarse_runs(workload)]}
    if contender.startswith("hpscan"):
        map_s = max(at for run_id, (_, at) in found.items() if run_id in coarse)
    else:  # in hpscan's order, which none of them has by itself
        map_s = ends[0] + (len(coarse) - 1) * (ends[-1] - ends[0]) / (n - 1)
    return {
        "contender": contender, "workload": workload, "on": header("python -m benchmarks.throughput"), "trained": n, "runs": whole, "panels": panels,
        "wall_s": taken.wall_s + left_out * (ends[-1] - ends[0]), "map_s": map_s,
        "cpu_s": taken.cpu_seconds[-1][1] + left_out * (cpu_at[1] - cpu_at[0]),
        "memory_mb": taken.memory_mb, "files": taken.files / n, "kilobytes": taken.kilobytes / n,
        "losses": {run_id: loss for run_id, (loss, _) in found.items()},
    }  # fmt: skip


def coarse_runs(workload: str) -> int:
    """How many runs in hpscan's order make a map of 3 × 3 cells of each variant, one seed at the least."""
    every, axes = planned(workload), {}
    for run in every:
        for axis, value in (("lr", run.cell.lr), ("wd", run.cell.wd)):
            axes.setdefault((run.cell.variant, axis), set()).add(value)
    coarse = {place: set(np.array(sorted(values))[[0, (len(values) - 1) // 2, -1]]) for place, values in axes.items()}
    places = [
        place
        for place, run in enumerate(every)
        if run.seed == every[0].seed
        and run.cell.lr in coarse[run.cell.variant, "lr"]
        and run.cell.wd in coarse[run.cell.variant, "wd"]
    ]
    return max(places) + 1


def agreement(theirs: dict[str, float | None], ours: dict[str, float | None]) -> dict[str, float]:
    """How the losses of runs that both trained compare."""
    shared = sorted(set(ours) & set(theirs))
    fate = np.mean([(ours[run_id] is None) == (theirs[run_id] is None) for run_id in shared])
    pairs = np.array([(theirs[i], ours[i]) for i in shared if ours[i] is not None and theirs[i] is not None])
    relative = np.abs(pairs[:, 0] - pairs[:, 1]) / pairs[:, 1]
    return {
        "runs": len(shared), "same fate": float(fate), "median": float(np.median(relative)),
        "within": float(np.mean(relative < 0.01)), "mean": float((pairs[:, 0] / pairs[:, 1]).mean() - 1),
    }  # fmt: skip


def agrees(found: dict[str, float]) -> bool:
    """Whether two sets of runs are the same: half of them to 1 %, within two standard errors, all to 2 % on average.

    Where training is chaotic single runs part.
    """
    half = 0.5 - found["runs"] ** -0.5
    return found["within"] > half and abs(found["mean"]) < 0.02 and found["same fate"] > 0.97


def loops(of: dict[str, list[dict]]) -> dict[str, float] | None:
    """How the runs of the two loops compare, which both are torch's alone."""
    if not of["joblib"] or not of["tuned"]:
        return None
    one, other = ({i: loss for m in of[name] for i, loss in m["losses"].items()} for name in ("joblib", "tuned"))
    return agreement(one, other)


def spread(values: list[float], pattern: str = ",.0f") -> str:
    middle = f"{statistics.median(values):{pattern}}"
    return middle if len(values) == 1 else f"{middle} ({min(values):{pattern}}–{max(values):{pattern}})"


def section(workload: str, kept: list[dict]) -> list[str]:
    """The table of a workload."""
    of = {name: [m for m in kept if (m["workload"], m["contender"]) == (workload, name)] for name in CONTENDERS}
    rate = {
        name: statistics.median(m["runs"] / m["wall_s"] * 3600 for m in found) for name, found in of.items() if found
    }
    any_of = next(m for found in of.values() for m in found)
    cpu = {name: statistics.median(m["cpu_s"] for m in found) for name, found in of.items() if found}
    lines = [
        f"## {WORKLOADS[workload][0]}", "", *dict.fromkeys(m["on"] for found in of.values() for m in found), "",
        f"{any_of['runs']:,} runs; a first coarse map is 3 × 3 cells of each of {any_of['panels']} variants, {coarse_runs(workload)} runs.", "",
        "| | runs trained | × | runs an hour | whole grid, s | first coarse map, s | CPU s a run | of the cores | peak memory, MB | files a run | kB a run | hpscan is | in CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    checks = []
    for name, found in of.items():
        if not found:
            continue
        times, cpu_times = f"{rate['hpscan_cold'] / rate[name]:.1f} ×", f"{cpu[name] / cpu['hpscan_cold']:.1f} ×"
        lines.append(
            f"| {CONTENDERS[name][0]} | {found[0]['trained']:,} | {len(found)} | {rate[name]:,.0f} | "
            f"{spread([m['wall_s'] for m in found])} | {spread([m['map_s'] for m in found])} | "
            f"{spread([m['cpu_s'] / m['runs'] for m in found], '.3g')} | {statistics.median(m['cpu_s'] / m['wall_s'] / WORKERS for m in found):.2f} | {spread([m['memory_mb'] for m in found])} | "
            f"{found[0]['files']:.2g} | {found[0]['kilobytes']:.2g} | {times} | {cpu_times} |"
        )
        if not name.startswith("hpscan"):
            checks.append((name, agreement(found[-1]["losses"], of["hpscan_cold"][-1]["losses"])))
    lines += [
        "",
        f"Same final metrics: validation losses differ from hpscan's by {max(c['median'] for _, c in checks):.0e} at most in the median, by "
        f"{max(abs(c['mean']) for _, c in checks):.0e} on average, whichever the contender; at least {min(c['within'] for _, c in checks):.0%} of the runs "
        f"are within 1 %, and {min(c['same fate'] for _, c in checks):.0%} agree on having diverged or not. Where training is chaotic any two orders of "
        f"summation part"
        + (
            f": of the plain and the tuned loop {two['within']:.0%} are within 1 % of one another."
            if (two := loops(of))
            else "."
        ),
    ]
    for name, check in checks:
        if not agrees(check):
            sys.exit(f"{workload}, {name}: the runs are not hpscan's ({check}); the times mean nothing")
    return lines


def in_short(kept: list[dict]) -> str:
    """The lead over the best of each kind, in a sentence."""
    parts = []
    for workload in WORKLOADS:
        rate = {
            name: statistics.median(m["runs"] / m["cpu_s"] for m in kept if (m["workload"], m["contender"]) == (workload, name))
            for name in {m["contender"] for m in kept if m["workload"] == workload}
        }  # fmt: skip
        if "hpscan_cold" not in rate:
            continue
        against = {
            kind: max((r for name, r in rate.items() if name.startswith(kind)), default=None)
            for kind in ("ray", "optuna", "joblib", "tuned")
        }
        told = ", ".join(f"{rate['hpscan_cold'] / r:.1f} × {kind}" for kind, r in against.items() if r)
        parts.append(f"{workload.upper()}: {told}")
    return (
        "In short: runs a CPU-second of hpscan with an empty compile cache, against the best setting of each. "
        + "; ".join(parts)
        + "."
    )


def page(kept: list[dict]) -> str:
    """All measurements as Markdown."""
    about = (__doc__ or "").split("\n\n")[2].strip()
    lines = ["# A grid, with hpscan and with what users would pick instead", "",
             in_short(kept), "", about, "",
             "Medians, and the range where there are several measurements. *Of the cores* is the share of the two that a contender got: one "
             "that got less than another waited, or other work on the machine slowed it, and its CPU-seconds are what to compare. Memory is the proportional share (PSS) of all processes "
             "together, sampled; the tuned loop has one thread a process, a fused optimizer, its data on one tensor, the better matmul "
             "mode, tuned malloc, channels-last convolutions and inference mode. hpscan's loop besides trains models that rectify "
             "behind their max-pools and judges them compiled, with BatchNorm folded in."]  # fmt: skip
    for workload in WORKLOADS:
        if any((m["workload"], m["contender"]) == (workload, "hpscan_cold") for m in kept):
            lines += ["", *section(workload, kept)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--workload", choices=list(WORKLOADS))
    parser.add_argument("--contender", choices=list(CONTENDERS), nargs="+", default=list(CONTENDERS))
    parser.add_argument("--runs", type=int, help="runs of those that train one at a time")
    parser.add_argument("--fresh", action="store_true", help="forget earlier measurements of the same")
    parser.add_argument("--write", type=Path, default=HERE / "throughput.md")
    for hidden in ("--child", "--out", "--scratch"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runs:
        SUBSETS.update(dict.fromkeys(SUBSETS, options.runs))
        SLOW.update(dict.fromkeys(SLOW, options.runs))
    if options.child:
        os.environ |= OF_CONTENDERS
        found = CONTENDERS[options.child][1](options.workload, Path(options.scratch))
        Path(options.out).write_text(json.dumps(found), encoding="utf-8")
        return
    workloads = [options.workload] if options.workload else list(WORKLOADS)
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else []
    if options.fresh:
        kept = [m for m in kept if m["workload"] not in workloads or m["contender"] not in options.contender]
    for workload in workloads:
        for _ in range(options.repeats):
            with tempfile.TemporaryDirectory() as cache_folder:
                for contender in options.contender:
                    own = Path(cache_folder, "tuned" if contender == "tuned_compiled" else "hpscan")
                    kept.append(measure(contender, workload, own))
                    shown = {name: value for name, value in kept[-1].items() if name != "losses"}
                    print(json.dumps(shown), flush=True)
                    KEPT.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    options.write.write_text(page(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
