"""Checkpoints kept in memory, workers that die having saved one, and what comes of going on."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest
import torch

from hpscan import checkpoint
from hpscan.engine import train_pack
from hpscan.grid import Pack, runs


class Died(Exception):
    """Stands for a worker's death."""


@dataclass
class Kept:
    """Keeps the last checkpoint, and for the test all of them; dies right after having saved so many."""

    content: bytes | None = None
    dies_after: float = float("inf")
    every_s: float = 0.0
    saved: list[bytes] = field(default_factory=list)

    def load(self):
        return self.content

    def save(self, content):
        self.content = content
        self.saved.append(content)
        if len(self.saved) >= self.dies_after:
            raise Died


def outcome(results):
    """All but the seconds."""
    return [
        (result.run.run_id, result.state, result.steps_done, result.error, result.metrics, result.curve)
        for result in results
    ]


def pack_of(spec, *, capacity=None):
    members = tuple(runs(spec))
    return Pack(members, capacity or len(members))


def content_after(pack, data, saves, **how):
    """The checkpoint that a worker leaves that dies after so many."""
    kept = Kept(dies_after=saves)
    with pytest.raises(Died):
        train_pack(pack, data, checkpoints=kept, **how)
    return kept.content


def resealed(content, change):
    """A checkpoint whose content was changed by somebody who knows the format."""
    saved = torch.load(io.BytesIO(content.partition(b"\n")[2]), weights_only=True)
    change(saved)
    payload = io.BytesIO()
    torch.save(saved, payload)
    return checkpoint._header(payload.getvalue()) + payload.getvalue()
