import json
import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from hpscan.grid import panels, runs
from hpscan.landscape import landscapes
from hpscan.scaling import exponent_of, fit, optimum, profile, scalings
from tests.test_landscape import frame_of

INF, NAN = np.inf, np.nan


@given(
    vertex=st.floats(-3, 3), depth=st.floats(0.01, 9), first=st.integers(-9, -4), step=st.sampled_from([0.5, 1.0, 1.5])
)
def test_the_minimum_of_a_parabola_is_found_between_cells(vertex, depth, first, step):
    log_wd = np.arange(first, 6, step)
    value, edge = optimum(1 + depth * (log_wd - vertex) ** 2, log_wd)
    assert value == pytest.approx(vertex, abs=1e-6)
    assert edge == ""


@pytest.mark.parametrize(
    ("values", "log_wd", "expected"),
    [
        ([1, 2, 3], [-3, -2, -1], (-3, "lower")),
        ([3, 2, 1], [-3, -2, -1], (-1, "upper")),
        ([1, 2, 3], [-INF, -2, -1], (-2, "lower")),  # no decay is best
        ([3, 1, 2], [-INF, -2, -1], (-2, "lower")),  # beside no decay: below the least cell nothing is known
        ([NAN, 1, 2, 3], [-3, -2, -1, 0], (-2, "lower")),
        ([3, 1, NAN, 3], [-3, -2, -1, 0], (-2, "upper")),
        ([3, 1, INF, INF], [-3, -2, -1, 0], (-2, "")),  # diverged beyond: known to be worse
        ([1, 1, 1], [-3, -2, -1], (-3, "lower")),
        ([2, 1, 1, 2], [-3, -2, -1, 0], (-1.5, "")),
    ],
)
def test_an_optimum_on_an_edge_says_so(values, log_wd, expected):
    assert optimum(np.array(values, float), np.array(log_wd, float)) == expected


def test_nothing_known_has_no_optimum():
    assert math.isnan(optimum(np.array([INF, NAN]), np.array([0.0, 1.0]))[0])


def test_a_profile_is_the_least_over_learning_rates():
    np.testing.assert_array_equal(profile(np.array([[1, INF, NAN, INF], [2, 3, NAN, NAN]])), [1, 3, NAN, INF])


@given(st.data())
def test_the_slope_is_that_of_weighted_least_squares(data):
    n = data.draw(st.integers(3, 7))
    log_at = np.cumsum(data.draw(st.lists(st.floats(0.5, 3), min_size=n, max_size=n)))
    log_wd = np.array(data.draw(st.lists(st.floats(-9, 9), min_size=n, max_size=n)))
    variances = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=n, max_size=n)))
    interval, level = exponent_of(log_at, log_wd, np.diag(variances), 5)
    fit = sm.WLS(log_wd, sm.add_constant(log_at), weights=1 / variances).fit()
    assert (level, interval.value) == pytest.approx(tuple(fit.params), abs=1e-8)


def test_one_seed_has_the_interval_of_ordinary_least_squares():
    log_at, log_wd = np.arange(5.0), np.array([0, -0.6, -0.9, -1.6, -2.1])
    interval, _ = exponent_of(log_at, log_wd, np.zeros((5, 5)), 1)
    low, high = sm.OLS(log_wd, sm.add_constant(log_at)).fit().conf_int()[1]
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_seeds_alone_give_students_interval_with_one_degree_less_than_seeds():
    log_at = np.array([0.0, 2.0])
    interval, _ = exponent_of(log_at, -0.5 * log_at, np.diag([0.04, 0.04]), 4)
    half = 3.182446 * math.sqrt(0.08) / 2
    assert (interval.value, interval.high) == pytest.approx((-0.5, -0.5 + half), abs=1e-6)


def test_too_few_points_have_no_exponent_or_no_interval():
    one, _ = exponent_of(np.array([1.0]), np.array([1.0]), np.zeros((1, 1)), 3)
    two, _ = exponent_of(np.array([1.0, 2.0]), np.array([3.0, 2.0]), np.zeros((2, 2)), 1)
    assert math.isnan(one.value)
    assert (two.value, math.isnan(two.low)) == (pytest.approx(-1), True)


GRID = {"lr": {"log2": [-6, 0], "points": 7}, "wd": {"log2": [-12, 0], "points": 13}}


def planted(exponent, *, noise=0.0, at_steps=lambda recipe: recipe.steps):
    """Losses of runs whose best λ is 2⁻³ · steps^exponent, whatever the learning rate, with noise a seed."""

    def value(run):
        recipe, seed = run.recipe, run.seed
        random = np.random.default_rng([seed, recipe.steps])
        shift = noise * random.normal()
        factor = run.cell.lr if run.cell.variant.endswith("torch") else 1.0
        best = -3 + exponent * math.log2(at_steps(recipe)) + shift
        return 1 + 0.02 * (math.log2(run.cell.lr) + 3) ** 2 + 0.1 * (math.log2(factor * run.cell.wd) - best) ** 2

    return value


def scaled(spec, value):
    return scalings(spec, landscapes(spec, frame_of(spec, value)))


def test_a_planted_exponent_is_recovered_with_its_predictions(make_spec):
    grid = {**GRID, "steps": [16, 64, 256, 1024]}
    spec = make_spec(variants=["sgdw", "adamw-torch", "adamw-normalised", "adam"], grid=grid, seeds=4)
    found = {(each.variant, each.quantity): each for each in scaled(spec, planted(-0.5, noise=0.1))}
    assert set(found) == {
        ("sgdw", "wd"), ("adamw-torch", "wd"), ("adamw-torch", "shrink"), ("adamw-normalised", "wd"), ("adam", "wd"),
    }  # fmt: skip
    for each in found.values():
        assert each.axis == "steps"
        assert each.exponent.low < -0.5 < each.exponent.high
        assert each.exponent.high - each.exponent.low < 0.5
    paper = found["sgdw", "wd"]
    assert paper.predictions == {"Loshchilov & Hutter": -0.5, "Wang & Aitchison": -1.0}
    assert paper.agrees("Loshchilov & Hutter")
    assert paper.agrees("Wang & Aitchison") is False
    assert found["adamw-normalised", "wd"].predictions == {"Loshchilov & Hutter": 0.0, "Wang & Aitchison": -0.5}
    # the best λ of torch's form is at the best learning rate, 2⁻³; its α λ is the other's λ
    assert found["adamw-torch", "shrink"].optima[0].wd.value == pytest.approx(paper.optima[0].wd.value, rel=0.01)
    assert found["adamw-torch", "wd"].optima[0].wd.value == pytest.approx(8 * paper.optima[0].wd.value, rel=0.01)


def test_an_optimum_on_the_edge_is_told_and_not_fitted(make_spec):
    spec = make_spec(variants=["sgdw"], grid={**GRID, "wd": {"log2": [-7, 0], "points": 8}, "steps": [16, 64, 1024]})
    (found,) = scaled(spec, planted(-0.5))
    assert [best.edge for best in found.optima] == ["", "", "lower"]
    assert found.exponent.value == pytest.approx(-0.5, abs=1e-6)
    assert len(found.inside) == 2


def test_batch_size_and_width_are_axes_too(make_spec):
    grid = {**GRID, "batch_size": [8, 16, 32]}
    in_epochs = make_spec(variants=["sgdw"], grid=grid, budget={"epochs": 8})
    (found,) = scaled(in_epochs, planted(-0.5))
    assert found.axis == "batch_size"
    assert found.exponent.value == pytest.approx(0.5, abs=1e-6)
    assert found.predictions == {"Loshchilov & Hutter": 0.5, "Wang & Aitchison": 1.0}
    (in_steps,) = scaled(make_spec(variants=["sgdw"], grid=grid), planted(-0.5))
    assert in_steps.predictions == {"Loshchilov & Hutter": 0.0, "Wang & Aitchison": 0.0}
    by_width = planted(-0.25, at_steps=lambda recipe: recipe.workload.model.hidden[0])
    (width,) = scaled(make_spec(variants=["sgdw"], grid={**GRID, "width": [4, 8, 16]}), by_width)
    assert (width.axis, width.predictions) == ("width", {})
    assert width.exponent.value == pytest.approx(-0.25, abs=1e-6)


def test_further_axes_make_scalings_of_their_own_and_epochs_count_in_steps(make_spec):
    grid = {**GRID, "epochs": [2, 8], "momentum": [0.5, 0.9], "width": [8]}
    spec = make_spec(variants=["sgdw"], grid=grid, budget={"epochs": 2})
    found = scaled(spec, planted(-0.5))
    assert [each.name for each in found] == ["sgdw width=8 momentum=0.5", "sgdw width=8 momentum=0.9"]
    assert [best.at for best in found[0].optima] == [25, 100]
    assert scaled(make_spec(variants=["sgdw"], grid=GRID), planted(-0.5)) == []


def test_cells_with_seeds_missing_are_left_out(make_spec):
    spec = make_spec(variants=["sgdw"], grid={**GRID, "steps": [16, 64]}, seeds=2)
    value = planted(-0.5)
    frame = frame_of(spec, lambda run: 0.0 if (run.seed, run.cell.wd) == (0, 2.0**-9) else value(run))
    missing = {run.run_id for run in runs(spec) if (run.seed, run.cell.wd) == (1, 2.0**-9)}
    (found,) = scalings(spec, landscapes(spec, frame[~frame["run_id"].isin(missing)]))
    assert found.optima[0].wd.value == pytest.approx(2.0**-5)


def test_an_unfinished_sweep_has_no_exponent_and_still_json(tmp_path, make_spec):
    from hpscan.analysis import analyze
    from hpscan.store import Store

    store = Store(tmp_path)
    store.save_spec(make_spec(variants=["sgdw"], grid={**GRID, "steps": [16, 64]}))
    (found,) = json.loads(json.dumps(analyze(store, "tiny").to_json(), allow_nan=False))["scaling"]
    assert found["exponent"] == {"value": None, "low": None, "high": None}
    assert [best["steps"] for best in found["best"]] == [16, 64]


def test_restarts_have_no_predictions(make_spec):
    schedule = {"name": "cosine_restarts", "first": 8}
    spec = make_spec(variants=["sgdw"], grid={**GRID, "steps": [16, 64]}, schedule=schedule)
    assert scaled(spec, planted(-0.5))[0].predictions == {}
    assert len(panels(spec)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed_noise", "cell_noise", "skew", "scatter", "least"),
    [(0.3, 0.0, 0.0, 0.0, 0.90), (0.1, 0.01, 0.5, 0.0, 0.90), (0.2, 0.003, 0.5, 0.3, 0.85)],
    ids=["seeds move the optimum", "every cell is noisy", "budgets scatter about the line"],
)
def test_intervals_cover_a_planted_exponent_about_as_often_as_they_say(
    make_landscape, seed_noise, cell_noise, skew, scatter, least
):
    """Basins that are no parabolas, off the grid by any share of a cell; five budgets, four seeds."""
    log_lr, log_wd, log_at, n_seeds = np.arange(-8, -1.0), np.arange(-12, 1.0), np.arange(6.0, 11.0), 4
    hits, n = 0, 200
    for number in range(n):
        random = np.random.default_rng(number)
        exponent, offset = random.uniform(-1, 0), random.uniform(-1, 1)
        found = []
        for at in log_at:
            best = offset + exponent * (at - 8) - 5 + scatter * random.normal()
            away = log_wd - (best + seed_noise * random.normal(size=(n_seeds, 1, 1)))
            wall = np.where(away > 0, 1 + skew, 1) * 0.05 * away**2 / (1 + 0.05 * np.abs(away))
            z = 1 + 0.03 * (log_lr[:, None] + 4) ** 2 + wall
            found.append(make_landscape(z + cell_noise * random.normal(size=z.shape), wd_first_exponent=-12))
        _, interval, _ = fit((2**log_at).tolist(), found)
        hits += interval.low <= exponent <= interval.high
    assert least <= hits / n <= 0.99


@pytest.mark.parametrize("unknown", [math.nan, math.inf], ids=["missing", "diverged"])
def test_where_nothing_is_known_there_is_no_learning_rate_either(make_landscape, unknown):
    (best,), _, _ = fit([100.0], [make_landscape(np.full((2, 3, 3), unknown))])
    assert math.isnan(best.wd.value)
    assert math.isnan(best.lr)


def test_weight_decays_of_which_nothing_is_known_are_no_edge(make_landscape):
    """As of a grid that has been trained no further than its coarse cells: the optimum lies between known ones."""
    x, y = np.arange(9.0)[:, None], np.arange(9.0)[None, :]
    fine = np.repeat((1 + 0.1 * (y - 4.4) ** 2 + 0.02 * (x - 4) ** 2)[None], 2, axis=0)
    coarse = np.full_like(fine, np.nan)
    coarse[:, ::2, ::2] = fine[:, ::2, ::2]
    (found, whole), _, _ = fit([1.0, 2.0], [make_landscape(coarse), make_landscape(fine)])
    assert (found.edge, found.lr) == ("", whole.lr)
    assert found.wd.value == pytest.approx(whole.wd.value)


def test_a_value_that_no_network_could_have_is_no_best_weight_decay(make_landscape):
    z = np.add.outer(np.zeros(3), (np.arange(5.0) - 2) ** 2)[None]
    worse, diverged = z.copy(), z.copy()
    worse[0, :, 4], diverged[0, :, 4] = -1e300, np.inf
    found = [fit([1.0], [make_landscape(of)])[0][0] for of in (worse, diverged)]
    assert found[0].wd.value == found[1].wd.value
