"""What a reader must know is found in the sweep, and what is not so is not said."""

import math
import shlex
from datetime import UTC, datetime

import pytest

from hpscan.analysis import analyze
from hpscan.caveats import caveats, command
from hpscan.grid import runs
from hpscan.refine import refined
from hpscan.store import METRICS, Store


def swept(tmp_path, spec, value):
    """A store with every run of a spec, its metric a function of the run."""
    store = Store(tmp_path / "my results")
    store.save_spec(spec)
    rows = [
        {"run_id": run.run_id, "variant": run.cell.variant, "lr": run.cell.lr, "wd": run.cell.wd, "seed": run.seed,
         "state": "completed", **dict.fromkeys(METRICS, value(run)), "finished_at": datetime.now(UTC)}
        for run in runs(spec)
    ]  # fmt: skip
    store.save_pack(spec.name, "p", rows, [])
    return store


def told(store, sweep="tiny"):
    return [" ".join(part for part in caveat if part) for caveat in caveats(analyze(store, sweep))]


def test_missing_uneven_and_diverged_runs_are_told(filled):
    text = "\n".join(told(filled))
    assert "adamw 25 of 75 runs are missing." in text
    assert "adamw the best cell has 2 of 3 seeds so far." in text
    assert "sgd 3 of 75 runs (4%) diverged." in text
    assert "The test set is used for nothing but reporting." in text
    assert not any(line.startswith("sgdw") for line in text.splitlines())


def test_diverged_runs_are_a_share_of_those_trained(tmp_path, make_spec):
    spec = make_spec(name="tiny", variants=["sgdw"])
    store = Store(tmp_path)
    store.save_spec(spec)
    rows = [
        {"run_id": run.run_id, "variant": "sgdw", "lr": run.cell.lr, "wd": run.cell.wd, "seed": run.seed,
         "state": state, "finished_at": datetime.now(UTC)}
        for run, state in zip(runs(spec), ["diverged", "failed"] * 5, strict=False)
    ]  # fmt: skip
    store.save_pack(spec.name, "p", rows, [])
    n_runs = len(runs(spec))
    text = "\n".join(told(store))
    assert "sgdw 5 of 10 runs (50%) diverged." in text
    assert f"sgdw 5 of {n_runs} runs failed." in text
    assert f"sgdw {n_runs - 10} of {n_runs} runs are missing." in text


def test_an_edge_comes_with_the_command_that_extends_the_grid(tmp_path, make_spec, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = make_spec(name="tiny", variants=["sgdw"])
    store = swept(tmp_path, spec, lambda run: 3 + math.log2(run.cell.lr) / 10 + run.cell.wd)
    (caveat,) = [caveat for caveat in caveats(analyze(store, spec.name)) if "edge" in caveat[1]]
    words = shlex.split(caveat[2])
    assert words == ["hpscan", "refine", "tiny", "--store", "my results"]
    shapes = [variant.landscape for variant in analyze(store, spec.name).variants]
    assert refined(spec, shapes).changes  # and there is something for it to do


@pytest.mark.parametrize(("noise", "said"), [(0.0, False), (1.0, True)])
def test_a_lead_within_the_noise_is_told(tmp_path, make_spec, noise, said):
    spec = make_spec(name="tiny", variants=["sgdw"], seeds=[0, 1, 2])

    def value(run):
        wobble = noise * math.sin(1e4 * run.cell.lr * (run.seed + 1) + 1e5 * run.cell.wd)
        return 2 + 0.01 * (math.log2(run.cell.lr) + 4.1) ** 2 + 0.01 * (math.log2(run.cell.wd) + 5.2) ** 2 + wobble

    assert any("less than the noise" in text for text in told(swept(tmp_path, spec, value))) == said


def test_unusual_options_are_told(tmp_path, make_spec):
    usual = told(swept(tmp_path / "1", make_spec(seeds=[0, 1]), lambda run: 1 + run.cell.lr))
    assert not any(text.startswith(("One seed", "Label noise", "Augmentation", "Training")) for text in usual)
    workload = {"name": "digits", "model": {"name": "normalised_mlp", "hidden": [8]}, "train": 200, "label_noise": 0.2}
    spec = make_spec(seeds=[0], workload=workload, training={"clip_norm": 1.0})
    text = "\n".join(told(swept(tmp_path / "2", spec, lambda run: 1 + run.cell.lr)))
    assert "One seed a cell" in text
    assert "20% of the training labels are random" in text
    assert "clip_norm 1.0" in text


def test_a_command_names_the_store_only_where_it_must(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(Store("results"), "refine", "a") == "hpscan refine a"
    assert command(Store("other"), "refine", "a") == "hpscan refine a --store other"
    assert command(Store(tmp_path.parent / "x"), "refine", "a") == f"hpscan refine a --store {tmp_path.parent / 'x'}"


def test_a_command_tells_no_keys(aws):
    assert (
        command(Store("s3://KEY:SECRET@bucket/p?region=eu-1"), "refine", "a") == "hpscan refine a --store s3://bucket/p"
    )
