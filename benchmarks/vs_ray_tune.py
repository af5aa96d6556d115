"""Sweep throughput: hpscan against Ray Tune with stock torch.optim code, on the same runs.

    python benchmarks/vs_ray_tune.py            # the whole quickstart; about 20 minutes on two cores
    python benchmarks/vs_ray_tune.py --seeds 1 --naive-runs 50

Contenders, each a process of its own from import to the last result, start-up and compiling included:

* hpscan: ``hpscan launch quickstart`` into an empty store, with an empty and with a warm compile cache;
* Ray Tune, ``reuse_actors``, one report a trial;
* Ray Tune, one trial a run, a fresh actor each: what its documentation shows first.

The two stock contenders share one training function: a stock module, ``torch.optim``, a schedule by hand, the same
initialisation and batches, evaluated once at the end (hpscan also evaluates along the way). One thread a worker and
one worker a core for everybody. The final metrics of all are compared before any time is believed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
NAIVE_RUNS = 300


def train_stock(run, data):
    """Train one run with stock torch code and return its metrics."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    from hpscan.randomness import batches, initial_model

    recipe, cell, task = run.recipe, run.cell, run.recipe.workload.task()
    model = initial_model(task.model, run.seed)
    settings = dict(cell.settings)
    adam = {"lr": cell.lr, "betas": (settings.get("beta1"), settings.get("beta2")), "eps": settings.get("eps")}
    decayed = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    spared = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    weight_decay = {"sgdw": 0.0, "adamw": cell.wd / cell.lr}.get(cell.variant, cell.wd)
    make = {
        "sgd": lambda groups: torch.optim.SGD(groups, lr=cell.lr, momentum=settings["momentum"]),
        "sgdw": lambda groups: torch.optim.SGD(groups, lr=cell.lr, momentum=settings["momentum"]),
        "adam": lambda groups: torch.optim.Adam(groups, **adam),
        "adamw": lambda groups: torch.optim.AdamW(groups, **adam),
        "adamw-torch": lambda groups: torch.optim.AdamW(groups, **adam),
    }[cell.variant]
    optimizer = make([{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}])
    splits = [
        (task.prepare(torch.tensor(part.inputs)), torch.tensor(part.targets))
        for part in (data.train, data.validation, data.test)
    ]
    inputs, targets = splits[0]
    order = batches(run.seed, len(targets), recipe.batch_size)
    for step in range(recipe.steps):
        eta = recipe.schedule.multiplier(step, recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = cell.lr * eta
        batch = torch.from_numpy(next(order))
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[batch]), targets[batch]).backward()
        if cell.variant == "sgdw":  # torch.optim has no SGDW: decay by hand, as the step would see it
            with torch.no_grad():
                torch._foreach_mul_(decayed, 1.0 - eta * cell.wd)
        optimizer.step()
    model.eval()
    metrics = {}
    with torch.no_grad():
        for name, (x, y) in zip(("train", "val", "test"), splits, strict=True):
            logits = model(x)
            metrics[f"{name}_loss"] = F.cross_entropy(logits, y).item()
            metrics[f"{name}_error"] = (logits.argmax(-1) != y).float().mean().item()
    return metrics


def contend_with_tune(spec, n_runs, *, reuse_actors, storage):
    """Train the first ``n_runs`` runs of a spec as Ray Tune trials that write to ``storage``; {run_id: val_loss}."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # listen on loopback alone
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["OMP_NUM_THREADS"] = "1"
    import ray
    from ray import tune

    from hpscan.grid import runs

    class Trainable(tune.Trainable):
        def setup(self, config, every, data):
            import torch

            torch.set_num_threads(1)
            self.every, self.data = every, data

        def reset_config(self, new_config):
            return True

        def step(self):
            run = self.every[self.config["run"]]
            return {**train_stock(run, self.data), "run_id": run.run_id, "done": True}

    every = runs(spec)[:n_runs]
    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(Trainable, every=every, data=spec.workload.load()), {"cpu": 1}),
        param_space={"run": tune.grid_search(list(range(len(every))))},
        tune_config=tune.TuneConfig(reuse_actors=reuse_actors, trial_dirname_creator=lambda trial: trial.trial_id),
        run_config=tune.RunConfig(
            storage_path=str(storage), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
        ),
    ).fit()
    found = {result.metrics["run_id"]: result.metrics["val_loss"] for result in results}
    ray.shutdown()
    return found


def contend(contender, seeds, n_runs, out):
    """Run one contender in this process and write its {run_id: val_loss}."""
    from hpscan.spec import Spec
    from hpscan.store import Store

    overrides = [f"seeds={seeds}"]
    if contender.startswith("hpscan"):
        with tempfile.TemporaryDirectory() as store:
            command = [Path(sys.executable).with_name("hpscan"), "launch", "quickstart", "--store", store]
            subprocess.run([*command, *(f"--set={override}" for override in overrides)], check=True, stdout=sys.stderr)
            rows = Store(store).runs("quickstart")
        found = dict(zip(rows["run_id"], rows["val_loss"].astype(float), strict=True))
    else:
        spec = Spec.load("quickstart", overrides)
        with tempfile.TemporaryDirectory() as storage:
            found = contend_with_tune(spec, n_runs, reuse_actors=contender == "reuse_actors", storage=storage)
    Path(out).write_text(json.dumps(found))


def measure(contender, seeds, n_runs, environment):
    """Time one contender as a whole process; returns (seconds, {run_id: val_loss})."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, __file__, "--contender", contender, "--seeds", str(seeds), "--out", str(out)]
        start = time.perf_counter()
        subprocess.run([*command, "--naive-runs", str(n_runs)], check=True, env={**os.environ, **environment})
        return time.perf_counter() - start, json.loads(out.read_text())


def agreement(ours, theirs):
    """Relative differences of val_loss over the runs that both trained and neither diverged in."""
    shared = sorted(set(ours) & set(theirs))
    a, b = (np.array([found[run_id] for run_id in shared], dtype=float) for found in (ours, theirs))
    finite = np.isfinite(a) & np.isfinite(b)
    same_fate = float(np.mean(np.isfinite(a) == np.isfinite(b)))
    return np.abs(a - b)[finite] / b[finite], (a - b)[finite], same_fate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--naive-runs", type=int, default=NAIVE_RUNS, help="runs trained one trial each")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        contend(arguments.contender, arguments.seeds, arguments.naive_runs, arguments.out)
        return

    everything = 10**9
    with tempfile.TemporaryDirectory() as cache:
        environment = {"TORCHINDUCTOR_CACHE_DIR": cache}
        cold = measure("hpscan", arguments.seeds, everything, environment)
        reuse = measure("reuse_actors", arguments.seeds, everything, environment)
        warm = measure("hpscan", arguments.seeds, everything, environment)
        naive = measure("trial_a_run", arguments.seeds, arguments.naive_runs, environment)

    lines = [
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {version('torch')}, Ray {version('ray')}, hpscan {version('hpscan')}; "
        f"`python benchmarks/vs_ray_tune.py --seeds {arguments.seeds} --naive-runs {arguments.naive_runs}`",
        "",
        "| contender | runs | wall s | runs an hour | hpscan (cold) is |",
        "|---|---|---|---|---|",
    ]
    rate = len(cold[1]) / cold[0]
    for name, (seconds, found) in (
        ("hpscan, empty compile cache", cold),
        ("hpscan, warm compile cache", warm),
        ("Ray Tune, reuse_actors, stock torch.optim", reuse),
        ("Ray Tune, one trial a run, stock torch.optim", naive),
    ):
        own = len(found) / seconds
        times = "—" if name.startswith("hpscan") else f"{rate / own:.1f} × faster"
        lines.append(f"| {name} | {len(found)} | {seconds:.0f} | {own * 3600:,.0f} | {times} |")
    relative, signed, same_fate = agreement(cold[1], reuse[1])
    lines += [
        "",
        f"Same final metrics: over {len(relative)} runs the validation loss differs by {np.median(relative):.1e} in the "
        f"median, by {np.mean(signed):+.1e} on average, and {same_fate:.1%} of the runs agree on having diverged or not. "
        "Single runs drift apart where training is chaotic, as two orders of summation do anywhere.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if not (np.median(relative) < 0.02 and abs(np.mean(signed)) < 2e-3 and same_fate > 0.99):
        sys.exit("the contenders do not agree; the times mean nothing")
    (HERE / "vs_ray_tune.md").write_text(text)


if __name__ == "__main__":
    main()
