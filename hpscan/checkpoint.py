"""Checkpoints: where the training of a pack stands, as bytes and back.

Bytes come from a store that others may write to, so that nothing but tensors and plain values is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from hpscan.choice import Asked, Choice, compile_seconds, program_for
from hpscan.grid import Pack
from hpscan.session import RunResult, Session
from hpscan.workloads import Data

__all__ = ["Checkpoints", "Standing", "decode", "encode", "from_rung"]

FORMAT = "hpscan-checkpoint/3"
"""Version of what a checkpoint holds; changed whenever one could no longer be gone on from."""


class Checkpoints(Protocol):
    """Keeps the last checkpoint of a pack."""

    @property
    def every_s(self) -> float:
        """Seconds between checkpoints; nothing is saved before so many have passed."""

    def load(self) -> bytes | None:
        """The last one saved, if any."""

    def save(self, content: bytes) -> None:
        """Keep this one from now on."""

    def sources(self) -> Iterable[bytes]:
        """What was kept of the pack's runs at the rung where its leg begins."""

    def keep_rung(self, name: str, run_ids: Sequence[str], content: bytes) -> None:
        """Keep runs that have reached the rung where the leg ends."""


@dataclass
class Standing:
    """Where the training of a pack stands."""

    pack: Pack
    """Its runs in the order in which they are trained."""
    choice: Choice
    """How it is trained; ``rows`` runs at most together."""
    compiled_before: float
    """What this process had spent on compiling when the part in training began, less what that had spent in others."""
    finished: list[RunResult] = field(default_factory=list)
    """Of the parts that are through."""
    session: Session | None = None
    """The part in training."""
    rungs: list[dict[str, Any]] = field(default_factory=list)
    """States of sessions that hold the pack's runs where its leg begins; none if that is the beginning."""

    @property
    def compile_s(self) -> float:
        """Seconds spent on compiling for the part in training."""
        return compile_seconds() - self.compiled_before


def encode(standing: Standing) -> bytes:
    """A checkpoint: a line with format and checksum, then what ``torch.save`` makes of nested dicts and lists."""
    assert standing.session is not None
    content = {
        "pack": standing.pack.name,
        "strategy": standing.choice.strategy,
        "compiled": standing.choice.compiled,
        "most": standing.choice.rows,
        "compile_s": standing.compile_s,
        "finished": [result.saved() for result in standing.finished],
        "session": standing.session.state(),
    }
    payload = io.BytesIO()
    torch.save(_plain(content), payload)
    return b"".join((_header(payload.getbuffer()), payload.getbuffer()))


def decode(content: bytes | None, pack: Pack, data: Data, asked: Asked) -> Standing | None:
    """Where a pack stands according to a checkpoint; None if there is none, or the pack cannot go on from it here.

    It cannot if the checkpoint is damaged, of another version or another pack, or beyond the pack's end, if it does not
    fit the model (a user's code may have changed), and if it was trained in a way that is not asked for or not possible
    in this process.
    """
    try:
        saved = _loaded(content)
        if saved is None or saved["pack"] != pack.name or not _possible(saved, asked):
            return None
        if saved["session"]["step"] > pack.end:  # of a launch that had no rung there
            return None
        return _restored(saved, pack, data, asked)
    except Exception:  # noqa: BLE001  (whatever is wrong with it: the pack can always be trained from the beginning)
        return None


def from_rung(contents: Iterable[bytes], pack: Pack, asked: Asked) -> Standing | None:
    """Where a pack stands whose runs reached a rung in other packs; None if any of them is not there, or as for :func:`decode`."""
    try:
        found = [_loaded(content) for content in contents]
        saved = [each for each in found if each is not None and _possible(each, asked)]
        there = {run_id for each in saved for run_id in each["session"]["training"]}
        alike = {(each["strategy"], each["compiled"], each["session"]["step"]) for each in saved}
        if len(alike) != 1 or not {run.run_id for run in pack.runs} <= there:
            return None
        ((strategy, compiled, step),) = alike
        choice = Choice(strategy, compiled, min(each["most"] for each in saved), f"goes on from a rung at step {step}")
        return Standing(pack, choice, compile_seconds(), rungs=[each["session"] for each in saved])
    except Exception:  # noqa: BLE001  (as above)
        return None


def _loaded(content: bytes | None) -> dict[str, Any] | None:
    header, _, payload = (content or b"").partition(b"\n")
    if header + b"\n" != _header(payload):
        return None
    loaded: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return loaded


def _possible(saved: dict[str, Any], asked: Asked) -> bool:
    """Whether training can go on here in the way it went before."""
    return asked.allows(saved["strategy"], compiled=saved["compiled"])


def _restored(saved: dict[str, Any], pack: Pack, data: Data, asked: Asked) -> Standing:
    part, here = saved["session"], {run.run_id: run for run in pack.runs}  # of the rest of a pack, no more than those
    done = [own for own in saved["finished"] if own["state"] != "failed"]
    reason = f"goes on from a checkpoint at step {part['step']}" + (f", {len(done)} runs done before" if done else "")
    choice = Choice(saved["strategy"], saved["compiled"], saved["most"], reason)
    finished = [RunResult.restored(here.pop(own["run"]), own) for own in done if own["run"] in here]
    begun = [here.pop(own["run"]) for own in part["everyone"]]
    # What failed is among the runs if it is to be trained again: last, since it may take its process with it once more.
    failed = {own["run"] for own in saved["finished"] if own["state"] == "failed"}
    rest = sorted(here.values(), key=lambda run: run.run_id in failed)
    ordered = replace(pack, runs=(*(result.run for result in finished), *begun, *rest))
    standing = Standing(ordered, choice, compile_seconds() - saved["compile_s"], finished)
    program = program_for(pack.runs[0].recipe, asked, compiled=choice.compiled)
    standing.session = Session.resume(choice.kind, program, begun, data, part)
    return standing


def _header(payload: bytes | memoryview) -> bytes:
    # the checksum, because torch.load reads tensors without comparing those of the zip format
    return f"{FORMAT} {hashlib.sha256(payload).hexdigest()}\n".encode()


def _plain(value: Any) -> Any:
    """The same values; a tensor that is a view of a larger one is copied, or all of that one would be saved."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, Tensor):
        value = value.detach()
        if value.layout is not torch.strided:  # sparse: no view, and without a storage of its own
            return value
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    assert type(value) in {bool, int, float, str, type(None)}, f"{type(value)} could not be read back"
    return value
