import torch

from hpscan.models import GPT


def test_a_token_does_not_see_what_comes_after_it():
    torch.manual_seed(0)
    model = GPT(11, 8, layers=2, heads=2, width=16)
    tokens = torch.randint(0, 11, (3, 8))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_attention_agrees_with_torchs():
    torch.manual_seed(0)
    block = GPT(11, 8, layers=1, heads=2, width=16).blocks[0]
    x = torch.randn(3, 8, 16)
    q, k, v = (part.view(3, 8, 2, 8).transpose(1, 2) for part in block.qkv(block.attention_norm(x)).split(16, dim=2))
    attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    x_after = x + block.out(attended.transpose(1, 2).reshape(3, 8, 16))
    torch.testing.assert_close(block(x), x_after + block.mlp(block.mlp_norm(x_after)))
