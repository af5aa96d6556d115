"""What other tools write, read as they write it."""

import sqlite3

import optuna
import pytest

from hpscan.sources import read_csv, read_optuna, read_ray
from hpscan.spec import SpecError


def test_a_csv_keeps_its_text_its_quotes_and_its_blanks(tmp_path):
    path = tmp_path / "wandb.csv"
    path.write_bytes(
        b'\xef\xbb\xbf"Name","State","lr","Notes"\r\n"a, b","finished","1e-3","line\nbreak"\r\n"c","crashed","",""\r\n'
    )
    first, second = read_csv(str(path))
    assert first.values == {"Name": "a, b", "State": "finished", "lr": "1e-3", "Notes": "line\nbreak"}
    assert second.values["lr"] == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"lr,lr\n1,2\n", "has two columns 'lr'"),
        (b"\xff\xfe\x00", "not a text file"),
        (None, "No such file"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match=message):
        read_csv(str(path))


def test_a_csv_with_semicolons_is_told_from_one_of_a_single_column(tmp_path):
    path = tmp_path / "export.csv"
    path.write_text('"lr";"wd";"val_loss"\n0,1;0;0,5\n')
    with pytest.raises(SpecError, match=r"export\.csv: has semicolons between its columns; must have commas, or tabs"):
        read_csv(str(path))


def test_a_short_row_of_a_csv_ends_in_blanks_and_a_long_one_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("lr,wd,val_loss\n0.1,0.2\n0.1,0.2,0.3,,\n")
    short, padded = read_csv(str(path))
    assert short.values == {"lr": "0.1", "wd": "0.2", "val_loss": ""}
    assert padded.values == {"lr": "0.1", "wd": "0.2", "val_loss": "0.3"}
    path.write_text("lr,wd,val_loss\n0.1,0.2,0.3\n0,1,0.2,0.3\n")
    with pytest.raises(SpecError, match=r"rows\.csv: line 3 has 4 values for 3 columns$"):
        read_csv(str(path))


def test_a_ray_experiment_says_what_was_tried_and_how_it_ended(experiment):
    trials = read_ray(str(experiment))
    assert [trial.values["state"] for trial in trials] == ["completed", "stopped", "failed", "running", "completed"]
    first = trials[0].values
    assert (first["lr"], first["optimizer/wd"], first["config/seed"], first["nested/acc"]) == (0.1, 0.01, 3, 0.5)
    assert first["val_loss"] == 0.4
    assert [(at["step"], at["val_loss"]) for at in trials[0].curve] == [(1, 0.9), (2, 0.5), (3, 0.4)]
    assert trials[2].values["error"] == "RuntimeError: boom"


@pytest.mark.parametrize("message", ["bad", "bad\nand more", "bad\n  at: 3\nand more", "bad\n  at: 3"])
def test_of_an_error_in_many_lines_the_first_is_told(experiment, message):
    for path in experiment.glob("*/error.txt"):
        path.write_text(
            f'Traceback (most recent call last):\n  File "a.py", line 3, in train\n    f()\n    ^^^\nmy.Odd: {message}\n'
        )
    assert read_ray(str(experiment))[2].values["error"] == "my.Odd: bad"


def test_a_ray_experiment_without_its_loggers_has_last_results(experiment):
    for path in experiment.glob("*/result.json"):
        path.unlink()
    trials = read_ray(str(experiment))
    assert trials[0].values["val_loss"] == 0.4
    assert trials[0].curve == ()


@pytest.mark.parametrize("state", [None, "nonsense", "{}", '{"trial_data": [["{}", "{}"]]}'])
def test_what_is_no_ray_experiment_is_refused(tmp_path, state):
    if state is not None:
        (tmp_path / "experiment_state-1.json").write_text(state)
    with pytest.raises(SpecError, match=r"not a Ray Tune experiment|not a state of Ray Tune's"):
        read_ray(str(tmp_path))
    with pytest.raises(SpecError, match="no such folder"):
        read_ray(str(tmp_path / "absent"))


def journal(path):
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_an_optuna_storage_of_either_kind_is_read(tmp_path, kind):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = tmp_path / "storage"
    study = optuna.create_study(
        storage=journal(path) if kind == "journal" else f"sqlite:///{path}", study_name="s", direction="maximize"
    )
    study.set_user_attr("variant", "adamw")

    def objective(trial):
        lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        trial.set_user_attr("seed", 1)
        for step in range(3):
            trial.report(0.1 * step, step)
        if trial.number == 1:
            raise optuna.TrialPruned
        return 1 - lr

    study.optimize(objective, n_trials=2)
    study.ask()
    trials = read_optuna(str(path))
    assert [trial.values["state"] for trial in trials] == ["completed", "stopped", "running"]
    first, second = trials[0], trials[1]
    assert first.values["value"] == 1 - first.values["lr"]
    assert (first.values["seed"], first.values["variant"], first.values["study"]) == (1, "adamw", "s")
    assert [at["value"] for at in first.curve] == [0.0, 0.1, 0.2]
    assert second.values["value"] == 0.2  # its last report
    assert first.maximised == {"value"}


def test_what_is_no_optuna_storage_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "text").write_text("not json\n")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table things (x)")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name, message in (
        ("text", "not an Optuna storage"),
        ("other.db", "a database without its tables"),
        ("absent.db", "no such file"),
        ("sqlite:///absent.db", "no such file"),
        ("postgresql://nobody@localhost/x", "not an Optuna storage that can be opened"),
    ):
        with pytest.raises(SpecError, match=message):
            read_optuna(str(tmp_path / name) if "://" not in name else name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_characters_that_are_no_line_ends_end_no_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("notes,lr\none\u2028two\x85three\x0cfour,0.1\n", encoding="utf-8")
    (trial,) = read_csv(str(path))
    assert trial.values == {"notes": "one\u2028two\x85three\x0cfour", "lr": "0.1"}
