import numpy as np
import pytest

from hpscan.intervals import Interval
from hpscan.separation import separability
from hpscan.verdicts import compare, partners, verdict
from tests.test_separation import sweep
from tests.test_surfaces import X, Y, furrow


@pytest.mark.parametrize(
    ("slope", "noise", "word"), [(0.0, 0.02, "separable"), (-1.0, 0.02, "tied"), (-0.5, 0.5, "unclear")]
)
def test_words(make_landscape, slope, noise, word):
    assert verdict(separability(make_landscape(sweep(slope, 4, noise)))).word == word


@pytest.mark.parametrize("n_seeds", [1, 2, 3, 5])
def test_pure_noise_is_no_evidence_of_anything(make_landscape, n_seeds):
    """Of ten sweeps of noise at most two may be taken for more; 5 % each."""
    words = []
    for seed in range(10):
        z = 1.0 + np.random.default_rng(seed).normal(scale=0.1, size=(n_seeds, 9, 9))
        told = verdict(separability(make_landscape(z)))
        words.append(told.word)
        assert ("no evidence of coupling or of separation" in told.sentence) == (told.word == "no evidence")
    assert words.count("no evidence") >= 8
    assert "tied" not in words
    assert "separable" not in words


def test_an_axis_without_effect_is_coupled_with_nothing(make_landscape):
    """Only lr matters: contours are vertical, their slope is any number and means nothing."""
    rng = np.random.default_rng(1)
    z = 1 + 0.05 * (X[:, None] - X.mean()) ** 2 + 0.05 * rng.normal(size=(3, len(X), len(Y)))
    told = verdict(separability(make_landscape(z)))
    assert told.word == "no evidence"
    assert "weight decay has no effect beyond noise" in told.sentence


def test_level_contours_are_not_enough_to_be_called_separable(make_landscape):
    """A cross: its contours lean both ways and cancel, and the axes interact all the same."""
    cross = (X[:, None] - X.mean()) * (Y[None, :] - Y.mean())
    z = 1 + 0.02 * cross**2 + 0.01 * np.random.default_rng(2).normal(size=(3, len(X), len(Y)))
    numbers = separability(make_landscape(z))
    assert abs(numbers.contour_slope.value) < 0.1
    assert numbers.interaction_share.value > 0.15
    assert verdict(numbers).word == "unclear"
    assert "not clearly along one direction" in verdict(numbers).sentence


def test_a_single_seed_is_said_to_be_one(make_landscape):
    assert "one seed" in verdict(separability(make_landscape(sweep(-1.0, 1, 0.02)))).sentence


@pytest.mark.parametrize(
    ("z", "sentence"),
    [
        (np.full((2, 4, 4), np.nan), "there are no results to compare."),
        (np.full((1, 4, 4), np.inf), "all runs diverged, or an axis has one value."),
        (sweep(-1.0, 2, 0.02)[:, :, :1], "all runs diverged, or an axis has one value."),
        (np.ones((2, 4, 4)), "no seed has results that differ."),
    ],
    ids=["missing", "diverged", "one-value", "flat"],
)
def test_why_there_is_nothing_to_compare_is_said(make_landscape, z, sentence):
    assert verdict(separability(make_landscape(z))).sentence == sentence


def test_partners_come_from_the_catalogue():
    assert partners("sgd", "sgdw")
    assert partners("adamw-torch", "adamw")
    assert partners("nadam", "nadamw")
    assert partners("amsgrad", "amsgradw")
    assert not partners("adamw", "adamw-torch")
    assert not partners("sgd", "adamw")
    assert not partners("lion", "lion-l2")


def numbers_of(make_landscape, slope, **changes):
    return separability(make_landscape(sweep(slope, **changes)))


def test_a_pair_is_told_by_its_interaction(make_landscape):
    tied, apart = (numbers_of(make_landscape, slope) for slope in (-1.0, 0.0))
    pair = compare("sgd", tied, "sgdw", apart)
    assert pair.verdict.word == "decoupling separates"
    assert pair.interaction_share.low > 0.3
    assert pair.contour_slope.value == pytest.approx(-1.0, abs=0.12)
    assert compare("sgd", apart, "sgdw", tied).verdict.word == "decoupling ties"


def test_two_alike_show_no_difference_and_noise_no_evidence(make_landscape):
    one, other = (numbers_of(make_landscape, -1.0, seed=seed, noise=0.3) for seed in (0, 1))
    assert compare("sgd", one, "sgdw", other).verdict.word == "no difference shown"
    flat = np.random.default_rng(3).normal(size=(3, 9, 9))
    told = compare("sgd", separability(make_landscape(flat)), "sgdw", other).verdict
    assert told.word == "no evidence"
    assert "no evidence of a difference" in told.sentence


def test_without_intervals_a_difference_is_no_evidence(make_landscape):
    one, other = (separability(make_landscape(np.repeat(furrow(s)[None], 2, axis=0))) for s in (-1.0, 0.0))
    pair = compare("sgd", one, "sgdw", other)
    assert pair.verdict.word == "no evidence"
    assert isinstance(pair.interaction_share, Interval)
