import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpscan.diagnostics import MEASURES, measure


def measured(before, after, grads):
    return dict(zip(MEASURES, measure(before, after, grads).unbind(), strict=True))


@given(st.floats(1e-6, 3.1), st.floats(0.1, 10), st.integers(0, 1000))
def test_a_rotation_by_an_angle_is_that_angle_whatever_the_lengths(angle, gain, seed):
    one, other = np.linalg.qr(np.random.default_rng(seed).normal(size=(12, 2)))[0].T
    turned = gain * (math.cos(angle) * one + math.sin(angle) * other)
    before, after = (torch.tensor(vector.reshape(1, 3, 4)) for vector in (one, turned))
    found = measured([before], [after], [before])
    assert found["rotation"].item() == pytest.approx(angle, rel=1e-6)
    assert found["weight_norm"].item() == pytest.approx(gain)
    assert found["update_ratio"].item() == pytest.approx(np.linalg.norm(turned - one))


def test_shrinking_alone_turns_nothing_and_rows_do_not_mix():
    generator = torch.Generator().manual_seed(0)
    before = [torch.randn(3, *shape, generator=generator) for shape in ((4, 5), (4,), (2, 4))]
    after = [theta * torch.tensor([1.0, 0.5, 0.999]).view(-1, *[1] * (theta.dim() - 1)) for theta in before]
    found = measured(before, after, before)
    assert found["rotation"].max() < 1e-7
    assert found["update_ratio"].tolist() == pytest.approx([0.0, 0.5, 0.001], rel=1e-4)
    assert found["grad_norm"][0].item() == pytest.approx(
        math.sqrt(sum(theta[0].square().sum().item() for theta in before)), rel=1e-6
    )
    alone = measure(*([theta[1:2] for theta in thetas] for thetas in (before, after, before)))
    assert torch.equal(alone[:, 0], measure(before, after, before)[:, 1])


def test_complex_weights_are_measured_as_pairs_of_real_ones():
    pairs = torch.randn(3, 2, 4, 5, 2, generator=torch.Generator().manual_seed(0))
    before, after, grads = ([torch.view_as_complex(part)] for part in pairs)
    torch.testing.assert_close(measure(before, after, grads), measure(*([part] for part in pairs)))


def test_of_a_model_without_matrices_the_vectors_are_its_weights():
    before = [torch.tensor([[3.0, 4.0]])]
    assert measured(before, before, before)["weight_norm"].item() == pytest.approx(5.0)
