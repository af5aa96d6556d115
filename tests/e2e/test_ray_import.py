"""A real Ray Tune experiment, taken in."""

import os
import subprocess
import sys

import pytest

from hpscan.analysis import analyze
from hpscan.importing import import_sweep
from hpscan.store import Store

EXPERIMENT = """
import math, sys
import ray
from ray import tune

def train(config):
    lr, wd = config["lr"], config["optimizer"]["wd"]
    for step in range(1, 4):
        if lr == 0.1 and config["seed"] == 0 and wd == 0.0:
            raise RuntimeError("boom")
        loss = (math.log10(lr) + 2) ** 2 + 10 * (wd - 0.01) ** 2 + 1 / step + 0.01 * config["seed"]
        tune.report({"val_loss": math.nan if lr == 1.0 else loss, "lr": 0.0})

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False)
    axes = {
        "lr": tune.grid_search([0.001, 0.01, 0.1, 1.0]),
        "optimizer": {"wd": tune.grid_search([0.0, 0.01, 0.1])},
        "seed": tune.grid_search([0, 1]),
    }
    run = tune.RunConfig(name="experiment", storage_path=sys.argv[1], verbose=0)
    tune.Tuner(train, param_space=axes, run_config=run, tune_config=tune.TuneConfig(reuse_actors=True)).fit()
"""


@pytest.mark.slow
def test_an_experiment_of_ray_tunes_is_taken_in_whole(tmp_path):
    (tmp_path / "experiment.py").write_text(EXPERIMENT)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TUNE_", "RAY_"))}
    subprocess.run([sys.executable, tmp_path / "experiment.py", tmp_path], env=env, check=True, timeout=400)
    store = Store(tmp_path / "store")
    columns = {"wd": "optimizer/wd"}
    import_sweep(store, "r", "ray", str(tmp_path / "experiment"), columns=columns, variants=["adamw-torch"])
    (variant,) = analyze(store, "r").variants
    assert variant.landscape.counts == {"completed": 17, "diverged": 6, "stopped": 0, "failed": 1, "missing": 0}
    assert (variant.best.lr, variant.best.wd) == (0.01, 0.01)
    assert variant.best.means["val_loss"] == pytest.approx(1 / 3 + 0.005)
    assert store.runs("r")["error"].dropna().tolist() == ["RuntimeError: boom"]
    curves = store.curves("r")
    assert len(curves) == 17 * 3
    assert curves["step"].max() == 3
