import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpscan.grid import IDENTITY, Recipe, differences, packs, runs
from hpscan.spec import Spec
from tests.conftest import TINY

small_axes = st.integers(1, 6).map(lambda points: [2.0**-exponent for exponent in range(1, points + 1)])


@st.composite
def raw_specs(draw):
    return {
        **TINY,
        "variants": draw(st.lists(st.sampled_from(["sgd", "sgdw", "adam", "adamw"]), min_size=1, unique=True)),
        "grid": {"lr": draw(small_axes), "wd": draw(small_axes)},
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
    assert all(len(pack.runs) <= pack.capacity <= spec.resources.pack_size for pack in planned)
    assert len({pack.capacity for pack in planned}) == 1
    assert all(len({run.cell.variant for run in pack.runs}) == 1 for pack in planned)


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


@given(raw_specs())
@settings(max_examples=30, deadline=None)
def test_a_run_id_is_the_hash_of_the_canonical_config(raw):
    for run in runs(Spec.validated(raw)):
        canonical = json.dumps([IDENTITY, run.config], sort_keys=True, separators=(",", ":"), allow_nan=False)
        assert run.run_id == hashlib.sha256(canonical.encode()).hexdigest()[:16]


@given(raw_specs(), st.sampled_from(["lr", "wd", "seeds", "variants"]))
@settings(max_examples=60, deadline=None)
def test_extending_a_spec_keeps_every_run_and_plans_only_the_new_ones(raw, what):
    spec = Spec.validated(raw)
    if what in {"lr", "wd"}:
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


@pytest.mark.parametrize(("workers", "n_packs"), [(1, 91), (2, 92), (64, 128), (5000, 2895)])
def test_packs_come_in_whole_rounds_of_the_workers(workers, n_packs):
    spec = Spec.load("quickstart")
    assert len(runs(spec)) == 2895
    planned = packed(spec, (), workers)
    assert n_packs <= len(planned) <= n_packs + len(spec.variants)
    assert max(len(pack.runs) for pack in planned) <= 32


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"budget": {"steps": 13}}, "steps"),
        ({"batch_size": 17}, "batch_size"),
        ({"workload": {**TINY["workload"], "label_noise": 0.25}}, "workload.label_noise"),
        ({"schedule": "constant"}, "schedule.name"),
        ({"training": {"clip_norm": 1.0}}, "clip_norm"),
        ({"optimizer": {"momentum": 0.8}}, "optimizer.momentum"),
        ({"optimizer": {"momentum_form": "paper"}}, "optimizer.momentum_form"),
    ],
)
def test_what_makes_every_run_another_one_is_named(make_spec, change, field):
    assert field in differences(make_spec(), make_spec(**change))


def test_what_changes_no_run_is_no_difference(make_spec):
    other = make_spec(
        name="other", notes="x", seeds=[5], variants=["sgd"], metric="val_error", resources={"workers": 3},
        grid={"lr": [0.1], "wd": [0.0], "variants": {"sgd": {"momentum": [0.1, 0.2]}}},
    )  # fmt: skip
    assert differences(make_spec(), other) == {}


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


def test_variants_take_turns(make_spec):
    spec = make_spec(resources={"pack_size": 4})
    assert {pack.runs[0].cell.variant for pack in packed(spec)[:3]} == set(spec.variants)
