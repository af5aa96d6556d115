"""Users' own code from the documentation, logical GPUs, data that are not there: the real command line on a real Ray."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpscan.store import Store
from hpscan.workloads import FashionMNIST

HPSCAN = str(Path(sys.executable).with_name("hpscan"))
DOCS = Path(__file__).parents[2] / "docs" / "own-workload.md"

pytestmark = pytest.mark.timeout(300)


def hpscan(*arguments, cwd, **environment):
    return subprocess.run(
        [HPSCAN, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that the documentation shows, the code blocks of one file joined."""
    folder = tmp_path_factory.mktemp("user")
    named = r"`(\w+\.(?:py|yaml))`[^`\n]*:\n\n```\w+\n(.*?)```"
    for name, block in re.findall(named, DOCS.read_text(encoding="utf-8"), re.DOTALL):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(f"{block}\n\n")
    return folder


def test_a_users_own_workload_works_first_time(folder):
    done = hpscan("launch", "spirals.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = Store(folder / "results").runs("spirals")
    assert rows["state"].value_counts().to_dict() == {"completed": 150}
    assert rows["test_error"].min() < 0.05
    assert set(rows["strategy"]) <= {"fused", "loop"}
    assert (rows["steps"] == 400).all()
    # the stored spec is found again from another folder
    assert hpscan("report", "spirals", "--store", folder / "results", cwd="/").returncode == 0
    again = hpscan("launch", "spirals.yaml", cwd=folder)
    assert "0 to train" in again.stdout


def test_a_users_training_function_goes_through_the_same_launch_store_and_report(folder):
    done = hpscan("launch", "by_hand.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    store = Store(folder / "results")
    rows = store.runs("by_hand")
    assert rows["state"].value_counts().to_dict() == {"completed": 8}
    assert rows["val_loss"].notna().all()
    assert set(store.curves("by_hand")["step"]) == {50, 100}
    report = hpscan("report", "by_hand", cwd=folder)
    assert report.returncode == 0, report.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("workload.factory=nowhere:make", "workload.factory: importing 'nowhere' from"),
        ("workload.factory=spirals:absent", "has no function 'absent'"),
        ("workload.args={widht: 3}", "unexpected keyword argument 'widht'"),
        ("metric=val_f1", "metric: the workload reports val_error, val_loss; got 'val_f1'"),
    ],
)
def test_a_users_mistake_is_one_line_and_nothing_is_written(folder, change, message):
    done = hpscan("launch", "spirals.yaml", "--set", change, "--set", "name=mistake", cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / "results" / "mistake").exists()


def test_each_worker_gets_a_gpu_of_its_own_and_trains_on_the_cpu_where_there_is_none(tmp_path):
    done = hpscan(
        "launch", "quickstart", "--set", "resources.gpus=4", "--set", "resources.pack_size=20", "--set", "seeds=1",
        "--set", "budget.steps=20", "--set", "resources.compile=false", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = Store(tmp_path / "results").runs("quickstart")
    assert set(rows["gpu"]) == {"0", "1", "2", "3"}
    assert set(rows["device"]) == {"cpu"}


def test_absent_data_are_one_line_and_nothing_is_written(tmp_path):
    done = hpscan("launch", "paper_fig4", "--set", "workload.name=imagenet32", cwd=tmp_path, HPSCAN_DATA=str(tmp_path))
    assert done.returncode == 2
    assert re.fullmatch(
        r"hpscan: \S+/imagenet32/train_data_batch_1: not there; get it from https://\S+, .*\n", done.stderr
    )
    assert not (tmp_path / "results").exists()


def test_the_papers_sweeps_are_priced_without_their_data(tmp_path):
    for name in ("paper_fig1", "paper_fig2", "paper_fig3", "paper_fig4"):
        done = hpscan("launch", name, "--dry-run", cwd=tmp_path, HPSCAN_DATA=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert re.search(r"[\d.]+ [EP]FLOP a run, [\d.]+ EFLOP in all, \d+ GPU-hours", done.stdout)


def test_a_schedule_is_drawn(tmp_path):
    done = hpscan("schedule", "paper_fig4", cwd=tmp_path)
    assert done.stdout.split() == ["paper_fig4-schedule.png", "paper_fig4-schedule.svg", "paper_fig4-schedule.pdf"]
    assert (tmp_path / "paper_fig4-schedule.png").stat().st_size > 5000


@pytest.mark.skipif(not FashionMNIST.debian.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
@pytest.mark.parametrize("spec", ["fashion_mnist", "fashion_mnist_cnn"])
def test_fashion_mnist_is_trained_for_real(tmp_path, spec):
    done = hpscan(
        "launch", spec, "--set", "variants=[sgdw]", "--set", "seeds=[0]", "--set", "budget.steps=40",
        "--set", "grid={lr: [0.03, 0.1], wd: [0.001, 0.01]}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = Store(tmp_path / "results").runs(spec)
    assert rows["state"].tolist() == ["completed"] * 4
    assert rows["test_error"].min() < 0.4
