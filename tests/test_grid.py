import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpscan.differences import differences
from hpscan.grid import IDENTITY, Leg, Recipe, packs, panels, runs
from hpscan.spec import Spec
from tests.conftest import TINY

recipe_axes = st.fixed_dictionaries(
    {},
    optional={
        "steps": st.lists(st.integers(1, 40), min_size=1, max_size=3, unique=True),
        "batch_size": st.lists(st.integers(2, 40), min_size=1, max_size=2, unique=True),
        "width": st.lists(st.integers(1, 40), min_size=1, max_size=2, unique=True),
    },
)
small_axes = st.integers(1, 6).map(lambda points: [2.0**-exponent for exponent in range(1, points + 1)])


@st.composite
def raw_specs(draw):
    return {
        **TINY,
        "variants": draw(st.lists(st.sampled_from(["sgd", "sgdw", "adam", "adamw"]), min_size=1, unique=True)),
        "grid": {"lr": draw(small_axes), "wd": draw(small_axes), **draw(recipe_axes)},
        "seeds": draw(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)),
        "resources": {"pack_size": draw(st.integers(1, 40))},
    }


def ids(spec):
    return [run.run_id for run in runs(spec)]


def packed(spec, done=(), workers=1):
    return packs(runs(spec), spec.resources.most_runs, done, workers)


@given(raw_specs())
@settings(max_examples=60, deadline=None)
def test_packs_hold_every_run_once_and_respect_their_size(raw):
    spec = Spec.validated(raw)
    planned = packed(spec)
    assert sorted(run.run_id for pack in planned for run in pack.runs) == sorted(set(ids(spec)))
    assert sum(len(pack.runs) for pack in planned) == spec.n_runs
    assert all(len(pack.runs) <= pack.capacity <= spec.resources.pack_size for pack in planned)
    assert len({pack.capacity for pack in planned}) == 1
    assert all(len({(run.cell.variant, run.recipe.identity) for run in pack.runs}) == 1 for pack in planned)


@given(raw_specs())
@settings(max_examples=30, deadline=None)
def test_planning_is_deterministic(raw):
    spec = Spec.validated(raw)
    assert packed(spec) == packed(Spec.validated(spec.model_dump(mode="json")))


@given(raw_specs(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_relaunch_plans_exactly_what_is_missing_at_the_same_capacity(raw, data):
    spec = Spec.validated(raw)
    done = data.draw(st.sets(st.sampled_from(ids(spec))))
    workers = data.draw(st.integers(1, 9))
    whole, rest = packed(spec, (), workers), packed(spec, done, workers)
    assert sorted(run.run_id for pack in rest for run in pack.runs) == sorted(set(ids(spec)) - done)
    assert {pack.capacity for pack in rest} <= {whole[0].capacity}
    assert all(len(pack.runs) <= pack.capacity for pack in rest)
    # a pack of which nothing is done is the same pack: a checkpoint of it is still good
    untouched = {pack.pack_id for pack in whole if not done & {run.run_id for run in pack.runs}}
    assert untouched <= {pack.pack_id for pack in rest}


@given(raw_specs(), st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_left_of_a_pack_that_has_a_checkpoint_stays_together_and_goes_by_its_name(raw, data):
    spec = Spec.validated(raw)
    done = data.draw(st.sets(st.sampled_from(ids(spec))))
    whole = packed(spec)
    kept = data.draw(st.sets(st.sampled_from([pack.pack_id for pack in whole])))
    rest = packs(runs(spec), spec.resources.most_runs, done, checkpoints=kept | {"another"})
    assert sorted(run.run_id for pack in rest for run in pack.runs) == sorted(set(ids(spec)) - done)
    by_name = {pack.name: pack for pack in rest}
    assert len(by_name) == len(rest)
    for pack in whole:
        left = tuple(run for run in pack.runs if run.run_id not in done)
        if pack.pack_id in kept and left:
            found = by_name[pack.pack_id]
            assert found.runs == left
            assert found.rest_of == (None if left == pack.runs else pack.pack_id)


@given(raw_specs())
@settings(max_examples=30, deadline=None)
def test_a_run_id_is_the_hash_of_the_canonical_config(raw):
    for run in runs(Spec.validated(raw)):
        canonical = json.dumps([IDENTITY, run.config], sort_keys=True, separators=(",", ":"), allow_nan=False)
        assert run.run_id == hashlib.sha256(canonical.encode()).hexdigest()[:16]


@given(raw_specs(), st.sampled_from(["lr", "wd", "seeds", "variants", "steps", "batch_size", "width"]))
@settings(max_examples=60, deadline=None)
def test_extending_a_spec_keeps_every_run_and_plans_only_the_new_ones(raw, what):
    spec = Spec.validated(raw)
    if what in {"steps", "batch_size", "width"}:
        own = {"steps": TINY["budget"]["steps"], "batch_size": TINY["batch_size"], "width": 8}[what]
        raw = {**raw, "grid": {**raw["grid"], what: [*raw["grid"].get(what, [own]), 41]}}
    elif what in {"lr", "wd"}:
        raw = {**raw, "grid": {**raw["grid"], what: [*raw["grid"][what], 0.9]}}
    elif what == "seeds":
        raw = {**raw, "seeds": [*raw["seeds"], 100]}
    else:
        raw = {**raw, "variants": sorted({*raw["variants"], "sgd", "lion"})}
    wider = Spec.validated(raw)
    assert set(ids(spec)) < set(ids(wider))
    new = {run.run_id for pack in packed(wider, ids(spec)) for run in pack.runs}
    assert new == set(ids(wider)) - set(ids(spec))
    assert differences(spec, wider) == {}


@pytest.mark.parametrize(("workers", "n_packs"), [(1, 94), (2, 94), (64, 127), (5000, 2985)])
def test_packs_come_in_whole_rounds_of_the_workers(workers, n_packs):
    spec = Spec.load("quickstart")
    assert len(runs(spec)) == 2985
    planned = packed(spec, (), workers)
    assert n_packs <= len(planned) <= n_packs + len(spec.variants)
    assert max(len(pack.runs) for pack in planned) <= 32


def test_extending_a_grid_changes_no_run_id(make_spec):
    narrow = make_spec(grid={"lr": {"log2": [-6, -2], "points": 5}, "wd": {"log10": [-4, -1], "points": 4}})
    wide = make_spec(
        grid={"lr": {"log2": [-8, 0], "points": 9}, "wd": {"log10": [-5, 0], "points": 6}},
        seeds=[0, 1, 7],
        variants=["adam", "sgd", "sgdw", "adamw"],
    )
    assert set(ids(narrow)) < set(ids(wide))


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"steps": 13}},
        {"batch_size": 17},
        {"schedule": "constant"},
        {"decay_on": "all"},
        {"workload": {**TINY["workload"], "label_noise": 0.1}},
        {"optimizer": {"momentum": 0.8, "betas": [0.8, 0.9]}},
        {"training": {"ema": 0.99}},
        {"training": {"accumulate": 2}},
        {"evaluations": 3},
    ],
    ids=str,
)
def test_whatever_changes_a_result_changes_every_run_id(make_spec, change):
    assert not set(ids(make_spec())) & set(ids(make_spec(**change)))


@pytest.mark.parametrize(
    "change",
    [
        {"notes": "x"}, {"name": "other"}, {"metric": "val_error"}, {"resources": {"workers": 1, "pack_size": 3}},
        {"budget": {"epochs": 0.96}}, {"grid": {"lr": [0.015625, "6.25e-2", 0.25], "wd": {"log2": [-8, -2], "points": 4}}},
    ],
    ids=str,
)  # fmt: skip
def test_what_changes_no_result_changes_no_run_id(make_spec, change):
    assert set(ids(make_spec())) == set(ids(make_spec(**change)))


def test_an_optimizers_constants_concern_its_own_runs_only(make_spec):
    plain, other_betas = make_spec(), make_spec(optimizer={"betas": [0.8, 0.99]})
    same = {run.cell.variant for run in runs(plain) if run.run_id in set(ids(other_betas))}
    assert same == {"sgd", "sgdw"}


def test_run_ids_are_what_they_have_always_been():
    """A change of these ids makes every stored result missing: it needs a new IDENTITY and a word in the changelog."""
    digest = hashlib.sha256(" ".join(ids(Spec.validated(TINY))).encode()).hexdigest()[:16]
    assert digest == "663513d30b1a0716"


def test_the_config_holds_every_field_of_the_recipe(make_spec):
    run = runs(make_spec())[0]
    config = json.loads(json.dumps(run.config))
    spelt_out_elsewhere = {"momentum_form", "training"}
    assert set(Recipe.__dataclass_fields__) - spelt_out_elsewhere <= set(config)
    assert dict(run.cell.settings).items() <= config["optimizer"].items()
    assert set(config["workload"]) == set(type(run.recipe.workload).model_fields)


def test_the_corners_come_first_then_the_middles(make_spec):
    spec = make_spec(
        variants=["sgd"],
        seeds=[5, 6],
        grid={"lr": {"log2": [-8, 0], "points": 9}, "wd": {"log2": [-8, 0], "points": 9}},
    )
    first = runs(spec)
    assert {(run.cell.lr, run.cell.wd) for run in first[:8]} == {(a, b) for a in (2**-8, 1) for b in (2**-8, 1)}
    assert {(run.cell.lr, run.cell.wd) for run in first[:18]} == {
        (a, b) for a in (2**-8, 2**-4, 1) for b in (2**-8, 2**-4, 1)
    }


@pytest.mark.parametrize("n_done", [0, 1, 3, 4, 7])
def test_the_coarsest_cells_are_in_a_pack_of_their_own_to_be_looked_at_first(make_spec, n_done):
    grid = {"lr": {"log2": [-8, 0], "points": 5}, "wd": [0.0, 0.1], "steps": [12, 24]}
    every = runs(make_spec(variants=["sgd", "sgdw"], grid=grid))
    of_each: dict[tuple, list] = {}
    for run in every:
        of_each.setdefault((run.cell.variant, run.recipe.steps), []).append(run.run_id)
    done = {run_id for kind, run_ids in of_each.items() if kind != ("sgd", 24) for run_id in run_ids[:n_done]}
    first = {pack.runs[0].run_id: pack for pack in packs(every, 4, done) if pack.first_look}
    expected = [[run_id for run_id in run_ids[:4] if run_id not in done] for run_ids in of_each.values()]
    assert [[run.run_id for run in pack.runs] for pack in first.values()] == [left for left in expected if left]
    legs = {run.run_id: Leg(6) for run in every}
    assert not any(pack.first_look for pack in packs(every, 4, legs=legs))  # what is stopped early goes on as it began


def test_variants_take_turns(make_spec):
    spec = make_spec(resources={"pack_size": 4})
    assert {pack.runs[0].cell.variant for pack in packed(spec)[:3]} == set(spec.variants)


def test_a_run_at_a_point_of_the_recipes_axes_is_the_run_of_a_spec_of_that_recipe(make_spec):
    grid = {"lr": [0.1], "wd": [0.01]}
    wide = make_spec(grid={**grid, "steps": [12, 24], "batch_size": [8, 16], "width": [8, 4]})
    for steps in (12, 24):
        for batch_size in (8, 16):
            for width in (4, 8):
                workload = {**TINY["workload"], "model": {"name": "normalised_mlp", "hidden": [width]}}
                narrow = make_spec(grid=grid, budget={"steps": steps}, batch_size=batch_size, workload=workload)
                assert set(ids(narrow)) < set(ids(wide))
                assert differences(narrow, wide) == differences(wide, narrow) == {}
    assert "workload.label_noise" in differences(
        make_spec(grid=grid, workload={**TINY["workload"], "label_noise": 0.5}), wide
    )


def test_epochs_of_another_batch_size_are_other_steps_and_still_no_difference(make_spec):
    grid, budget = {"lr": [0.1], "wd": [0.01]}, {"epochs": 2}
    narrow = make_spec(grid=grid, budget=budget, schedule={"name": "cosine", "warmup": 1})
    wide = make_spec(grid={**grid, "batch_size": [16, 40]}, budget=budget, schedule={"name": "cosine", "warmup": 1})
    assert sorted({run.recipe.steps for run in runs(wide)}) == [10, 25]
    assert set(ids(narrow)) < set(ids(wide))
    assert differences(narrow, wide) == {}


def test_panels_are_named_by_their_axes(make_spec):
    spec = make_spec(variants=["sgd"], grid={"lr": [0.1], "wd": [0], "steps": [4, 8], "momentum": [0.5]})
    assert [panel.name for panel in panels(spec)] == ["sgd steps=4 momentum=0.5", "sgd steps=8 momentum=0.5"]
    assert [dict(panel.at) for panel in panels(spec)] == [{"steps": n, "momentum": 0.5} for n in (4, 8)]


def test_of_several_budgets_the_long_come_first_and_each_shows_its_corners_before_any_its_middles(make_spec):
    axis = {"log2": [-8, 0], "points": 9}
    spec = make_spec(variants=["sgd"], seeds=[5], grid={"lr": axis, "wd": axis, "steps": [4, 16, 64]})
    first = runs(spec)[:12]
    assert [run.recipe.steps for run in first] == [64] * 4 + [16] * 4 + [4] * 4
    assert {(run.cell.lr, run.cell.wd) for run in first} == {(a, b) for a in (2**-8, 1) for b in (2**-8, 1)}


@pytest.mark.slow
def test_each_of_a_hundred_thousand_runs_is_in_one_pack():
    axis = {"log2": [-16, 8], "points": 25}
    raw = {**TINY, "variants": ["sgd", "sgdw", "adam", "adamw"], "seeds": 10,
           "grid": {"lr": axis, "wd": axis, "steps": [100, 400], "batch_size": [16, 32]}}  # fmt: skip
    planned = packed(Spec.validated(raw), (), 2)
    run_ids = [run.run_id for pack in planned for run in pack.runs]
    assert len(run_ids) == len(set(run_ids)) == 100_000
    assert len({pack.pack_id for pack in planned}) == len(planned)
