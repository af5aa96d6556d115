"""A small GPT for character-level language modelling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GPT"]


class _Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )
        self.dropout = nn.ModuleList(nn.Dropout(dropout) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        query, key, value = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.attention_norm(x)).split(width, dim=2)
        )
        # written out: the fused attention has no batching rule and would fall back to a loop under vmap
        scores = query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        attended = scores.masked_fill(~causal, float("-inf")).softmax(-1) @ value
        x = x + self.dropout[0](self.out(attended.transpose(1, 2).reshape(batch, length, width)))
        return x + self.dropout[1](self.mlp(self.mlp_norm(x)))


class GPT(nn.Module):
    """A decoder-only transformer, Radford et al. 2019: learned positions, pre-norm blocks, no biases in its matrices.

    Parameters
    ----------
    vocabulary
        Number of tokens.
    context
        Longest sequence.
    layers, heads, width
        Blocks, attention heads of each, and the size of an embedding.
    dropout
        After attention and after the MLP of each block.
    """

    def __init__(
        self, vocabulary: int, context: int, *, layers: int = 2, heads: int = 4, width: int = 64, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(_Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # GPT-2's: what is added to the residual stream starts smaller, the more of it there is
                residual = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5 if residual else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (batch, length) to logits (batch, length, vocabulary) of the next token."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.token(tokens) + self.position(positions))))
