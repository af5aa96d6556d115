"""`hpscan import` and `hpscan export` as a user calls them."""

import json

import pytest
import yaml

from tests.conftest import assert_refused

WANDB = """"Name","State","Notes","Runtime","optimizer","optimizer.lr","optimizer.wd","seed","val/loss","val/acc"
"rosy-1","finished","a, b","12","AdamW","0.001","0.1","0","0.52","0.81"
"rosy-2","finished","","12","AdamW","0.0010000000474974513","0.1","1","0.50","0.82"
"rosy-3","finished","","12","AdamW","0.01","0.1","0","NaN","0.1"
"rosy-4","crashed","","12","AdamW","0.01","0.01","0","",""
"rosy-5","failed","","12","AdamW","0.01","0.01","1","",""
"rosy-6","running","","12","AdamW","0.001","0.01","1","0.6","0.7"
"rosy-7","finished","","12","AdamW","","0.01","1","0.6","0.7"
"rosy-8","finished","","12","AdamW","1e-3","1e-2","0","0.55","0.79"
"""
COLUMNS = "lr=optimizer.lr,wd=optimizer.wd,variant=optimizer,val_loss=val/loss,val_error=1-val/acc"


def test_a_wandb_export_becomes_a_sweep_that_every_command_reads(hpscan, tmp_path):
    (tmp_path / "wandb.csv").write_text(WANDB)
    code, out, err = hpscan(
        "import", "csv", "wandb.csv", "--sweep", "wb", "--columns", COLUMNS, "--variant", "AdamW=adamw-torch"
    )
    assert (code, err) == (0, "")
    assert "wb: 5 runs from 8 trials of wandb.csv; compared by val_loss" in out
    assert "adamw-torch: 3 completed, 1 diverged, 1 failed; 2 lr × 2 wd" in out
    assert "lr: 3 values written, 2 meant" in out
    assert "left out: 1 crashed, so not ended, 1 running, so not ended, 1 without lr" in out
    assert "not known: budget, batch_size, schedule, decay_on, optimizer, training" in out
    for command in ("analyze", "figures", "report", "status"):
        code, out, err = hpscan(command, "wb")
        assert (code, err) == (0, "")
    page = (tmp_path / "results" / "wb" / "report" / "report.html").read_text()
    assert "<h1>wb: best configurations</h1>" in page
    assert "The source of this sweep does not say budget, batch_size, schedule, decay_on, optimizer, training" in page
    assert (
        "* Budget: unknown steps of batch unknown, unknown schedule"
        in (tmp_path / "results" / "wb" / "report" / "report.md").read_text()
    )
    assert_refused(hpscan("launch", "results/wb/spec.yaml"), "workload: imported from wandb.csv, there is nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["csv", "absent.csv", "--sweep", "x"], "absent.csv: cannot be read: No such file"),
        (["csv", "wandb.csv", "--sweep", "x"], "wandb.csv: no column for lr and wd and val_loss (or val_error)"),
        (["csv", "wandb.csv", "--sweep", "x", "--columns", "lr=alpha"], "--columns lr=alpha: wandb.csv has no such"),
        (["csv", "wandb.csv", "--sweep", "x", "--columns", "lr"], "--columns: must be OURS=THEIRS"),
        (["csv", "wandb.csv", "--sweep", "../x", "--columns", COLUMNS, "--variant", "sgd"], "must be a folder name"),
        (["optuna", "wandb.csv", "--sweep", "x"], "wandb.csv: not an Optuna storage"),
        (["ray", "wandb.csv", "--sweep", "x"], "wandb.csv: no such folder"),
        (["wandb", "wandb.csv", "--sweep", "x"], "import wandb: must be ray, optuna, csv"),
    ],
)
def test_what_cannot_be_imported_is_one_line(hpscan, tmp_path, arguments, message):
    (tmp_path / "wandb.csv").write_text(WANDB)
    assert_refused(hpscan("import", *arguments), message)
    assert [path.name for path in tmp_path.iterdir()] == ["wandb.csv"]


def test_a_name_that_is_taken_is_refused(hpscan, filled, tmp_path):
    (tmp_path / "x.csv").write_text("lr,wd,val_loss\n1,1,1\n")
    refused = hpscan("import", "csv", "x.csv", "--sweep", "tiny", "--variant", "sgd", "--store", tmp_path)
    assert_refused(refused, "--sweep tiny: the store has a sweep of this name")


def test_trials_that_lie_scattered_are_told_of(hpscan, tmp_path):
    lines = [f"{0.1 * 1.5**n},{0.001 * 2.5 ** (n % 9)},{n}" for n in range(20)]
    (tmp_path / "x.csv").write_text("\n".join(["lr,wd,val_loss", *lines]))
    code, out, _ = hpscan("import", "csv", "x.csv", "--sweep", "x", "--variant", "sgd")
    assert code == 0
    assert "sgd: only 20 runs for 180 cells: the trials lie scattered" in out


def test_every_format_is_written(hpscan, filled, tmp_path):
    written = {}
    for name in ("csv", "optuna", "yaml", "json"):
        code, out, _ = hpscan("export", "tiny", "--format", name, "--store", tmp_path)
        assert code == 0
        written[name] = tmp_path / out.strip()
        assert written[name].stat().st_size > 1000
    assert yaml.safe_load(written["yaml"].read_text()) == json.loads(written["json"].read_text())
    assert_refused(
        hpscan("export", "tiny", "--format", "xml", "--store", tmp_path), "--format xml: must be csv, optuna"
    )
    assert_refused(hpscan("export", "none", "--format", "csv", "--store", tmp_path), "sweep 'none': not in the store")
    assert_refused(
        hpscan("export", "tiny", "--format", "optuna", "--out", written["optuna"], "--store", tmp_path),
        "exists, and may hold other studies",
    )
