from dataclasses import replace

import numpy as np
import pytest

from hpscan.grid import runs
from hpscan.rounds import AdaptiveRounds, most_cells
from hpscan.spec import Spec, SpecError
from hpscan.store import Store

GRID = {"lr": {"log2": [-8, 0], "points": 9}, "wd": [0, *(2.0**e for e in range(-9, -1))]}


def trained(store, spec, chosen, state="completed"):
    """Store what would come of some runs: a bowl in lr and wd, with the seed's noise."""
    for number, pack in enumerate(chosen):
        rows = [
            {
                "run_id": run.run_id, "variant": run.cell.variant, "lr": run.cell.lr, "wd": run.cell.wd, "seed": run.seed,
                "config": "{}", "state": state,
                "val_loss": 1 + 0.02 * (np.log2(run.cell.lr) + 3) ** 2 + 0.02 * (np.log2(run.cell.wd + 2e-3) + 5) ** 2
                + 0.002 * run.seed,
            }
            for run in pack.runs
        ]  # fmt: skip
        store.save_pack(spec.name, f"{pack.pack_id}{number}", rows, [])


@pytest.fixture
def adaptive(make_spec, tmp_path):
    spec = make_spec(grid=GRID, adaptive={"most_cells": 0.4}, resources={"pack_size": 12, "workers": 2})
    store = Store(tmp_path)
    store.save_spec(spec)
    return spec, store


def all_rounds(spec, store, rounds=None):
    rounds = rounds or AdaptiveRounds(spec, store.location, frozenset(), 2)
    found = []
    while chosen := rounds.next():
        found.append(sorted(run.run_id for pack in chosen for run in pack.runs))
        trained(store, spec, chosen)
        assert len(found) < 50
    return found


def test_rounds_train_whole_cells_within_the_budget_and_end(adaptive):
    spec, store = adaptive
    found = all_rounds(spec, store)
    ids = [run_id for each in found for run_id in each]
    assert len(ids) == len(set(ids))
    stored = store.runs(spec.name)
    assert (stored.groupby(["variant", "lr", "wd"])["seed"].nunique() == 2).all()
    assert (stored.groupby("variant").size() <= 2 * most_cells(81, 0.4)).all()
    assert not AdaptiveRounds(spec, store.location, frozenset(ids), 2).next()


def test_the_same_results_lead_to_the_same_rounds(adaptive, tmp_path_factory):
    spec, store = adaptive
    other = Store(tmp_path_factory.mktemp("other"))
    other.save_spec(spec)
    assert all_rounds(spec, store) == all_rounds(spec, other)


def test_what_is_training_is_not_looked_at(adaptive):
    spec, store = adaptive
    rounds = AdaptiveRounds(spec, store.location, frozenset(), 2)
    first = rounds.next()
    training = {run.run_id for pack in first for run in pack.runs}
    trained(store, spec, first[:1])
    some = rounds.next(training)
    other = AdaptiveRounds(spec, store.location, frozenset(), 2, set(training))
    trained(store, spec, first)
    again = other.next(training)
    assert [pack.pack_id for pack in some] == [pack.pack_id for pack in again]


def test_a_cell_begun_is_finished_first(adaptive):
    spec, store = adaptive
    first = AdaptiveRounds(spec, store.location, frozenset(), 2).next()
    trained(store, spec, first[:1])
    stored = set(store.runs(spec.name)["run_id"])
    cells = {(run.cell, run.seed) for pack in first[:1] for run in pack.runs}
    partners = {run.run_id for run in runs(spec) if (run.cell, 1 - run.seed) in cells} - stored
    chosen = {
        run.run_id for pack in AdaptiveRounds(spec, store.location, frozenset(stored), 2).next() for run in pack.runs
    }
    assert partners <= chosen
    assert not chosen & stored


def test_failed_cells_are_neither_values_nor_chosen_again(adaptive):
    spec, store = adaptive
    rounds = AdaptiveRounds(spec, store.location, frozenset(), 2)
    trained(store, spec, rounds.next(), "failed")
    stored = frozenset(store.runs(spec.name)["run_id"])
    chosen = {run.run_id for pack in AdaptiveRounds(spec, store.location, stored, 2).next() for run in pack.runs}
    assert chosen
    assert not chosen & stored
    retried = {run.run_id for pack in AdaptiveRounds(spec, store.location, frozenset(), 2).next() for run in pack.runs}
    assert stored <= retried


def test_cells_that_failed_are_all_retried_before_any_new_one(adaptive):
    spec, store = adaptive
    rounds = AdaptiveRounds(spec, store.location, frozenset(), 2)
    while chosen := rounds.next():
        for pack in chosen:
            spoilt = tuple(run for run in pack.runs if run.cell.lr == 2.0**-5)
            trained(store, spec, [replace(pack, runs=tuple(run for run in pack.runs if run not in spoilt))])
            trained(store, spec, [replace(pack, runs=spoilt)] if spoilt else [], "failed")
    failed = set(store.runs(spec.name).query("state == 'failed'")["run_id"])
    done = frozenset(set(store.runs(spec.name)["run_id"]) - failed)
    (first, *_) = all_rounds(spec, store, AdaptiveRounds(spec, store.location, done, 2))
    assert set(first) == failed
    assert (store.runs(spec.name).groupby("variant").size() <= 2 * most_cells(81, 0.4)).all()
    assert set(store.runs(spec.name)["state"]) == {"completed"}


@pytest.mark.parametrize("row", [True, False])
def test_a_seed_that_fails_or_is_lost_does_not_keep_a_landscape_open(make_spec, tmp_path, row):
    spec = make_spec(grid=GRID, adaptive=True, resources={"pack_size": 12, "workers": 2})
    store, other = (Store(tmp_path / name) for name in ("spoilt", "whole"))
    for each in (store, other):
        each.save_spec(spec)
    whole = sum(map(len, all_rounds(spec, other)))
    rounds = AdaptiveRounds(spec, store.location, frozenset(), 2)
    while chosen := rounds.next():
        for pack in chosen:
            spoilt = [run for run in pack.runs if (run.cell.lr, run.cell.wd, run.seed) == (2.0**-3, 2.0**-5, 0)]
            trained(store, spec, [replace(pack, runs=tuple(run for run in pack.runs if run not in spoilt))])
            trained(store, spec, [replace(pack, runs=tuple(spoilt))] if spoilt and row else [], "failed")
    assert len(store.runs(spec.name)) < 1.2 * whole


def test_adaptive_changes_no_run(make_spec):
    plain, adaptive = make_spec(), make_spec(adaptive=True)
    assert [run.run_id for run in runs(plain)] == [run.run_id for run in runs(adaptive)]
    assert make_spec(adaptive=False).adaptive is None
    assert Spec.validated(adaptive.model_dump(mode="json")) == adaptive


def test_a_share_above_one_is_refused(make_spec):
    with pytest.raises(SpecError, match=r"`adaptive.most_cells`: .*1.5"):
        make_spec(adaptive={"most_cells": 1.5})
