from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.conventions import OUTSIDE, agreement, on_grid, pairs, partner, redrawn
from hpscan.landscape import Landscape
from hpscan.separation import separability
from hpscan.spec import SpecError
from hpscan.variants import VARIANTS, Decay


def landscape(z, lr, wd, variant="adamw"):
    z = np.asarray(z, dtype=np.float64)
    states = np.where(np.isnan(z), "missing", np.where(np.isinf(z), "diverged", "completed")).astype(object)
    run_ids = np.arange(z.size).astype(str).astype(object).reshape(z.shape)
    return Landscape(
        name=f"{variant} steps=9", variant=variant, metric="val_loss", lr=np.asarray(lr, float), wd=np.asarray(wd, float),
        seeds=tuple(range(len(z))), run_ids=run_ids, states=states, values={"val_loss": z, "test_loss": z + 1},
    )  # fmt: skip


@st.composite
def on_octaves(draw):
    """What makes a landscape on an octave grid."""
    n_seeds, n_lr, n_wd = (draw(st.integers(1, n)) for n in (3, 6, 6))
    lr_stride = draw(st.integers(1, 3)) if n_wd > 1 else 1  # in steps of the weight decays
    wd_stride = draw(st.integers(1, 2))
    lr = 2.0 ** (draw(st.integers(-12, 0)) + lr_stride * wd_stride * np.arange(n_lr))
    wd = 2.0 ** (draw(st.integers(-12, 0)) + wd_stride * np.arange(n_wd))
    if draw(st.booleans()):
        wd = np.insert(wd, 0, 0.0)
    number = st.one_of(st.floats(0, 9), st.just(np.inf), st.just(np.nan))
    z = draw(st.lists(number, min_size=n_seeds * n_lr * len(wd), max_size=n_seeds * n_lr * len(wd)))
    variant = draw(st.sampled_from(["adamw", "adamw-torch", "sgdw", "sgdw-torch"]))
    return np.reshape(z, (n_seeds, n_lr, len(wd))), lr, wd, variant


def other_form(shape):
    return Decay.TORCH if VARIANTS[shape.variant].decay is Decay.PAPER else Decay.PAPER


@given(on_octaves())
def test_there_and_back_is_the_same_landscape_to_the_bit(made_of):
    shape = landscape(*made_of)
    there = redrawn(shape, other_form(shape))
    back = redrawn(there, VARIANTS[shape.variant].decay)
    assert (back.name, back.variant) == (shape.name, shape.variant)
    for one, other in ((back.lr, shape.lr), (back.wd, shape.wd), (back.z, shape.z)):
        np.testing.assert_array_equal(one, other)
    assert (back.states == shape.states).all()
    assert (back.run_ids == shape.run_ids).all()


@given(on_octaves())
def test_every_run_is_found_once_at_the_weight_decay_of_the_other_form_and_nothing_else_is(made_of):
    shape = landscape(*made_of)
    there = redrawn(shape, other_form(shape))
    assert there.variant == partner(shape.variant, other_form(shape))
    asked = there.states != OUTSIDE
    assert sorted(there.run_ids[asked]) == sorted(shape.run_ids.ravel())
    assert np.isnan(there.z[~asked]).all()
    wd_of = {run: shape.wd[place[2]] for place, run in np.ndenumerate(shape.run_ids)}
    z_of = {run: shape.z[place] for place, run in np.ndenumerate(shape.run_ids)}
    for place, run in np.ndenumerate(there.run_ids):
        if asked[place]:
            factor = there.lr[place[1]] ** (1 if other_form(shape) is Decay.PAPER else -1)
            assert there.wd[place[2]] == wd_of[run] * factor
            np.testing.assert_equal(there.z[place], z_of[run])


def test_an_upright_basin_leans_by_minus_one_in_torchs_units():
    lr, wd = 2.0 ** np.arange(-8, 1), 2.0 ** np.arange(-10, -1)
    u, v = np.meshgrid(np.log2(lr), np.log2(wd), indexing="ij")
    shape = landscape([1 + 0.02 * (u + 4) ** 2 + 0.1 * (v + 6) ** 2], lr, wd)
    assert separability(shape).contour_slope.value == pytest.approx(0, abs=0.05)
    leaning = redrawn(shape, Decay.TORCH)
    assert separability(leaning).contour_slope.value == pytest.approx(-1, abs=0.1)
    assert leaning.best().wd == shape.best().wd / shape.best().lr


def test_the_two_forms_train_to_the_same_numbers(make_spec):
    """The identity that the shear rests on, by the engine itself."""
    from hpscan.engine import train_pack
    from hpscan.grid import Pack, runs

    for optimizer in ("adamw", "sgdw"):
        found = []
        for variant, factor in ((optimizer, 1.0), (f"{optimizer}-torch", 1 / 0.25)):
            grid = {"lr": [0.25], "wd": [0.0, factor * 2**-7, factor * 2**-4]}
            spec = make_spec(variants=[variant], grid=grid, seeds=[3], schedule={"name": "cosine", "warmup": 3})
            members = tuple(sorted(runs(spec), key=lambda run: run.cell.wd))
            results = train_pack(Pack(members, 3), spec.workload.load(), compile=False, strategy="fused")
            found.append([result.metrics["val_loss"] for result in results])
        assert found[0] == found[1]
        assert len(set(found[0])) == 3


@pytest.mark.parametrize(
    ("lr", "wd", "steps"),
    [([1, 2, 4], [1, 2 * 2**0.5, 8], "2.828"), ([1, 3], [1, 2, 4], "2"), ([1, 2, 4], [1, 2, 5], "2")],
)
def test_a_grid_whose_steps_do_not_match_is_refused_in_one_line(lr, wd, steps):
    with pytest.raises(SpecError, match=f"adamw steps=9: cannot change units, .* here a factor {steps}; let") as error:
        redrawn(landscape(np.ones((1, len(lr), 3)), lr, wd), Decay.TORCH)
    assert "\n" not in str(error.value)


def test_a_decimal_grid_can_be_sheared_too():
    shape = landscape(np.arange(6).reshape(1, 2, 3), [0.01, 0.1], [1e-4, 1e-3, 1e-2])
    there = redrawn(shape, Decay.TORCH)
    np.testing.assert_allclose(there.wd, [1e-3, 1e-2, 1e-1, 1])
    np.testing.assert_array_equal(there.z[0], [[np.nan, 0, 1, 2], [3, 4, 5, np.nan]])


@pytest.mark.parametrize("variant", ["sgd", "adam", "lion", "adamw-normalised", "amsgradw"])
def test_a_variant_without_both_forms_has_no_partner(variant):
    assert partner(variant, Decay.TORCH) is None
    with pytest.raises(SpecError, match="has no form in torch's units"):
        redrawn(landscape(np.ones((1, 2, 2)), [1, 2], [1, 2], variant), Decay.TORCH)


def test_pairs_are_the_variants_measured_in_both_forms():
    shapes = [landscape(np.ones((1, 2, 2)), [1, 2], [1, 2], name) for name in ("sgdw", "adamw", "adamw-torch", "sgd")]
    assert [(one.variant, other.variant) for one, other in pairs(shapes)] == [("adamw", "adamw-torch")]
    elsewhere = replace(shapes[2], name="adamw-torch steps=7")
    assert pairs([shapes[1], elsewhere]) == []


def test_agreement_counts_the_cells_in_common():
    one = landscape([[[1, 2, 3], [4, np.inf, 6]]], [1, 2], [1, 2, 4])
    other = landscape([[[2.5, 3.25, 0], [7, 8, 9]]], [1, 4], [2, 4, 8])
    assert agreement([(one, other)]) == (2, 0.375, 0.5)
    assert agreement([(one, other), (one, one)]) == (7, 0.0, 0.5)
    assert agreement([(one, landscape([[[1.0]]], [8], [8]))])[0] == 0


def test_a_landscape_on_a_wider_grid_keeps_its_cells_and_has_none_beyond():
    shape = landscape([[[1, 2], [3, 4]]], [1, 2], [1, 2])
    wide = on_grid(shape, np.array([0.5, 1, 2]), np.array([1, 2, 4.0]))
    np.testing.assert_array_equal(wide.z[0], [[np.nan] * 3, [1, 2, np.nan], [3, 4, np.nan]])
    assert (wide.states[0] == OUTSIDE).sum() == 5
