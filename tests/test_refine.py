import numpy as np
import pytest

from hpscan.grid import Pack, runs
from hpscan.landscape import landscapes
from hpscan.refine import refined, refined_within
from hpscan.spec import SpecError
from hpscan.store import Store
from tests.test_rounds import GRID, all_rounds, trained


@pytest.fixture
def full(make_spec, tmp_path):
    """A sweep of which every cell is stored: a bowl about lr 2⁻³."""
    spec = make_spec(grid=GRID, variants=["sgdw"], adaptive={"most_cells": 1.0})
    store = Store(tmp_path)
    store.save_spec(spec)
    all_rounds(spec, store)
    return spec, store


def shapes(spec, store):
    return landscapes(spec, store.runs(spec.name))


def test_finer_puts_midpoints_about_the_basin_and_keeps_every_run(full):
    spec, store = full
    found = refined(spec, shapes(spec, store))
    before, after = (set(of.grid.axes("sgdw")[0]) for of in (spec, found.spec))
    new = after - before
    assert before < after
    assert all(any(np.isclose(tick, np.sqrt(low * high)) for low in before for high in before) for tick in new)
    assert min(new) > 2.0**-8 * 1.3
    assert {run.run_id for run in runs(spec)} < {run.run_id for run in runs(found.spec)}
    assert any("lr finer" in line for line in found.changes)


def test_a_refined_sweep_trains_only_what_is_new(full):
    spec, store = full
    stored = set(store.runs(spec.name)["run_id"])
    again = refined(spec, shapes(spec, store)).spec
    chosen = {run_id for each in all_rounds(again, store) for run_id in each}
    assert chosen
    assert not chosen & stored
    assert len(stored | chosen) < len(runs(again))


def test_a_best_cell_on_an_edge_asks_for_a_wider_grid_with_its_spacing(make_spec, tmp_path):
    grid = {"lr": {"log2": [-12, -5], "points": 8}, "wd": {"log2": [-9, -2], "points": 8}}
    spec = make_spec(grid=grid, variants=["sgdw"], adaptive={"most_cells": 1.0})
    store = Store(tmp_path)
    store.save_spec(spec)
    all_rounds(spec, store)
    found = refined(spec, shapes(spec, store))
    assert set(found.spec.grid.axes("sgdw")[0]) - set(spec.grid.axes("sgdw")[0]) == {2.0**-4, 2.0**-3}
    with pytest.raises(SpecError, match="nothing to refine"):
        refined(spec, shapes(spec, store), finer=False, wider=False)


def test_nothing_stored_is_nothing_to_refine(make_spec, tmp_path):
    spec = make_spec()
    store = Store(tmp_path)
    store.save_spec(spec)
    with pytest.raises(SpecError, match="nothing to refine"):
        refined(spec, shapes(spec, store))


def test_refining_within_a_box_adds_ticks_between_and_beside_its_cells_of_that_landscape_alone(full):
    spec, store = full
    (shape,) = shapes(spec, store)
    found = refined_within(spec, [shape], shape, [(2, 1), (3, 1)])
    for axis, old, chosen in (("lr", shape.lr, (2, 3)), ("wd", shape.wd, (1,))):
        new = sorted(set(found.spec.grid.axes("sgdw")[("lr", "wd").index(axis)]) - set(old))
        low, high = old[max(min(chosen) - 1, 0)], old[max(chosen) + 1]
        assert new
        assert all(low < tick < high for tick in new)
    assert {run.run_id for run in runs(spec)} < {run.run_id for run in runs(found.spec)}


def test_nothing_lies_beside_a_grid_of_one_cell(make_spec, make_landscape):
    spec = make_spec(variants=["sgdw"], grid={"lr": [0.1], "wd": [0.1]})
    shape = make_landscape(np.ones((1, 1, 1)))
    with pytest.raises(SpecError, match="nothing to refine"):
        refined_within(spec, [shape], shape, [(0, 0)])


def test_of_a_halved_sweep_new_cells_are_trained_to_the_end_and_what_was_stopped_stays(make_spec, tmp_path):
    spec = make_spec(grid=GRID, variants=["sgdw"], stop="halving", evaluations=2)
    store = Store(tmp_path)
    store.save_spec(spec)
    for state in ("stopped", "completed"):
        high = [run for run in runs(spec) if (run.cell.lr < 2**-4) == (state == "stopped")]
        trained(store, spec, [Pack(tuple(high), len(high))], state)
    found = refined(spec, shapes(spec, store))
    assert found.changes[-1].startswith("stop: diverged;")
    assert found.spec.stop.name == "diverged"
    chosen = {run_id for each in all_rounds(found.spec, store) for run_id in each}
    assert chosen
    assert not chosen & {run.run_id for run in runs(spec)}
