"""A user's own module: found in their folder, refused in one line, trained like any other."""

from datetime import date

import numpy as np
import pytest

from hpscan.grid import runs
from hpscan.spec import Spec, SpecError
from hpscan.workloads import WorkloadError
from tests.conftest import TINY

GOOD = """
import numpy as np
from torch import nn
import hpscan

def load():
    rng = np.random.default_rng(0)
    def split(n):
        x = rng.normal(size=(n, 5)).astype(np.float32)
        return hpscan.Split(x, (x[:, 0] > 0).astype(np.int64))
    return hpscan.Data(train=split({n}), validation=split(50), test=split(50))

def make(width=4):
    return hpscan.UserWorkload(load=load, task=hpscan.classification(lambda: nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 2))))
"""
COUNT = iter(range(1000))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module of the user's into their working directory; returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        name = f"users_module_{next(COUNT)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def spec_of(reference, kind="factory", **changes):
    workload = {kind: reference, **changes.pop("workload", {})}
    return Spec.validated({**TINY, "workload": workload, **changes})


def test_a_factory_is_loaded_from_the_working_directory(write, tmp_path):
    name = write(GOOD.replace("{n}", "200"))
    spec = spec_of(f"{name}:make", workload={"args": {"width": 7}}).resolved()
    assert spec.workload.folder == str(tmp_path)
    assert spec.workload.n_train == 200
    assert spec.workload.task().model()[0].out_features == 7
    assert spec.workload.load().train.inputs.shape == (200, 5)
    assert spec.workload.example(3).shape == (3, 5)


def test_once_resolved_it_is_found_from_anywhere_and_its_runs_keep_their_ids(write, tmp_path, monkeypatch):
    name = write(GOOD.replace("{n}", "200"))
    unresolved = spec_of(f"{name}:make")
    spec = Spec.validated(unresolved.resolved().model_dump(mode="json"))
    monkeypatch.chdir("/")
    assert spec.workload.task().model() is not None
    assert [run.run_id for run in runs(spec)] == [run.run_id for run in runs(unresolved)]
    assert runs(spec)[0].run_id != runs(spec_of(f"{name}:make", workload={"args": {"width": 5}}))[0].run_id


def test_data_are_loaded_once_however_often_they_are_asked_for(write, tmp_path):
    text = GOOD.replace("{n}", "200").replace("def load():", "def load():\n    open('loads', 'a').write('x')")
    spec = spec_of(f"{write(text)}:make").resolved()
    spec.workload.load()
    spec.workload.example(3)
    assert (tmp_path / "loads").read_text() == "x"


def test_epochs_are_counted_in_the_users_examples(write):
    name = write(GOOD.replace("{n}", "160"))
    assert spec_of(f"{name}:make", budget={"epochs": 2}).resolved().steps == 20


@pytest.mark.parametrize(
    ("text", "reference", "message"),
    [
        ("", "{m}:make", "has no function 'make'"),
        ("import nothing_of_that_name", "{m}:make", "raised ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def make(): return 3", "{m}:make", "must return hpscan.UserWorkload; got int"),
        ("def make():\n    raise ValueError('my mistake')", "{m}:make", r"raised ValueError: my mistake \(users_module_\d+.py, line 2\)"),
        ("def make(a): ...", "{m}:make", "raised TypeError"),
        ("x = 1", "not_there:make", "raised ModuleNotFoundError: No module named 'not_there'"),
        (
            GOOD.replace("{n}", "9").replace("Split(x, ", "Split(__import__('torch').tensor(x), "),
            "{m}:make",
            "train of .* must hold NumPy arrays; got a Tensor",
        ),
        (GOOD.replace("{n}", "0"), "{m}:make", "train of .* must hold as many inputs as targets, at least one; got 0 and 0"),
        (GOOD.replace("{n}", "10"), "{m}:make", "must be at most the 10 training examples"),
    ],
)  # fmt: skip
def test_what_a_user_gets_wrong_is_one_line(write, text, reference, message):
    name = write(text)
    with pytest.raises((WorkloadError, SpecError), match=message) as caught:
        spec_of(reference.replace("{m}", name)).resolved()
    assert "\n" not in str(caught.value)


def test_a_module_is_never_taken_from_another_folder(write, tmp_path, monkeypatch):
    """As of two sweeps that are launched from one notebook."""
    name = write(GOOD.replace("{n}", "200"))
    reference = f"{name}:make"
    spec_of(reference).resolved()
    for folder, text in (("copy", GOOD.replace("{n}", "200")), ("other", GOOD.replace("{n}", "100"))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path / "copy")
    assert spec_of(reference).resolved().workload.n_train == 200
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(
        WorkloadError,
        match=rf"'{name}' in .*/other: this process has another module of that name, .*/{name}\.py; rename",
    ):
        spec_of(reference).resolved()
    (tmp_path / "other" / "random.py").write_text("def make(): ...")
    with pytest.raises(WorkloadError, match=r"another module of that name, .*random\.py; rename one"):
        spec_of("random:make").resolved()


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (date(2024, 1, 1), "2024-01-01, a date"),
        ([{"at": date(2024, 1, 1)}], r"\[\{'at': .*, a list"),
        (float("nan"), "nan, a float"),
        (b"x", "b'x', a bytes"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["factory", "trainable"])
def test_arguments_are_what_json_can_say(kind, value, got):
    told = rf"`workload.args`: since: must be text, .* lists and mappings of these; got {got}; put it in quotes$"
    with pytest.raises(SpecError, match=told):
        spec_of("users:make", kind, workload={"args": {"width": 3, "since": value}})


def test_a_dataset_becomes_arrays():
    import torch

    from hpscan.workloads import Split

    dataset = torch.utils.data.TensorDataset(torch.arange(6.0).view(3, 2), torch.tensor([1, 0, 1]))
    split = Split.of(dataset)
    assert np.array_equal(split.inputs, [[0, 1], [2, 3], [4, 5]])
    assert split.targets.tolist() == [1, 0, 1]


def test_a_trainable_needs_a_budget_in_steps(write):
    name = write("def train(config): ...")
    assert spec_of(f"{name}:train", "trainable").resolved().steps == 12
    with pytest.raises(WorkloadError, match="budget: must be in steps for a trainable"):
        _ = spec_of(f"{name}:train", "trainable", budget={"epochs": 1}).steps
