import pickle

import numpy as np
import pytest

from hpscan.engine import train_pack
from hpscan.grid import packs, runs
from hpscan.workloads import CharLM, DataAbsentError, WorkloadError, text


def test_the_embedded_text_is_cut_into_windows_with_targets_one_ahead():
    data = CharLM(context=16).load()
    for split in (data.train, data.validation, data.test):
        assert split.inputs.shape == split.targets.shape
        assert np.array_equal(split.inputs[:, 1:], split.targets[:, :-1])
        assert np.array_equal(split.inputs[0, 8:], split.inputs[1, :8])  # windows overlap by half
    assert len(data.train.targets) == CharLM(context=16).n_train == CharLM(context=16).resolved().n_train


def test_the_splits_share_no_character(tmp_path):
    text = "".join(chr(0x4E00 + index) for index in range(2000))  # every character once
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    data = CharLM(text=str(path), context=8).load()
    seen = [
        set(np.concatenate([split.inputs.ravel(), split.targets.ravel()]))
        for split in (data.train, data.validation, data.test)
    ]
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]
    assert data.train.inputs.dtype == np.int32  # more than 256 characters


def test_runs_are_told_apart_by_the_text_not_by_its_place(tmp_path):
    (tmp_path / "a.txt").write_text("ab" * 500)
    (tmp_path / "b.txt").write_text("ab" * 500)
    (tmp_path / "c.txt").write_text("abc" * 400)
    a, b, c = (
        CharLM(text=str(tmp_path / name), context=8).resolved().identity() for name in ("a.txt", "b.txt", "c.txt")
    )
    assert a == b
    assert a != c


def test_a_text_that_changed_since_launch_is_refused(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("ab" * 500)
    launched = CharLM(text=str(path), context=8).resolved()
    path.write_text("cd" * 501)
    text._read.cache_clear()
    with pytest.raises(WorkloadError, match="not the text that this sweep was launched with"):
        launched.load()


def test_a_worker_that_is_given_the_data_needs_no_text(tmp_path, make_spec):
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    workload = {"name": "charlm", "text": str(path), "context": 8, "layers": 1, "heads": 1, "width": 4}
    unresolved = make_spec(workload=workload, variants=["sgd"], grid={"lr": [0.1], "wd": [0]}, seeds=[0])
    resolved = unresolved.resolved()
    assert [run.run_id for run in runs(resolved)] == [run.run_id for run in runs(unresolved)]
    sent = pickle.dumps((runs(resolved), resolved.workload.load()))
    path.unlink()
    text._read.cache_clear()
    given, data = pickle.loads(sent)
    (result,) = train_pack(packs(given, 1)[0], data, strategy="loop", compile=False)
    assert result.state == "completed"


def test_absent_short_and_binary_texts_are_refused_in_one_line(tmp_path):
    with pytest.raises(DataAbsentError, match="cannot be read: No such file"):
        CharLM(text=str(tmp_path / "no.txt")).load()
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(WorkloadError, match="too short for windows of 32"):
        CharLM(text=str(tmp_path / "short.txt")).load()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00" * 1000)
    with pytest.raises(WorkloadError, match="not a UTF-8 text"):
        CharLM(text=str(tmp_path / "binary")).load()
    with pytest.raises(ValueError, match="must divide the width"):
        CharLM(heads=3)


def test_the_model_predicts_every_position():
    import torch

    workload = CharLM(context=16)
    task, data = workload.task(), workload.load()
    outputs = task.model()(task.prepare(torch.from_numpy(data.test.inputs[:4])))
    assert outputs.shape[:2] == (4, 16)
    assert task.loss(outputs, torch.from_numpy(data.test.targets[:4])).item() == pytest.approx(
        np.log(outputs.shape[2]), rel=0.05
    )
