"""A user's workload is tried before anything is trained: what would spoil every run is told, in one line; nothing else is."""

import importlib
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hpscan.launcher import launch_sweep
from hpscan.rehearsal import rehearse
from hpscan.spec import Training
from hpscan.tasks import Task, classification
from hpscan.workloads import Data, Factory, Split, UserWorkload, WorkloadError

NAMES = (f"rehearsed_{n}" for n in count())


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Rehearse a task on data, in a module of the user's."""
    monkeypatch.chdir(tmp_path)

    def tried(task, data, *, training=None, batch_size=16, on_gpus=False):
        name = next(NAMES)
        (tmp_path / f"{name}.py").write_text("def make(): return made\n")
        workload = Factory(factory=f"{name}:make")
        workload.function()
        importlib.import_module(name).made = UserWorkload(lambda: data, task)
        rehearse(workload, training or Training(), batch_size, on_gpus=on_gpus)

    return tried


def data_of(targets, inputs=None):
    """Three parts of forty examples each; the inputs are normal unless they are given."""
    if inputs is None:
        inputs = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    return Data(*(Split(inputs[part], targets[part]) for part in np.split(np.arange(120), [40, 80])))


CLASSES = np.arange(120) % 4
VALUES = np.linspace(-1, 1, 120, dtype=np.float32)


def classifier(**more):
    return classification(lambda: nn.Linear(3, 4), **more)


def regression(loss=F.mse_loss, **more):
    return Task(lambda: nn.Linear(3, 1), loss, **more)


def test_what_is_right_is_not_refused_and_leaves_no_trace(tried):
    state = torch.get_rng_state()
    tried(
        classifier(metrics={"top2_loss": lambda logits, targets: (logits.argmax(-1) != targets).float().mean()}),
        data_of(CLASSES),
    )
    tried(regression(metrics={"l1": F.l1_loss}), data_of(VALUES[:, None]))
    normed = Task(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)), F.l1_loss
    )
    tried(normed, data_of(VALUES[:, None]), training=Training(precision="bf16"))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (CLASSES.astype(np.float32), r"targets \(n,\) of float32, 0 to 3 \(classes are int64, 0 to 3\), raised RuntimeError: .*Float"),
        (CLASSES + 1, r"int64, 1 to 4 \(classes are int64, 0 to 3\), raised IndexError: Target 4 is out of bounds"),
        (np.where(np.arange(120) == 39, -1, CLASSES), r"train .* int64, -1 to 3 .* raised IndexError: Target -1"),
        (np.where(np.arange(120) == 119, 4, CLASSES), r"its loss, of test outputs \(n, 4\) and targets .* Target 4"),
        (CLASSES.astype(str), r"its train split, inputs .*, targets \(n,\) of <U21, raised TypeError"),
    ],
    ids=["float", "from one", "one of forty", "one of the test set", "text"],
)  # fmt: skip
def test_targets_that_are_no_classes_are_told(tried, targets, told):
    with pytest.raises(WorkloadError, match=rf"^workload\.factory: rehearsed_\d+:make: .*{told}") as caught:
        tried(classifier(), data_of(targets))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loss", [F.mse_loss, F.smooth_l1_loss, lambda o, t: ((o - t) ** 2).mean()])
def test_a_loss_of_every_output_with_every_target_is_told(tried, loss):
    remedy = r"outputs have shape \(n, 1\) and targets \(n,\); give the targets as targets\[\.\.\., None\]$"
    with pytest.raises(WorkloadError, match=rf"its loss compares each output with every target: {remedy}"):
        tried(regression(loss), data_of(VALUES))
    flat = Task(lambda: nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), loss)
    with pytest.raises(WorkloadError, match=r"targets \(n, 1\); give the targets as targets\[\.\.\., 0\]$"):
        tried(flat, data_of(VALUES[:, None]))
    with pytest.raises(WorkloadError, match="its l1 compares each output with every target"):
        tried(regression(lambda o, t: F.mse_loss(o[:, 0], t), metrics={"l1": F.l1_loss}), data_of(VALUES))


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: F.mse_loss(o.squeeze(-1), t),
        lambda o, t: F.mse_loss(o[:, 0], t),
        lambda o, t: F.mse_loss(o.view_as(t), t),
        lambda o, t: ((o.flatten() > 0) != (t > 0)).float().mean() + F.mse_loss(o.flatten(), t),
        lambda o, t: (o[:, None] - t).abs().mean() if o.ndim == 1 else (o.flatten() - t).std(),
    ],
)
def test_a_loss_that_pairs_other_shapes_itself_is_none_of_them(tried, loss):
    tried(regression(loss), data_of(VALUES))


def test_outputs_of_several_quantiles_may_share_a_target(tried):
    tried(Task(lambda: nn.Linear(3, 3), lambda o, t: (o - t).abs().mean()), data_of(VALUES[:, None]))


@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_data_that_are_no_numbers_are_told(tried, where):
    arrays = {"inputs": np.ones((120, 3), np.float32), "targets": VALUES[:, None].copy()}
    arrays[where][87, 0] = np.nan
    with pytest.raises(
        WorkloadError, match=f"test {where} have nan or infinity, first in example 7, and its loss is nan: every"
    ):
        tried(regression(), data_of(**arrays))
    cleaned = Task(lambda: nn.Linear(3, 1), lambda o, t: F.mse_loss(o, t.nan_to_num()), prepare=torch.nan_to_num)
    tried(cleaned, data_of(**arrays))


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (Task(lambda: nn.Linear(5, 1), F.mse_loss), r"its model, of train inputs \(n, 3\) of float32, raised RuntimeError: mat1"),
        (Task(lambda: 3, F.mse_loss), "its model, as it is made, raised AttributeError"),
        (regression(lambda o, t: (o - t) ** 2), r"its loss, .*: must be one number, the mean over the examples; got shape \(16, 1\)"),
        (regression(lambda o, t: None), "its loss, .*: must be one number, .*; got None"),
        (regression(lambda o, t: F.mse_loss(o, t).item()), "its loss, .*: has no gradient; make it of the outputs"),
        (regression(lambda o, t: (e := o.exp()).mean() + e.zero_().mean()), "its loss, .* its gradient raised RuntimeError: one of"),
        (regression(metrics={"r2": lambda o, t: o.undefined}), r"its r2, .* raised AttributeError: .*\(test_rehearsal.py, line \d+\)"),
        (Task(lambda: nn.GRU(3, 1), F.mse_loss), "the workload's model: must return a tensor; got tuple"),
    ],
    ids=["width", "no module", "no mean", "no return", "no gradient", "in place", "metric", "two outputs"],
)  # fmt: skip
def test_what_the_task_gets_wrong_is_told(tried, task, told):
    with pytest.raises(WorkloadError, match=told) as caught:
        tried(task, data_of(VALUES[:, None]))
    assert "\n" not in str(caught.value)


def test_float64_inputs_are_told(tried):
    with pytest.raises(WorkloadError, match=r"inputs \(n, 3\) of float64; the model's own numbers are float32, raised"):
        tried(classifier(), data_of(CLASSES, np.ones((120, 3))))


def test_what_wants_as_many_examples_as_a_step_has_gets_them(tried):
    hardest = Task(lambda: nn.Linear(3, 1), lambda o, t: (o - t).abs().topk(12, dim=0).values.mean())
    tried(hardest, data_of(VALUES[:, None]))
    with pytest.raises(WorkloadError, match="selected index k out of range"):
        tried(hardest, data_of(VALUES[:, None]), batch_size=10)


def test_what_raises_here_may_not_raise_on_a_gpu(tried):
    there = classification(lambda: nn.Linear(3, 4, device="cuda"))
    tried(there, data_of(CLASSES), on_gpus=True)
    with pytest.raises(WorkloadError, match="compares each output with every target"):
        tried(regression(), data_of(VALUES), on_gpus=True)


def test_a_launch_is_refused_before_anything_is_written(tried, make_spec, tmp_path):
    (tmp_path / "of_floats.py").write_text(
        "import numpy as np\n"
        "from torch import nn\n"
        "import hpscan\n"
        "def make():\n"
        "    split = hpscan.Split(np.ones((64, 3), np.float32), np.ones(64, np.float32))\n"
        "    return hpscan.UserWorkload(lambda: hpscan.Data(split, split, split), hpscan.classification(lambda: nn.Linear(3, 2)))\n"
    )
    with pytest.raises(
        WorkloadError,
        match=r"^workload.factory: of_floats:make: its loss, .* \(classes are int64, 0 to 1\), raised RuntimeError",
    ):
        launch_sweep(make_spec(workload={"factory": "of_floats:make"}), tmp_path / "results")
    assert not list(tmp_path.glob("results/*"))
