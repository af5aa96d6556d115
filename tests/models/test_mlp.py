import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpscan.models import NormalisedMLP, PlainMLP


@given(scale=st.floats(0.5, 8.0), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_scaling_a_weight_matrix_of_the_normalised_mlp_changes_no_output(scale, seed):
    torch.manual_seed(seed)
    model = NormalisedMLP((6, 16, 16, 4))
    inputs = torch.randn(256, 6)
    before = model(inputs)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(scale)
    torch.testing.assert_close(model(inputs), before, rtol=1e-3, atol=1e-2)


def test_a_plain_mlp_ends_in_logits_and_takes_images():
    model = PlainMLP((12, 5, 4))
    assert isinstance(model[-1], torch.nn.Linear)
    assert model(torch.randn(3, 3, 2, 2)).shape == (3, 4)
