"""The main job, for real: the shipped quickstart on a Ray of its own, and what must hold of its outcome."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpscan.store import Store
from tests.processes import session, started, wait_for

HPSCAN = str(Path(sys.executable).with_name("hpscan"))

pytestmark = pytest.mark.timeout(900)


def hpscan(*arguments, cwd, check=True):
    """Run the installed command line as a user would."""
    done = subprocess.run([HPSCAN, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the quickstart has been launched with its defaults."""
    folder = tmp_path_factory.mktemp("quickstart")
    launch = started("launch", "quickstart", cwd=folder)
    assert launch.wait(timeout=600) == 0, (folder / "out.log").read_text()
    wait_for(lambda: not session(launch.pid), timeout=20, what="the end of its Ray")
    return folder


@pytest.fixture(scope="module")
def answer(folder):
    """What ``analyze --json`` says, by variant."""
    variants = json.loads(hpscan("analyze", "quickstart", "--json", cwd=folder).stdout)["variants"]
    return {entry["variant"]: entry for entry in variants}


def test_every_run_ended(answer):
    assert set(answer) == {"sgd", "sgdw", "adam", "adamw", "adamw-torch"}
    for entry in answer.values():
        assert entry["cells"] >= 81
        assert entry["seeds"] >= 2
        assert entry["states"]["failed"] == entry["states"]["missing"] == 0


@pytest.mark.parametrize("variant", ["sgd", "adamw-torch"])
def test_coupled_contours_run_diagonally(answer, variant):
    assert -1.4 < answer[variant]["contour_slope"]["value"] < -0.6
    assert answer[variant]["verdict"] == "tied"


@pytest.mark.parametrize("variant", ["sgdw", "adamw"])
def test_decoupled_contours_are_level(answer, variant):
    assert abs(answer[variant]["contour_slope"]["value"]) < 0.25


@pytest.mark.parametrize(("coupled", "decoupled"), [("sgd", "sgdw"), ("adam", "adamw"), ("adamw-torch", "adamw")])
def test_coupled_variants_interact_at_least_three_times_as_much(answer, coupled, decoupled):
    assert answer[coupled]["interaction_share"]["value"] > 3 * answer[decoupled]["interaction_share"]["value"]


def test_every_best_cell_lies_inside_the_grid_and_has_learnt(answer):
    for variant, entry in answer.items():
        assert entry["best"]["on_edge"] is False, variant
        assert entry["best"]["test_error"] < 0.12


def test_results_are_parquet_with_provenance(folder):
    rows = Store(folder / "results").runs("quickstart")
    assert rows["run_id"].is_unique
    completed = rows[rows["state"] == "completed"]
    for column in ("train_loss", "val_loss", "val_error", "test_loss", "test_error", "wall_s", "device_s", "host",
                   "matmul_mode", "torch_version", "ray_version"):  # fmt: skip
        assert completed[column].notna().all(), column
    assert rows["config"].map(json.loads).map(lambda config: config["workload"]["label_noise"]).eq(0.2).all()


def test_launching_again_trains_nothing_and_starts_no_ray(folder):
    files = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.parquet")}
    done = hpscan("launch", "quickstart", cwd=folder)
    assert ", 0 to train" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.parquet")} == files


def test_figures_and_report_are_written(folder):
    figures = hpscan("figures", "quickstart", cwd=folder).stdout.split()
    names = ("heatmaps", "separability", "conventions", "collapse")
    assert {path.rpartition("/")[2] for path in figures} == {
        f"{name}.{kind}" for name in names for kind in ("png", "svg", "pdf")
    }
    report = hpscan("report", "quickstart", "--out", "out", cwd=folder).stdout.split()
    assert "out/report.html" in report
    for name in (*figures, *report):
        assert (folder / name).stat().st_size > 1000


def test_status_counts_the_runs(folder, answer):
    found = json.loads(hpscan("status", "quickstart", "--json", cwd=folder).stdout)
    assert found["runs"] == sum(sum(entry["states"].values()) for entry in answer.values())
    assert found["states"]["missing"] == 0


@pytest.mark.slow
def test_a_sweep_stopped_by_ctrl_c_goes_on_and_ends_with_the_same_numbers(folder, tmp_path):
    """Interrupted once packs have landed; relaunched; equal to the bit, to the uninterrupted sweep."""
    arguments = ["launch", "quickstart", "--set", "seeds=[0, 1]"]
    process = started(*arguments, cwd=tmp_path)
    log = tmp_path / "out.log"
    packs = tmp_path / "results" / "quickstart" / "runs"
    wait_for(lambda: process.poll() is not None or list(packs.glob("*.parquet")), what="a pack")
    assert process.poll() is None, log.read_text()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert log.read_text().splitlines()[-1].startswith("hpscan: stopped; what is trained is stored.")
    assert "Traceback" not in log.read_text()
    wait_for(lambda: not session(process.pid), timeout=20, what="the end of its Ray")
    partial = Store(tmp_path / "results").runs("quickstart")
    assert 0 < len(partial) < 1194

    relaunched = hpscan(*arguments, cwd=tmp_path)
    assert f"{len(partial)} in results/quickstart" in relaunched.stdout
    columns = ["state", "steps_done", "train_loss", "val_loss", "val_error", "test_loss", "test_error"]
    resumed = Store(tmp_path / "results").runs("quickstart").set_index("run_id").sort_index()
    whole = Store(folder / "results").runs("quickstart").set_index("run_id").loc[resumed.index]
    assert len(resumed) == 1194
    # a worker of a busy machine may find the loop faster, or compiling not worth it, and another launch not; they round otherwise
    alike = (resumed[["strategy", "compiled"]] == whole[["strategy", "compiled"]]).all(axis=1)
    assert alike.mean() > 0.5
    assert resumed.loc[alike, columns].equals(whole.loc[alike, columns])


def test_without_a_compiler_the_sweep_runs_all_the_same(tmp_path):
    done = hpscan("launch", "quickstart", "--set", "resources.compile=false", "--set", "budget.steps=5",
                  "--set", "variants=[sgdw, adamw]", "--set", "seeds=[11]", cwd=tmp_path)  # fmt: skip
    assert "sgdw" in done.stdout
    rows = Store(tmp_path / "results").runs("quickstart")
    assert not rows["compiled"].any()
    assert set(rows["seed"]) == {11}
