"""What is told of cells, as text."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from starlette.testclient import TestClient

from hpscan.dashboards import cells
from hpscan.dashboards.callbacks import Pages
from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.reading import Reader
from hpscan.dashboards.server import make_app
from hpscan.dashboards.view import View
from hpscan.grid import runs
from hpscan.store import Store

from .conftest import curve_of, parts_of, result_of, text_of


def at(shape, i, j, **values):
    return {"name": f"tiny/{shape.name}", "cell": f"{i},{j}", **values}


def pointed(client, ids, at):
    """What the page answers where the pointer has been on maps, the last of them now."""
    outputs = [("hovered", "children"), ("over-wd", "figure"), ("over-lr", "figure"), ("slices", "className")]
    body = {
        "output": f"..{'...'.join('.'.join(each) for each in outputs)}..",
        "outputs": [{"id": one, "property": what} for one, what in outputs],
        "inputs": [[{"id": own, "property": "hoverData", "value": point} for own, point in zip(ids, at, strict=True)]],
        "state": [
            {"id": "view", "property": "data", "value": {}},
            [{"id": own, "property": "id", "value": own} for own in ids],
        ],
        "changedPropIds": [f"{json.dumps(ids[-1], sort_keys=True, separators=(',', ':'))}.hoverData"],
    }
    answer = client.post("/_dash-update-component", json=body, headers={"origin": str(client.base_url)})
    assert answer.status_code == 200, answer.text
    return answer.json()["response"]


def test_a_cell_tells_every_seed_its_mean_and_rank(reader):
    shape = reader.shape("tiny", "sgdw")
    i, j = shape.ranked()[0]
    told = text_of(cells._hovered(reader, View(), "tiny/sgdw", i, j))
    for seed, value in zip(shape.seeds, shape.z[:, i, j], strict=True):
        assert f"seed {seed} {value:.3f}" in told
    assert "rank 1 of 12" in told


def test_states_are_told_in_words(reader):
    shape = reader.shape("tiny", "sgd")
    i, j = np.argwhere((shape.states == "diverged").any(axis=0))[0]
    assert "diverged" in text_of(cells._hovered(reader, View(), "tiny/sgd", i, j))


def test_picked_cells_are_told_with_runs_curves_snippet_and_config(reader):
    shape = reader.shape("tiny", "sgdw")
    i, j = shape.ranked()[0]
    places = cells._picked(reader, View(), {"cells": [at(shape, i, j), at(shape, 0, 0), at(shape, i, j)]})
    assert places == [("tiny/sgdw", i, j), ("tiny/sgdw", 0, 0)]
    told = cells._told(reader, View(), places)
    for run_id in shape.run_ids[:, i, j]:
        assert run_id in text_of(told)
    assert "2 cells compared" in text_of(told)
    assert "torch.optim" in text_of(told)
    (graph,) = parts_of(told, "Graph")
    assert len(graph.figure["data"]) == 4


def test_cells_of_several_sweeps_are_told_apart(reader, store, make_spec):
    spec = make_spec(name="other", batch_size=32)
    store.save_spec(spec)
    rows = [row for run in runs(spec) if (row := result_of(run))]
    store.save_pack("other", "p", rows, [point for row in rows for point in curve_of(row)])
    told = cells._told(reader, View(), [("tiny/sgdw", 0, 0), ("other/sgdw", 0, 0)])
    (graph,) = parts_of(told, "Graph")
    assert [line["showlegend"] for line in graph.figure["data"]] == [True, False, True, False]
    assert [each.children[1].split(":")[0] for each in parts_of(told, "Li")[:2]] == ["tiny/sgdw", "other/sgdw"]


def test_maps_of_several_sweeps_under_the_pointer_are_told_apart(reader, store, make_spec):
    store.save_spec(make_spec(name="other"))
    with TestClient(make_app(reader, Launcher(store)), base_url="http://localhost") as client:
        names = ["tiny/sgdw", "other/sgdw"]
        ids = [{"type": "map", "name": name} for name in names]
        told = pointed(client, ids, [None, {"points": [{"x": -4, "y": -4}]}])
    assert "other/sgdw" in json.dumps(told["hovered"])
    assert [line["name"] for line in told["over-wd"]["figure"]["data"]] == names


@pytest.mark.parametrize(("wall_s", "told"), [(0.0123, "0.012"), (9.96, "10"), (98.6, "99"), (123.4, "123"), (12345.6, "12,346")])  # fmt: skip
def test_the_seconds_of_a_run_are_no_power_of_ten(wall_s, told):
    frame = pd.DataFrame([{"seed": 0, "state": "completed", "wall_s": wall_s, "run_id": "x", "error": None}])
    assert cells._rows(frame, "a", [])[0][3] == told


def test_one_best_cell_is_called_so(shape):
    alone = replace(shape, lr=shape.lr[:1], wd=shape.wd[2:3], states=shape.states[:, :1, 2:3], values={"val_loss": shape.z[:, :1, 2:3]}, run_ids=shape.run_ids[:, :1, 2:3])  # fmt: skip
    assert "The best cell" in text_of(cells.best_cells(alone, "tiny/sgdw"))


def test_an_error_of_a_run_is_text_and_nothing_else(reader):
    shape = reader.shape("tiny", "sgd")
    i, j = np.argwhere((shape.states == "failed").any(axis=0))[0]
    told = cells._told(reader, View(), [("tiny/sgd", int(i), int(j))])
    assert "RuntimeError: <b>boom</b>" in text_of(told)
    assert not parts_of(told, "Markdown")


def test_a_cell_beyond_the_grid_is_left_out(reader):
    shape = reader.shape("tiny", "sgdw")
    assert cells._picked(reader, View(), {"cells": [at(shape, 99, 0)]}) == []


def test_a_refined_spec_can_be_launched_and_holds_the_old_grid(reader, store):
    pages = Pages(None, reader, Launcher(store))
    shape = reader.shape("tiny", "sgdw")
    text, told = cells._refined(pages, View(), {"cells": [at(shape, 1, 1)]})
    spec = pages.launcher.check(text, cost=False).spec
    assert set(shape.lr) < set(spec.grid.axes("sgdw")[0])
    assert spec.grid.axes("sgd") == reader.spec("tiny").grid.axes("sgd")
    assert "hpscan launch refined.yaml" in text_of(told)
    assert not parts_of(told, "Button")  # launching is off
    assert yaml.safe_load(text)["name"] == "tiny"


def test_refining_asks_for_the_grid_s_own_units(reader, store):
    shape = reader.shape("tiny", "sgdw")
    pages = Pages(None, reader, Launcher(store))
    text, told = cells._refined(pages, View(units="torch"), {"cells": [at(shape, 1, 1)]})
    assert text == ""
    assert "own" in text_of(told)


@pytest.mark.parametrize("units", ["", "torch", "paper"])
def test_units_change_where_a_cell_lies_and_not_what_it_is(reader, units):
    shape = cells.drawn(reader, View(units=units), "tiny/sgdw")
    own = reader.shape("tiny", "sgdw")
    assert sorted(filter(None, shape.run_ids.ravel())) == sorted(own.run_ids.ravel())


def test_code_is_of_the_cell_s_own_training_in_whatever_units_it_is_drawn(reader):
    own, view = reader.shape("tiny", "sgdw"), View(units="torch")
    shape = cells.drawn(reader, view, "tiny/sgdw")
    trained = shape.run_ids[0] != ""
    told = set()
    for i, j in np.argwhere(trained):
        (at,) = np.argwhere(own.run_ids[0] == shape.run_ids[0, i, j])
        code = text_of(cells._snippet(reader, view, ("tiny/sgdw", i, j)))
        assert code == text_of(cells._snippet(reader, View(), ("tiny/sgdw", *at)))
        told.add(code)
    assert len(told) == 12
    for i, j in np.argwhere(~trained):
        assert text_of(cells._snippet(reader, view, ("tiny/sgdw", i, j))) == "This cell has no training of its own."


@pytest.mark.parametrize(
    ("unknown", "held", "left_out"),
    [
        (["optimizer", "decay_on", "schedule"], [], ["betas", "weight matrices", "below", "no such optimizer"]),
        (["decay_on"], ["betas"], ["weight matrices", "below", "no such optimizer"]),
        (["schedule"], ["betas", "Decay on weight matrices only."], ["below", "no such optimizer"]),
    ],
)
def test_what_the_source_of_a_sweep_does_not_say_is_not_told_as_code(tmp_path, make_spec, unknown, held, left_out):
    workload = {"name": "imported", "kind": "csv", "source": "x.csv", "unknown": unknown}
    spec, store = make_spec(name="taken", variants=["adamw"], workload=workload), Store(tmp_path / "taken")
    store.save_spec(spec)
    rows = [{**result_of(run), "val_f1": 0.25} for run in runs(spec) if run.seed == 0]
    store.save_pack("taken", "p", rows, [])
    told = text_of(cells._told(Reader(store), View(metric="val_f1"), [("taken/adamw", 0, 0)]))
    assert "does not say enough" in told
    for words in held:
        assert words in told
    for words in left_out:
        assert words not in told
    assert "yet" not in told
    assert "validation f1" in told
    assert "0.250" in told


@pytest.mark.parametrize(("pointed", "left_out"), [(0, {8, 9, 10, 11}), (7, {8, 9, 10, 11}), (9, {7, 8, 10, 11})])
def test_the_map_under_the_pointer_is_among_those_whose_slices_are_drawn(pointed, left_out):
    ids = [{"type": "map", "name": f"tiny/{k}"} for k in range(12)]
    assert cells._sliced(ids, ids[pointed]) == [each for k, each in enumerate(ids) if k not in left_out]


def test_the_rank_under_the_pointer_is_that_of_what_is_drawn(reader):
    views = View(), View(step=6), View(units="torch"), View()
    for view in views:
        shape = cells.drawn(reader, view, "tiny/sgdw")
        for place, (i, j) in enumerate(shape.ranked(), 1):
            assert f"rank {place} of " in text_of(cells._hovered(reader, view, "tiny/sgdw", i, j))
