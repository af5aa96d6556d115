"""Results of other tools become a sweep: all of them, or it is said which not."""

import csv
import json

import numpy as np
import pytest

from hpscan.analysis import analyze, status
from hpscan.importing import import_sweep
from hpscan.landscape import landscapes
from hpscan.spec import SpecError
from hpscan.store import Store
from hpscan.workloads import WorkloadError


@pytest.fixture
def take_in(tmp_path):
    """Write rows as a CSV and import it; returns the store, the summary and the landscapes by name."""

    def run(rows, **options):
        path = tmp_path / "source.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        store = Store(tmp_path / "store")
        summary = import_sweep(store, "new", "csv", str(path), **options)
        spec = store.spec("new")
        return store, summary, {shape.name: shape for shape in landscapes(spec, store.runs("new"))}

    return run


def rows(lrs=(0.1, 0.2), wds=(0.0, 0.01), seeds=(0, 1), **more):
    return [
        {"lr": lr, "wd": wd, "seed": seed, "val_loss": lr + wd + seed / 100, **more}
        for lr in lrs for wd in wds for seed in seeds
    ]  # fmt: skip


def test_every_number_is_where_it_belongs(take_in):
    store, summary, found = take_in(rows(), variants=["adamw-torch"])
    shape = found["adamw-torch"]
    np.testing.assert_array_equal(shape.lr, [0.1, 0.2])
    np.testing.assert_array_equal(shape.wd, [0.0, 0.01])
    assert shape.seeds == (0, 1)
    np.testing.assert_array_equal(shape.z[1], [[0.1 + 0.01, 0.1 + 0.01 + 0.01], [0.2 + 0.01, 0.2 + 0.01 + 0.01]])
    assert not summary.lost
    assert store.sweeps() == ["new"]
    assert summary.spec.unknown == ("budget", "batch_size", "schedule", "decay_on", "optimizer", "training")


def test_states_follow_from_words_and_from_numbers(take_in):
    table = rows(seeds=[0])
    table[0] |= {"state": "finished", "val_loss": "NaN"}
    table[1] |= {"state": "failed", "val_loss": "", "error": "CUDA out of memory"}
    table[2] |= {"state": "pruned", "val_loss": 0.7}
    table[3] |= {"state": "killed"}
    table = [{"state": "", "error": "", **row} for row in table]
    store, summary, found = take_in(table, variants=["sgd"])
    assert found["sgd"].counts == {"completed": 0, "diverged": 1, "stopped": 1, "failed": 1, "missing": 1}
    assert summary.lost == {"killed, so not ended": 1}
    assert "CUDA out of memory" in set(store.runs("new")["error"].dropna())
    assert status(store, "new")["states"]["failed"] == 1


def test_what_is_left_out_is_counted_by_reason(take_in):
    table = rows(seeds=(0, 1, 2))
    table[0]["lr"] = ""
    table[1]["lr"] = -1
    table[2]["wd"] = "none"
    table[3]["seed"] = "x"
    table[4]["val_loss"] = ""
    table[5]["lr"] = "abc"
    table[6]["wd"] = ""
    table[7]["val_loss"] = "abc"
    table += [{**table[-1], "val_loss": 9.0}]
    _, summary, found = take_in(table, variants=["sgd"])
    assert summary.lost == {
        "without lr": 1, "lr is not a positive number": 2, "without wd": 1, "wd is not a number of at least 0": 1,
        "without a whole seed": 1, "without val_loss": 1, "val_loss is not a number": 1, "another of the same cell and seed came later": 1,
    }  # fmt: skip
    assert sum(summary.lost.values()) + sum(summary.runs["sgd"].values()) == summary.n_trials == 13
    assert np.nanmax(found["sgd"].z) == 9.0


def test_without_seeds_a_cells_trials_are_counted_and_copies_are_not(take_in):
    table = [{name: value for name, value in row.items() if name != "seed"} for row in rows(seeds=[0, 1, 2])]
    _, summary, found = take_in([*table, table[0]], variants=["sgd"])
    assert found["sgd"].seeds == (0, 1, 2)
    assert summary.lost == {"the same again": 1}
    assert summary.seeds_counted


def test_a_failed_trial_gives_way_to_another_of_the_same(take_in):
    table = [{"state": "finished", **row} for row in rows(seeds=[0])]
    _, summary, found = take_in([*table, {**table[0], "state": "failed"}], variants=["sgd"])
    assert found["sgd"].counts["completed"] == 4
    assert summary.lost == {"failed, and there is another of the same": 1}


def test_settings_and_sizes_become_axes_where_they_vary(take_in):
    table = [
        {**row, "momentum": momentum, "batch_size": 32, "steps": steps, "nesterov": "False"}
        for row in rows() for momentum in (0.0, 0.9) for steps in (100, 200)
    ]  # fmt: skip
    store, summary, found = take_in(table, variants=["sgd"])
    assert list(found) == [
        f"sgd steps={steps} momentum={momentum}" for steps in (100, 200) for momentum in ("0", "0.9")
    ]
    assert all(shape.counts["completed"] == 8 for shape in found.values())
    assert summary.spec.unknown == ("schedule", "decay_on", "training")
    assert set(store.runs("new")["batch_size"]) == {32}


def test_what_is_not_known_is_blank_and_can_be_told(take_in):
    store, summary, _ = take_in(rows(), variants=["sgd"], overrides=["budget.steps=500", "schedule=constant"])
    assert summary.spec.unknown == ("batch_size", "decay_on", "optimizer", "training")
    assert (summary.spec.steps, summary.spec.schedule.name) == (500, "constant")
    stored = store.runs("new")
    assert set(stored["steps"]) == {500}
    assert stored[["batch_size", "momentum"]].isna().all(axis=None)


def test_variants_are_renamed_and_an_ambiguous_name_is_refused(take_in):
    table = rows(variant="AdamW") + rows(variant="sgd")
    with pytest.raises(SpecError, match=r"variant: 'AdamW' is no variant of hpscan; say which, e.g. --variant AdamW="):
        take_in(table)
    _, summary, found = take_in(table, variants=["AdamW=adamw-torch"])
    assert list(found) == ["sgd", "adamw-torch"]
    assert summary.runs["adamw-torch"] == {"completed": 8}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "has no column variant"),
        ({"variants": ["adam-w"]}, "--variant adam-w: 'adam-w' is no variant"),
        ({"variants": ["sgd"], "overrides": ["seeds=2"]}, "--set seeds=2: only what a source does not say"),
        ({"variants": ["sgd"], "overrides": ["metric=val_error"]}, "--set metric=val_error: must be one of"),
        ({"variants": ["sgd"], "overrides": ["budget.epochs=2"]}, "budget: must be in steps for an imported sweep"),
        ({"variants": ["sgd"], "columns": {"lr": "alpha"}}, "--columns lr=alpha"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(take_in, tmp_path, options, message):
    with pytest.raises((SpecError, WorkloadError)) as refused:
        take_in(rows(), **options)
    assert message in str(refused.value)
    assert not (tmp_path / "store").exists()


def test_only_the_trials_asked_for_are_taken(take_in):
    table = rows(study="mine", host="a") + rows(lrs=(0.4, 0.8), study="other", host="a")
    _, summary, found = take_in(table, variants=["sgd"], only=["study=mine", "host=a"])
    assert summary.n_trials == 8
    np.testing.assert_array_equal(found["sgd"].lr, [0.1, 0.2])


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("study", "must be COLUMN=VALUE, as in study=mine; got 'study'"),
        ("studie=mine", "has no column 'studie'"),
        ("study=his", "no trial has it; study is mine, other"),
    ],
)
def test_a_choice_that_leaves_nothing_says_what_there_is(take_in, tmp_path, only, message):
    with pytest.raises(SpecError, match=message):
        take_in(rows(study="mine") + rows(study="other"), variants=["sgd"], only=[only])
    assert Store(tmp_path / "store").sweeps() == []


def test_a_name_is_taken_once(take_in):
    take_in(rows(), variants=["sgd"])
    with pytest.raises(SpecError, match="--sweep new: the store has a sweep of this name"):
        take_in(rows(), variants=["sgd"])


def test_a_source_of_which_nothing_can_be_used_says_why(take_in):
    with pytest.raises(SpecError, match="none of its 8 trials can be used: 8 lr is not a positive number"):
        take_in([{**row, "lr": 0} for row in rows()], variants=["sgd"])


def test_a_maximised_objective_must_be_turned_round(tmp_path):
    import optuna

    from tests.test_sources import journal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=journal(tmp_path / "j"), direction="maximize")
    space = {"lr": [0.1, 0.2], "wd": [0.0, 0.1]}
    study = optuna.create_study(
        storage=journal(tmp_path / "j"),
        study_name="g",
        direction="maximize",
        sampler=optuna.samplers.GridSampler(space),
    )
    study.optimize(lambda t: 0.9 - t.suggest_float("lr", 0, 1) / 10 - t.suggest_float("wd", 0, 1), n_trials=4)
    store = Store(tmp_path / "store")
    with pytest.raises(SpecError, match="--columns val_error=value: is maximised by its study"):
        import_sweep(store, "o", "optuna", str(tmp_path / "j"), columns={"val_error": "value"}, variants=["sgd"])
    import_sweep(store, "o", "optuna", str(tmp_path / "j"), columns={"val_error": "1-value"}, variants=["sgd"])
    (best,) = [variant.best for variant in analyze(store, "o").variants]
    assert (best.lr, best.wd) == (0.1, 0.0)
    assert best.means["val_error"] == pytest.approx(0.11)


def test_a_ray_experiments_trials_and_curves_are_kept(experiment, tmp_path):
    store = Store(tmp_path / "store")
    summary = import_sweep(store, "r", "ray", str(experiment), columns={"wd": "optimizer/wd"}, variants=["adamw-torch"])
    assert summary.lost == {"running, so not ended": 1, "failed, and there is another of the same": 1,
                            "another of the same cell and seed came later": 2}  # fmt: skip
    (row,) = store.runs("r").to_dict("records")
    assert (row["state"], row["seed"], row["lr"]) == ("diverged", 3, 0.1)  # the last of the same cell and seed
    assert store.curves("r")["val_loss"].tolist() == [0.9]
    assert json.loads(row["config"])["workload"]["kind"] == "ray"


def test_a_setting_that_a_variant_does_not_have_is_told_of(take_in):
    trials = [row for momentum in (0.8, 0.9) for row in rows(momentum=momentum)]
    _, summary, _ = take_in(trials, variants=["adamw"])
    assert summary.lost["values of momentum, which adamw does not have"] == len(trials)


def test_long_seeds_are_whole(take_in):
    seeds = (2**60, 2**60 + 1, 2**60 + 2)
    _, summary, _ = take_in(rows(seeds=seeds), variants=["sgdw"])
    assert (summary.spec.seeds, dict(summary.lost)) == (seeds, {})
