from datetime import UTC, datetime

import pytest

from hpscan import choice
from hpscan.course import Course
from hpscan.estimate import estimate
from hpscan.grid import runs
from hpscan.rungs import next_round
from hpscan.store import Store

RAISING = """
import numpy as np
from torch import nn
import hpscan

class Raising(nn.Linear):
    def forward(self, x):
        raise ValueError("not this one")

def make():
    split = hpscan.Split(np.ones((64, 3), np.float32), np.zeros(64, np.int64))
    return hpscan.UserWorkload(lambda: hpscan.Data(split, split, split), hpscan.classification(lambda: Raising(3, 2)))
"""


@pytest.fixture(autouse=True)
def _nothing_chosen_yet(monkeypatch):
    monkeypatch.setattr(choice, "_choices", {})


def stored(run, device_s=0.024):
    return {"run_id": run.run_id, "variant": run.cell.variant, "state": "completed", "device_s": device_s,
            "steps_done": run.recipe.steps, "finished_at": datetime.now(UTC)}  # fmt: skip


def test_an_unknown_sweep_is_probed_and_nothing_is_written(tmp_path, make_spec):
    cost = estimate(make_spec(), Store(tmp_path / "store"))
    assert (cost.n_runs, cost.n_stored) == (72, 0)
    assert cost.by_variant == {"sgd": 24, "sgdw": 24, "adamw": 24}
    assert 0 < cost.parts[0].seconds_per_run_step < 0.01
    assert "tried uncompiled" in cost.text()
    assert not (tmp_path / "store").exists()


def test_stored_runs_say_what_a_run_costs(tmp_path, make_spec):
    spec, store = make_spec(), Store(tmp_path)
    store.save_pack(spec.name, "p", [stored(run) for run in runs(spec)[:40]], [])
    cost = estimate(spec, store)
    assert cost.n_stored == 40
    assert sum(cost.by_variant.values()) == 32
    assert cost.parts[0].seconds_per_run_step == 0.024 / 12
    assert "measured on this sweep's stored runs" in cost.text()


def test_one_pack_is_one(tmp_path, make_spec):
    spec = make_spec(variants=["sgd"], grid={"lr": [0.1], "wd": [0]}, seeds=1, resources={"workers": 1})
    assert (
        estimate(spec, Store(tmp_path)).text().startswith("tiny: 1 run of 12 steps; 0 stored, 1 to train in 1 pack\n")
    )


def test_packs_that_a_launch_goes_on_with_are_counted_as_it_cuts_them(tmp_path, make_spec):
    spec, store = make_spec(resources={"pack_size": 8, "workers": 1}), Store(tmp_path)
    course = Course(spec, store.location, runs(spec), 1, next_round(spec, store))
    for pack in course.packs():  # of each half is stored, and the rest can be gone on with
        store.save_pack(spec.name, pack.pack_id, [stored(run) for run in pack.runs[:4]], [])
        store.save_checkpoint(spec.name, pack.pack_id, b"")
    left = Course(spec, store.location, runs(spec), 1, next_round(spec, store)).packs()
    assert len(left) == estimate(spec, store).n_packs == 9


def test_what_a_launch_would_refuse_is_told_unless_it_is_meant(tmp_path, make_spec):
    spec, store = make_spec(), Store(tmp_path)
    store.save_spec(spec)
    store.save_pack(spec.name, "p", [stored(run) for run in runs(spec)], [])
    longer = make_spec(budget={"steps": 13})
    assert (
        "a launch would be refused: tiny: steps is 12 in the store and 13 in this spec"
        in estimate(longer, store).text()
    )
    assert "refused" not in estimate(longer, store, revise=True).text()
    assert "refused" not in estimate(spec, store).text()


def test_a_finished_sweep_costs_nothing(tmp_path, make_spec):
    spec, store = make_spec(), Store(tmp_path)
    store.save_pack(spec.name, "p", [stored(run) for run in runs(spec)], [])
    assert estimate(spec, store).wall_s == 0.0
    assert "0 to train" in estimate(spec, store).text()


def test_an_adaptive_sweep_costs_what_it_trains_at_most(tmp_path, make_spec):
    spec, store = make_spec(adaptive={"most_cells": 0.5}), Store(tmp_path)
    whole, cost = estimate(make_spec(), store), estimate(spec, store)
    assert (whole.to_train, cost.n_runs, cost.n_stored, cost.to_train) == (72, 72, 0, 36)
    assert cost.parts[0].run_steps == whole.parts[0].run_steps / 2
    assert "at most 50.0% of each landscape's cells" in cost.text()

    cell = runs(spec)[0].cell
    store.save_pack(spec.name, "p", [stored(run) for run in runs(spec) if run.cell == cell][:1], [])
    begun = estimate(spec, store)
    assert (begun.n_stored, begun.to_train) == (1, 35)  # the cell's other seeds, and one cell less
    store.save_pack(spec.name, "all", [stored(run) for run in runs(spec)], [])
    assert estimate(spec, store).to_train == 0


def test_every_recipe_has_its_price(tmp_path, make_spec):
    spec, store = make_spec(grid={"lr": [0.1], "wd": [0.0, 0.1], "steps": [10, 40], "width": [4, 8]}), Store(tmp_path)
    cheap = [run for run in runs(spec) if run.recipe.workload.model.hidden == (4,) and run.recipe.steps == 10]
    store.save_pack(spec.name, "p", [stored(run, 0.001 * run.recipe.steps) for run in cheap[:6]], [])
    cost = estimate(spec, store)
    assert [(part.name, part.steps, part.n_runs) for part in cost.parts] == [
        ("steps 10, width 4", 10, 6), ("steps 10, width 8", 10, 12),
        ("steps 40, width 4", 40, 12), ("steps 40, width 8", 40, 12),
    ]  # fmt: skip
    narrow, wide, narrow_long, wide_long = cost.parts
    # what a run-step takes is measured where runs of that width are stored, and tried out for the other
    assert narrow.seconds_per_run_step == narrow_long.seconds_per_run_step == 0.001
    assert "measured" in narrow_long.rate
    assert wide.seconds_per_run_step == wide_long.seconds_per_run_step
    assert "tried uncompiled" in wide.rate
    assert wide.flop_per_run_step > narrow.flop_per_run_step
    assert cost.core_s == sum(part.n_runs * part.steps * part.seconds_per_run_step for part in cost.parts)
    assert "48 runs of 10 to 40 steps; 6 stored, 42 to train" in cost.text()
    assert "steps 40, width 8: 12 runs of 40 steps, about" in cost.text()


def test_what_is_tried_is_what_a_launch_would_choose(make_spec, tmp_path):
    chosen = []
    for strategy in ("fused", "loop"):
        spec = make_spec(resources={"strategy": strategy}, budget={"steps": 13})
        estimate(spec, Store(tmp_path))
        chosen += [each.strategy for of_one in choice._choices.values() for each in of_one.values()]
        choice._choices.clear()
    assert chosen == ["fused", "loop"]
    many = make_spec(seeds=2000, workload={**make_spec().workload.model_dump(), "model": "plain_mlp"})
    estimate(many, Store(tmp_path))
    (found,) = (each for of_one in choice._choices.values() for each in of_one.values())
    assert "too few to try them fused" not in found.reason


def test_a_model_that_raises_is_told_of(make_spec, tmp_path):
    (tmp_path / "raising.py").write_text(RAISING)
    spec = make_spec(workload={"factory": "raising:make", "folder": str(tmp_path)})
    assert "cannot be tried: ValueError: not this one" in estimate(spec, Store(tmp_path)).text()
