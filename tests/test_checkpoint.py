"""What a checkpoint holds, and what is never gone on from: the damaged, the foreign, and another pack's."""

import copy
import io
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hpscan import checkpoint, choice, engine
from hpscan.engine import train_pack
from hpscan.grid import Pack, runs
from hpscan.hardware import prepare_worker
from hpscan.program import Program
from hpscan.session import Session
from hpscan.spec import Spec
from hpscan.strategies import Loop
from tests.checkpoints import Kept, content_after, outcome, pack_of, resealed
from tests.conftest import TINY

prepare_worker()


@pytest.fixture(scope="module")
def interrupted():
    """A pack, its data, a checkpoint of it and what it comes to."""
    spec = Spec.validated({**TINY, "variants": ["sgd"], "budget": {"steps": 60}})
    data, pack = spec.workload.load(), pack_of(spec)
    content = content_after(pack, data, 2, compile=False, strategy="fused")
    return pack, data, content, outcome(train_pack(pack, data, compile=False, strategy="fused"))


def reason_for(pack, data, content, **how):
    """Why a pack is trained as it is, when it finds this checkpoint; and what comes of it."""
    chosen = []
    how = {"compile": False, "strategy": "fused", **how}
    results = train_pack(pack, data, checkpoints=Kept(content, every_s=1e9), on_choice=chosen.append, **how)
    return chosen[0].reason, outcome(results)


def flipped(content, at):
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


SPOILT = {
    "empty": lambda content: b"",
    "text": lambda content: b"not a checkpoint\nat all",
    "truncated": lambda content: content[:-100],
    "half": lambda content: content[: len(content) // 2],
    "a bit of a tensor": lambda content: flipped(content, len(content) // 2),
    "a bit of the header": lambda content: flipped(content, 40),
    "another version": lambda content: content.replace(checkpoint.FORMAT.encode(), b"hpscan-checkpoint/0", 1),
    "a pickle": lambda content: checkpoint._header(b"cos\nsystem\n(S'true'\ntR.") + b"cos\nsystem\n(S'true'\ntR.",
    "something else": lambda content: resealed(content, lambda saved: saved.clear()),
    "another pack": lambda content: resealed(content, lambda saved: saved.update(pack="0" * 16)),
    "a model with another layer": lambda content: resealed(
        content, lambda saved: saved["session"]["strategy"]["params"].update(more=torch.zeros(12, 3))
    ),
    "more rows": lambda content: resealed(content, lambda saved: saved["session"].update(rows=99)),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_cannot_be_gone_on_from_is_ignored(interrupted, how):
    pack, data, content, whole = interrupted
    reason, results = reason_for(pack, data, SPOILT[how](content))
    assert "checkpoint" not in reason
    assert results == whole


def test_an_unspoilt_one_is_gone_on_from_without_a_choice(interrupted, monkeypatch):
    pack, data, content, whole = interrupted
    monkeypatch.setattr(engine, "choose", None)
    assert reason_for(pack, data, resealed(content, lambda saved: None)) == (
        "goes on from a checkpoint at step 30", whole,
    )  # fmt: skip
    assert reason_for(pack, data, content, strategy="auto")[1] == whole


def test_nothing_is_ever_executed_that_a_checkpoint_says(interrupted, tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    pack, data, _, whole = interrupted
    harmful = io.BytesIO()
    torch.save({"pack_id": pack.pack_id, "session": Harmful()}, harmful)
    sealed = checkpoint._header(harmful.getvalue()) + harmful.getvalue()
    assert reason_for(pack, data, sealed)[1] == whole
    assert not (tmp_path / "executed").exists()


def test_the_checkpoint_of_another_pack_is_ignored(interrupted):
    pack, data, content, _ = interrupted
    fewer = Pack(pack.runs[:-1], pack.capacity)
    reason, results = reason_for(fewer, data, content)
    assert "checkpoint" not in reason
    assert [run_id for run_id, *_ in results] == [run.run_id for run in fewer.runs]


def test_a_way_of_training_that_is_not_asked_for_or_not_possible_starts_over(interrupted):
    pack, data, content, _ = interrupted
    assert reason_for(pack, data, content, strategy="loop")[0] == "asked for"
    compiled = resealed(content, lambda saved: saved.update(compiled=True))
    assert "checkpoint" not in reason_for(pack, data, compiled, compile=False)[0]


def test_views_are_saved_without_what_they_are_views_of():
    large = torch.zeros(1000, 1000)
    (saved,) = checkpoint._plain([large[3]])
    assert saved.untyped_storage().nbytes() == 4000
    assert checkpoint._plain([large])[0].data_ptr() == large.data_ptr()


def test_what_could_not_be_read_back_is_refused_before_it_is_written():
    with pytest.raises(AssertionError, match="float64"):
        checkpoint._plain({"value": np.float64(1.0)})


def test_the_choice_of_a_checkpoint_is_not_the_choice_of_the_process(interrupted):
    pack, data, content, _ = interrupted
    before = copy.deepcopy(choice._choices)
    reason_for(pack, data, content)
    assert choice._choices == before


def test_a_checkpoint_beyond_the_packs_end_is_not_gone_on_from(interrupted):
    """As after a launch that had no rung there."""
    pack, data, content, _ = interrupted
    taken = checkpoint._loaded(content)["session"]["step"]
    asked = choice.Asked("fused", False, False, "cpu", 1e9, 1.0)
    found = [checkpoint.decode(content, replace(pack, until=end), data, asked) for end in (taken - 1, taken)]
    assert [standing is None for standing in found] == [True, False]


class _Graph(nn.Module):
    """Features mixed along the edges of a graph, a sparse matrix."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.register_buffer("edges", torch.eye(64).to_sparse())

    def forward(self, images):
        return self.linear((self.edges @ images.flatten(1).T).T)


def test_a_model_with_a_sparse_matrix_goes_on_from_its_checkpoint():
    spec = Spec.validated({**TINY, "variants": ["sgd"], "budget": {"steps": 60}})
    (run, *_), data, task = runs(spec), spec.workload.load(), replace(spec.workload.task(), model=_Graph)
    program = Program(task, spec.training, torch.device("cpu"), compiled=False)
    whole = Session.start(Loop, program, [run], data, 1)
    first = whole.advance(range(4))
    assert torch.isfinite(first).all()
    payload = io.BytesIO()
    torch.save(checkpoint._plain(whole.state()), payload)
    payload.seek(0)
    resumed = Session.resume(Loop, program, [run], data, torch.load(payload, weights_only=True))
    assert torch.equal(resumed.advance(range(4, 8)), whole.advance(range(4, 8)))
