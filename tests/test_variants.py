import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.optimizers import OPTIMIZERS
from hpscan.variants import VARIANTS, Decay, decay_coefficients, known_variant

positive = st.floats(1e-6, 1.0)


def test_every_variant_names_a_registered_optimizer():
    assert {variant.optimizer for variant in VARIANTS.values()} == set(OPTIMIZERS)


@given(lr=positive, wd=positive, eta=positive)
def test_paper_shrink_does_not_depend_on_lr_and_torch_shrink_is_proportional_to_it(lr, wd, eta):
    assert decay_coefficients(Decay.PAPER, lr, wd, eta) == (0.0, eta * wd)
    assert decay_coefficients(Decay.TORCH, lr, wd, eta) == (0.0, eta * lr * wd)
    assert decay_coefficients(Decay.L2, lr, wd, eta) == (wd, 0.0)


@pytest.mark.parametrize("decay", Decay)
def test_coefficients_broadcast_over_steps_and_runs(decay):
    l2, shrink = decay_coefficients(decay, np.array([0.1, 0.2]), np.array([0.3, 0.4]), np.ones((5, 1)))
    assert l2.shape == shrink.shape == (5, 2)


def test_unknown_variant_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown variant 'adamax'; known are sgd, sgdw, sgdw-torch, "):
        known_variant("adamax")
