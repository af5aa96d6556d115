"""The command line up to the point where Ray would start."""

import json
import shlex

import pytest
import yaml

from hpscan import cli
from tests import processes
from tests.commands import check_command
from tests.conftest import assert_refused
from tests.workers import patch_launch


def test_version_and_help(hpscan):
    code, out, _ = hpscan("--version")
    assert (code, out) == (0, "hpscan 0.1.0\n")
    code, out, _ = hpscan("--help")
    assert code == 0
    for command in ("launch", "specs", "status", "analyze", "figures", "report"):
        assert command in out


def test_characters_that_a_locale_lacks_are_no_error(tmp_path):
    done = processes.hpscan("--help", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "learning rate ? weight decay" in done.stdout


def test_every_command_is_grouped_and_has_an_example_that_parses(hpscan):
    from typer.main import get_command

    listed = hpscan("--help")[1]
    for heading, commands in cli.COMMANDS.items():
        assert heading in listed
        for command, example in commands:
            name = command.__name__.rstrip("_")
            assert example.split()[0] == name
            check_command(["hpscan", *shlex.split(example)])
            assert f"hpscan {example}" in " ".join(hpscan(name, "--help")[1].split())
    assert {each for group in cli.COMMANDS.values() for each, _ in group} == {
        command.callback for command in cli.app.registered_commands
    }
    assert len(get_command(cli.app).commands) == sum(map(len, cli.COMMANDS.values()))


BAD = {
    "unknown key": ({"epochs": 3}, "unknown key 'epochs'"),
    "negative lr": ({"grid": {"lr": [-0.1], "wd": [0]}}, "`grid.lr`: must be positive; got -0.1"),
    "empty grid": ({"grid": {"lr": [], "wd": []}}, "`grid.lr`: must hold at least one value"),
    "unknown variant": ({"variants": ["adamax"]}, "unknown variant 'adamax'"),
    "unknown workload": ({"workload": "mnist"}, "got 'mnist'"),
    "duplicate seeds": ({"seeds": [1, 1]}, "1 is given more than once"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_bad_spec_is_one_line_exit_2_and_nothing_written(hpscan, tmp_path, tiny_raw, change, message):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**tiny_raw, **change}))
    assert_refused(hpscan("launch", path), message)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.yaml"]


def test_an_address_that_is_none_is_refused_before_anything_is_shown_or_written(hpscan, tmp_path, tiny_raw):
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(tiny_raw))
    assert_refused(hpscan("launch", path, "--address", "http://x:1"), "--address http://x:1: must be `auto`, HOST:PORT")
    assert [entry.name for entry in tmp_path.iterdir()] == ["spec.yaml"]
    # before its sweep is even looked for
    assert_refused(hpscan("refine", "tiny", "--store", tmp_path, "--address", "x"), "--address x: must be `auto`")


@pytest.mark.parametrize("command", ["logs", "cancel"])
def test_an_address_that_is_no_job_servers_is_bad_input(hpscan, command):
    assert_refused(
        hpscan(command, "tiny", "--address", "head:6379"), "--address head:6379: must be the job server's URL"
    )


def test_not_yaml_and_missing_file(hpscan, tmp_path):
    (tmp_path / "broken.yaml").write_text("a: [1,\nb: {")
    assert_refused(hpscan("launch", "broken.yaml"), "not YAML at line")
    assert_refused(hpscan("launch", "absent.yaml"), "no such file")
    assert_refused(hpscan("launch", "quickstart", "--set", "seeds=[3, 3]"), "3 is given more than once")
    assert_refused(hpscan("launch", "quickstart", "--store", "gopher://x"), "gopher")


@pytest.mark.parametrize("command", ["analyze", "compact", "figures", "refine", "report", "status"])
def test_an_unknown_sweep_is_refused(hpscan, command):
    assert_refused(hpscan(command, "nothing"), "sweep 'nothing': not in the store")


def test_an_empty_store_says_how_to_begin(hpscan):
    code, out, _ = hpscan("status")
    assert code == 0
    assert "hpscan launch quickstart" in out
    assert json.loads(hpscan("status", "--json")[1]) == []


def test_a_dry_run_prices_the_sweep_and_writes_nothing(hpscan, tmp_path, tiny_raw):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_raw))
    code, out, _ = hpscan("launch", "tiny.yaml", "--dry-run", "--set", "variants=[sgdw, adamw]", "--set", "seeds=[11]")
    assert code == 0
    assert "tiny: 24 runs of 12 steps" in out
    assert "to train: sgdw 12, adamw 12" in out
    assert "run-step" in out
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.yaml"]


def test_the_store_can_come_from_the_environment(hpscan, tmp_path, monkeypatch, make_spec):
    from hpscan.store import Store

    Store(tmp_path / "elsewhere").save_spec(make_spec())
    monkeypatch.setenv("HPSCAN_STORE", str(tmp_path / "elsewhere"))
    assert json.loads(hpscan("status", "--json")[1])[0]["sweep"] == "tiny"


def test_a_sweep_that_cannot_be_read_hides_no_other(hpscan, tmp_path, make_spec):
    from hpscan.store import Store

    store = Store(tmp_path)
    for name in ("broken", "sound"):
        store.save_spec(make_spec(name=name))
    (tmp_path / "broken" / "spec.yaml").write_text("name: broken\nvariants: [adamax]\n")
    code, out, err = hpscan("status", "--store", tmp_path)
    assert (code, out.split()[7:9]) == (1, ["sound", "72"])
    assert err.startswith(f"hpscan: {tmp_path}/broken/spec.yaml: ")
    assert err.count("\n") == 1
    code, out, _ = hpscan("status", "--store", tmp_path, "--json")
    assert (code, [each["sweep"] for each in json.loads(out)]) == (1, ["sound"])
    (tmp_path / "broken" / "spec.yaml").write_text("name: [")
    assert hpscan("status", "--store", tmp_path)[2].startswith(f"hpscan: {tmp_path}/broken/spec.yaml: not YAML at line")
    (tmp_path / "sound" / "spec.yaml").unlink()
    assert hpscan("status", "--store", tmp_path)[:2] == (1, "")
    assert hpscan("status", "broken", "--store", tmp_path)[:2] == (1, "")


def test_a_narrow_terminal_folds_the_names_of_sweeps(hpscan, tmp_path, make_spec, monkeypatch):
    from hpscan.cli import launching
    from hpscan.store import Store

    Store(tmp_path).save_spec(make_spec(name="abcdefghijklmnopqrstuvwxyz" * 2))
    monkeypatch.setattr(launching.console, "width", 60)
    out = hpscan("status", "--store", tmp_path)[1]
    assert "…" not in out
    assert "".join(line[:9].strip() for line in out.splitlines()).endswith("xyz")


def test_a_dry_run_refuses_a_metric_that_a_launch_would_refuse(hpscan, tmp_path, tiny_raw):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_raw))
    refused = hpscan("launch", "tiny.yaml", "--dry-run", "--set", "metric=val_accuracy")
    assert_refused(refused, "metric: the workload reports val_error, val_loss; got 'val_accuracy'")


RAISING = """
def one(config):
    raise RuntimeError("no [such] file")

def each(config):
    if config["lr"] > 0.1:
        return {"val_loss": 1.0}
    raise RuntimeError(f"not with wd {config['wd']}")
"""


def test_a_launch_says_at_its_end_what_failed_runs_raised(hpscan, tmp_path, tiny_raw, monkeypatch):
    patch_launch(monkeypatch)
    (tmp_path / "telling_errors.py").write_text(RAISING)
    grid = {"lr": [0.1, 0.2], "wd": [0, 0.1, 0.2, 0.3, 0.4]}
    raw = tiny_raw | {"variants": ["sgd"], "grid": grid, "seeds": 1}
    for name in ("one", "each"):
        workload = {"trainable": f"telling_errors:{name}"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(raw | {"name": name, "workload": workload}))
    code, out, err = hpscan("launch", "one.yaml")
    assert code == 1
    assert (
        "\nfailed, 10 runs: telling_errors:one raised RuntimeError: no [such] file (telling_errors.py, line 3)\n" in out
    )
    assert "Next:" not in out  # there is nothing to report
    assert err == "hpscan: 10 runs failed; see hpscan status one\n"
    code, out, _ = hpscan("launch", "each.yaml")
    assert code == 1
    assert out.count("failed, 1 run: telling_errors:each raised RuntimeError: not with wd 0") == 3
    assert "\nand 2 other errors\nNext: hpscan report each\n" in out
