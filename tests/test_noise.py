import numpy as np
import pytest

from hpscan.noise import USUAL_NEAR, Noise, fit_noise, without_seed_effects

X, Y = np.arange(12.0), np.arange(10.0)


def drawn(n, sd=0.3, near=0.7, common=0.0, reach=2.0, seed=0):
    size = np.broadcast_to(np.asarray(sd, dtype=float), (len(X), len(Y))).copy()
    return Noise(size, near, common, reach, reach, X, Y).draw(np.random.default_rng(seed), n)


def test_draws_have_the_covariance_they_are_said_to_have():
    e = drawn(20_000, near=0.6, common=0.2)
    covariance = np.cov(e[:, 3, 3], e[:, 5, 4])[0, 1]
    assert e.std(axis=0) == pytest.approx(0.3, rel=0.05)
    assert covariance == pytest.approx(0.09 * (0.6 * np.exp(-2 / 2 - 1 / 2) + 0.2), abs=0.004)


def test_size_and_reach_of_the_noise_are_recovered_from_a_few_seeds():
    sd = 0.1 + 0.02 * X[:, None] * np.ones(len(Y))
    fits = [fit_noise(5.0 + drawn(3, sd=sd, seed=seed), X, Y) for seed in range(20)]
    assert np.mean([fit.sd for fit in fits], axis=0) == pytest.approx(sd, rel=0.25)
    neighbours = [fit.near * np.exp(-1 / fit.reach_x) + fit.common for fit in fits]
    assert np.mean(neighbours) == pytest.approx(0.7 * np.exp(-0.5), abs=0.1)


def test_independent_noise_is_found_to_be_independent():
    fits = [fit_noise(drawn(4, near=0.0, seed=seed), X, Y) for seed in range(10)]
    assert np.mean([fit.near * np.exp(-1 / fit.reach_x) + fit.common for fit in fits]) < 0.06


def test_cells_at_the_ceiling_have_no_noise():
    z = drawn(3)
    z[:, :4] = 1.0
    fit = fit_noise(z, X, Y, ceiling=1.0)
    assert not fit.sd[:4].any()
    assert (fit.sd[4:] > 0).all()
    assert not fit.draw(np.random.default_rng(0), 2)[:, :4].any()


def test_a_single_seed_shows_its_noise_by_its_roughness():
    smooth = 0.01 * (X[:, None] - 5) ** 2 + 0.02 * Y[None, :]
    fits = [fit_noise(smooth + drawn(1, near=0.8, seed=seed), X, Y) for seed in range(30)]
    assert {(fit.near, fit.common) for fit in fits} == {(USUAL_NEAR, 0.0)}
    assert np.mean([fit.sd.max() for fit in fits]) == pytest.approx(0.3, rel=0.15)


def test_a_surface_without_noise_has_none():
    fit = fit_noise(np.repeat(np.add.outer(X**2, Y)[None], 3, axis=0), X, Y)
    assert not fit.sd.any()


def test_a_lucky_seed_does_not_make_its_cells_look_better_where_others_are_missing():
    rng = np.random.default_rng(2)
    surface = np.add.outer(X, Y)
    z = surface + np.array([-5.0, 0.0, 5.0])[:, None, None]
    z[rng.random(z.shape) < 0.3] = np.nan
    level = without_seed_effects(z, np.inf)
    spread = np.nanmax(level - surface) - np.nanmin(level - surface)
    assert spread < 1e-6
    assert np.array_equal(np.isnan(level), np.isnan(z))


@pytest.mark.parametrize(
    "seen",
    [np.s_[:, ::2, ::2], np.s_[:, :, :2], np.s_[:, :2, :2]],
    ids=["coarse", "two columns", "four cells"],
)
def test_a_single_seed_of_few_rows_or_columns_shows_its_noise_too(seen):
    """Wherever the rows and columns are that are known; of noise as alike as usual in cells that are next to one another."""
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(200):
        z = np.full((1, len(X), len(Y)), np.nan)
        shape = z[seen].shape[1:]
        usual = Noise(np.full(shape, 0.3), USUAL_NEAR, 0.0, 2.0, 2.0, X[: shape[0]], Y[: shape[1]])
        z[seen] = usual.draw(rng, 1)
        sizes.append(fit_noise(z, X, Y).sd.max())
    assert np.sqrt(np.mean(np.square(sizes))) == pytest.approx(0.3, rel=0.6)
    assert min(sizes) > 0.0


def test_of_a_single_seed_whose_windows_all_have_holes_everything_may_be_noise():
    z = drawn(1)
    z[:, ::2, ::2] = z[:, 1::2, 1::2] = np.nan
    assert fit_noise(z, X, Y).sd.max() == pytest.approx(np.nanstd(z))


@pytest.mark.parametrize("shared", [1, 3])
def test_what_a_seed_adds_is_found_from_few_cells_that_it_shares(shared):
    rng = np.random.default_rng(0)
    surface = rng.standard_normal((len(X), len(Y)))
    z = (surface + np.array([0.0, 1.0])[:, None, None]).reshape(2, -1)
    order = rng.permutation(surface.size)
    z[1, order[:60]] = z[0, order[60 + shared :]] = np.nan
    level = np.nanmean(without_seed_effects(z.reshape(2, *surface.shape), np.inf), axis=0)
    assert np.ptp(level - surface) < 1e-9


def test_seeds_without_a_cell_in_common_stay_as_they_are():
    z = drawn(2)
    z[0, :6] = z[1, 6:] = np.nan
    assert without_seed_effects(z, np.inf) == pytest.approx(z, nan_ok=True)


def test_how_equal_seeds_were_rounded_is_no_noise():
    """Rounding of one cell would be found to be like that of its neighbours, or its opposite, on another processor."""
    z = np.repeat(1.0 + np.random.default_rng(6).random((1, len(X), len(Y))), 3, axis=0)
    z[1] = np.nextafter(z[1], 2.0)
    assert not fit_noise(z, X, Y).sd.any()
