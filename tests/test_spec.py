import pytest
import yaml

from hpscan.schedules import Cosine, Step
from hpscan.spec import Spec, SpecError
from hpscan.spec_text import shipped_specs

GRID = {"lr": [1], "wd": [0]}


def load(tmp_path, raw, *overrides):
    path = tmp_path / "spec.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
    return Spec.load(str(path), overrides)


@pytest.mark.parametrize("name", shipped_specs())
def test_every_shipped_spec_is_valid_and_bears_its_file_name(name):
    assert Spec.load(name).name == name


def test_quickstart_compares_five_variants_on_at_least_nine_by_nine_cells_and_two_seeds():
    spec = Spec.load("quickstart")
    assert set(spec.variants) == {"sgd", "sgdw", "adam", "adamw", "adamw-torch"}
    assert len(spec.seeds) >= 2
    for variant in spec.variants:
        lr, wd = spec.grid.axes(variant)
        assert len(lr) >= 9
        assert len(wd) >= 9


def test_yaml_round_trip(make_spec):
    spec = make_spec(schedule={"name": "step", "at": [0.5]}, notes="a: 'b' # ü")
    assert Spec.validated(yaml.safe_load(spec.to_yaml())) == spec


@pytest.mark.parametrize("name", shipped_specs())
def test_a_spec_without_its_nulls_reads_back_as_the_same(name):
    spec = Spec.load(name)
    assert Spec.validated(yaml.safe_load(spec.to_yaml(nulls=False))) == spec
    assert "null" not in spec.to_yaml(nulls=False)


def test_a_null_that_is_an_argument_of_the_users_own_is_shown(make_spec):
    spec = make_spec(workload={"factory": "a:b", "args": {"mask": None}})
    assert Spec.validated(yaml.safe_load(spec.to_yaml(nulls=False))) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, "unknown key 'epochs'; known are name, notes, workload"),
        ({"grid": {"lr": [-0.1], "wd": [0]}}, "`grid.lr`: must be positive; got -0.1"),
        ({"grid": {"lr": 1e999, "wd": [0]}}, "`grid.lr`: input must be a finite number; got inf"),
        ({"grid": {**GRID, "steps": 0}}, "`grid.steps`: input must be greater than or equal to 1; got 0"),
        ({"grid": {"lr": [], "wd": [0]}}, "`grid.lr`: must hold at least one value; got an empty list"),
        ({"grid": {}}, "`grid.lr`: missing, and `grid.variants.sgd.lr` is not given either"),
        (
            {"grid": {"lr": [1], "wd": [0], "mom": [1]}},
            "`grid`: unknown key 'mom'; known are lr, wd, momentum, nesterov, beta1, beta2, eps, steps, epochs, batch_size, width, variants",
        ),
        ({"grid": {"lr": [1], "wd": [1], "variants": {"x": {}}}}, "`grid.variants`: unknown variant 'x'"),
        ({"variants": ["adamax"]}, "`variants`: unknown variant 'adamax'; known are sgd"),
        ({"variants": []}, "`variants`: must name at least one variant"),
        ({"variants": ["sgd", "sgd"]}, "`variants`: must not repeat a value; sgd is given more than once"),
        ({"workload": {"name": "digits", "noise": 1}}, "`workload`: unknown key 'noise'"),
        (
            {"workload": {"name": "digits", "train": 1790}},
            "`workload`: train: with 398 validation images at most 1299 are left; got 1790",
        ),
        ({"seeds": [1, 2, 1]}, "`seeds`: must not repeat a value; 1 is given more than once"),
        ({"seeds": []}, "`seeds`: must hold at least one seed"),
        ({"seeds": 0}, "`seeds`: must hold at least one seed"),
        ({"seeds": 10**9}, "`seeds`: must be at most 10000; got 1000000000"),
        ({"budget": {"steps": 0}}, "`budget.steps`: input must be greater than or equal to 1; got 0"),
        ({"budget": {}}, "`budget`: give either steps or epochs"),
        (
            {"workload": {"trainable": "a:b"}, "budget": {"steps": 1, "epochs": 1}},
            "`budget`: give either steps or epochs",
        ),
        ({"batch_size": 1}, "batch_size: must be at least 2"),
        ({"batch_size": 500}, "batch_size: must be at most the 200 training examples of the workload; got 500"),
        ({"workload": {"factory": "a:b", "model": 1}}, "`workload`: unknown key 'model'; known are args, folder"),
        (
            {"workload": {"factory": "a:b", "trainable": "a:b"}},
            "`workload`: must be a factory or a trainable; got both",
        ),
        (
            {"grid": {"lr": [1], "wd": [0], "beta1": [1.0], "variants": {}}},
            "`grid.beta1`: must be at least 0 and below 1; got 1",
        ),
        ({"grid": {"lr": [1], "wd": [0], "nesterov": [2]}}, "`grid.nesterov`: must be true or false; got 2"),
        (
            {"variants": ["sgd"], "grid": {"lr": [1], "wd": [0], "eps": [1]}},
            "`grid.eps`: concerns no variant: no variant has such",
        ),
        (
            {"variants": ["sgd"], "grid": {"lr": [1], "wd": [0], "variants": {"sgd": {"lr": [2]}}}},
            "`grid.lr`: concerns no variant: every variant has a range of its own",
        ),
        (
            {"grid": {"lr": [1], "wd": [0], "variants": {"sgd": {"eps": [1]}}}},
            "`grid.variants`: sgd: has no eps; its settings are",
        ),
        ({"budget": {"steps": True}}, "`budget`: steps: must be a number; got true"),
        ({"batch_size": True}, "batch_size: must be a number; got true"),
        ({"seeds": [False, 1]}, "`seeds`: must be numbers; got false"),
        ({"optimizer": {"betas": [True, 0.9]}}, "`optimizer.betas`: must be numbers; got true"),
        ({"grid": {**GRID, "lr": True}}, "`grid.lr`: must be a number; got true"),
        ({"grid": {**GRID, "batch_size": [8, True]}}, "`grid.batch_size`: must be numbers; got true"),
        (
            {"grid": {**GRID, "lr": {"log2": [False, 3], "points": 2}}},
            "`grid.lr`: log2 must be two exponents, [low, high]; got [False, 3]",
        ),
        (
            {"workload": {"factory": "a:b"}, "grid": {**GRID, "width": [8, 16]}},
            "grid.width: goes before a whole number `width` in workload.args, as in args: {width: 32}; got args {}",
        ),
        ({"grid": {**GRID, "steps": [0]}}, "`grid.steps.0`: input must be greater than or equal to 1; got 0"),
        ({"grid": {**GRID, "steps": [1.5]}}, "`grid.steps.0`: input must be a valid integer, got a number with a frac"),
        ({"grid": {**GRID, "steps": [9, 9]}}, "`grid.steps`: must not repeat a value; got [9, 9]"),
        (
            {"grid": {**GRID, "epochs": [1]}},
            "grid.epochs: the budget is in steps; give grid.steps, or the budget in ep",
        ),
        (
            {"grid": {**GRID, "epochs": [2, 2.001]}, "budget": {"epochs": 1}},
            "grid.epochs: 2 and 2.001 are both 25 steps",
        ),
        ({"grid": {**GRID, "batch_size": [8, 500]}}, "grid.batch_size: must be at most the 200 training examples"),
        ({"grid": {**GRID, "batch_size": [1, 8]}}, "grid.batch_size: must be at least 2 for BatchNorm"),
        ({"grid": {**GRID, "variants": {"sgd": {"steps": [4]}}}}, "`grid.variants.sgd`: unknown key 'steps'"),
        (
            {"grid": {**GRID, "width": [12]}, "workload": {"name": "cifar10", "model": "densenet_bc"}},
            "grid.width: densenet_bc has no width to set",
        ),
        (
            {"grid": {**GRID, "width": [12]}, "workload": {"trainable": "a:b"}},
            "grid.width: goes before a whole number `width` in workload.args, as in args: {width: 32}; got args {}",
        ),
        (
            {
                "grid": {**GRID, "width": [6]},
                "workload": {"name": "digits", "model": {"name": "cnn", "channels": [4, 3]}},
            },
            "grid.width: cnn: channels of [4, 3] cannot keep its proportions at width 6",
        ),
        (
            {"grid": {**GRID, "width": [3]}, "workload": {"name": "cifar10", "model": "shake_shake"}},
            "grid.width: `model`: width: must be even",
        ),
        ({"grid": {**GRID, "width": [9]}, "workload": "charlm"}, "grid.width: heads: must divide the width, 9; got 2"),
        ({"training": {"accumulate": 3}}, "training.accumulate: must divide the batch size, 16; got 3"),
        ({"training": {"accumulate": 16}}, "batch_size: must be at least 32 for BatchNorm"),
        (
            {"budget": {"epochs": 2}, "schedule": {"name": "cosine", "warmup": 20}},
            "schedule.warmup: must be shorter than the budget, 2 epochs, being in epochs, too; got 20",
        ),
        (
            {"grid": {"lr": [0.1], "wd": [0.1], "steps": [12, 40]}, "schedule": {"name": "cosine", "warmup": 12}},
            "schedule.warmup: must be shorter than the budget, 12 steps, being in steps, too; got 12",
        ),
        (
            {"metric": "ensemble_val_loss"},
            "metric: ensemble_val_loss is of snapshots' predictions; set training.snapshots: true",
        ),
        (
            {"training": {"snapshots": True}},
            "training.snapshots: are taken at restarts; schedule must be cosine_restarts",
        ),
        ({"optimizer": {"betas": [0.9, 1]}}, "`optimizer.betas.1`: input must be less than 1; got 1"),
        ({"schedule": {"name": "step", "factor": 2}}, "`schedule.factor`: input must be less than 1; got 2"),
        ({"name": "../up"}, "`name`: must be a folder name"),
        ({"name": "<script>"}, "`name`: must be a folder name"),
        (
            {"metric": "test_loss"},
            "`metric`: must be a validation metric, such as val_loss or val_error; got 'test_loss'",
        ),
    ],
    ids=str,
)
def test_a_bad_spec_is_refused_in_one_line_that_names_field_and_value(tmp_path, tiny_raw, change, message):
    with pytest.raises(SpecError) as error:
        load(tmp_path, {**tiny_raw, **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_short_forms(make_spec):
    assert make_spec(seeds=3).seeds == (0, 1, 2)
    assert make_spec(schedule="cosine").schedule == Cosine()
    assert make_spec(schedule={"name": "step"}).schedule == Step()


@pytest.mark.parametrize(("epochs", "steps"), [(1, 12), (2.5, 31), (0.001, 1)])
def test_epochs_count_whole_passes_over_the_training_set(make_spec, epochs, steps):
    assert make_spec(budget={"epochs": epochs}).steps == steps


def test_lengths_of_a_schedule_are_in_the_unit_of_the_budget(make_spec):
    schedule = {"name": "cosine_restarts", "first": 2, "warmup": 1}
    spec = make_spec(budget={"epochs": 8}, schedule=schedule)
    assert (spec.schedule_in_steps.first, spec.schedule_in_steps.warmup) == (25, 12.5)  # 12.5 steps an epoch
    assert make_spec(schedule=schedule).schedule_in_steps.first == 2


def test_further_axes_go_to_the_variants_that_have_them(make_spec):
    grid = {"lr": [0.1], "wd": [0.0], "momentum": [0.5, 0.9], "variants": {"adamw": {"beta2": [0.9]}}}
    spec = make_spec(grid=grid)
    assert [spec.grid.further(variant) for variant in spec.variants] == [
        {"momentum": (0.5, 0.9)}, {"momentum": (0.5, 0.9)}, {"beta2": (0.9,)},
    ]  # fmt: skip


def test_settings_not_given_are_the_optimizers_own(make_spec):
    optimizer = make_spec(optimizer={"betas": [0.8, 0.9], "nesterov": True}).optimizer
    assert optimizer.settings("sgd") == {"momentum": 0.9, "nesterov": 1.0}
    assert optimizer.settings("adamw") == {"beta1": 0.8, "beta2": 0.9, "eps": 1e-8}
    assert make_spec().optimizer.settings("adagrad") == {"eps": 1e-10}


def test_a_point_of_the_recipes_axes_is_a_spec_of_its_own(make_spec):
    grid = {**GRID, "epochs": [1, 2], "batch_size": [20, 40], "width": {"log2": [3, 4], "points": 2}}
    spec = make_spec(grid=grid, budget={"epochs": 9}, schedule={"name": "cosine", "warmup": 0.5})
    assert len(spec.points()) == 8
    at = spec.at({"epochs": 2, "batch_size": 40, "width": 16})
    assert (at.steps, at.batch_size, at.workload.model.hidden) == (10, 40, (16,))
    assert at.schedule_in_steps.warmup == 2.5
    assert make_spec().points() == [{}]
    assert make_spec().at({}) == make_spec()


def test_axes_of_the_recipe_round_trip_as_whole_numbers(make_spec):
    spec = make_spec(grid={**GRID, "steps": {"log2": [2, 4], "points": 3}})
    assert spec.grid.steps == (4, 8, 16)
    assert "steps: [4, 8, 16]\n" in spec.to_yaml()
    assert Spec.validated(yaml.safe_load(spec.to_yaml())) == spec
