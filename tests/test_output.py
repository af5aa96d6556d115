"""What the commands have in common: how they end on an error, and what they print."""

import io
import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hpscan.cli import output
from hpscan.cli.output import one_line_errors
from hpscan.errors import ClusterError, SweepIncompleteError
from hpscan.spec import SpecError
from hpscan.store import Store, StoreError
from hpscan.workloads import DataAbsentError, WorkloadError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SpecError("lr: must be positive; got -1"), 2, "lr: must be positive; got -1"),
        (WorkloadError("workload: nothing"), 2, "workload: nothing"),
        (DataAbsentError("data: not there"), 2, "data: not there"),
        (StoreError("sweep: is not there", bad_input=True), 2, "sweep: is not there"),
        (StoreError("sweep: cannot be read", bad_input=False), 1, "sweep: cannot be read"),
        (SweepIncompleteError("2 runs failed"), 1, "2 runs failed"),
        (ClusterError("--address auto: nobody there"), 1, "--address auto: nobody there"),
        (PermissionError(13, "Permission denied", "results"), 1, "results: Permission denied"),
        (OSError(28, "No space left on device"), 1, "output: No space left on device"),
        (OSError("odd"), 1, "output: odd"),
    ],
)
def test_whatever_a_user_can_cause_is_one_line_and_an_exit_code(capsys, error, code, line):
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise error
    assert ended.value.code == code
    assert capsys.readouterr() == ("", f"hpscan: {line}\n")


def test_what_a_user_cannot_cause_is_not_hidden():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0
    with pytest.raises(KeyboardInterrupt), one_line_errors():
        raise KeyboardInterrupt


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_a_suggested_store_is_one_word_for_a_shell(path):
    words = shlex.split(output.store_option(path))
    assert words == ([] if path == output.DEFAULT_STORE else ["--store", path])


def test_figures_go_where_they_are_asked_for_else_beside_the_results(tmp_path):
    store = Store(tmp_path)
    assert output.folder_for("figures", Path("elsewhere"), store, "tiny") == Path("elsewhere")
    assert output.folder_for("figures", None, store, "tiny") == tmp_path / "tiny" / "figures"


def test_a_path_is_said_as_short_as_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output.shown(tmp_path / "a" / "b") == "a/b"
    assert output.shown(tmp_path.parent / "b") == str(tmp_path.parent / "b")
    assert output.shown(Path("a")) == "a"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_what_is_printed_for_programs_is_read_back(value):
    with pytest.MonkeyPatch.context() as patched:
        out = io.StringIO()
        patched.setattr("sys.stdout", out)
        output.print_json(value)
    assert json.loads(out.getvalue()) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"loss": float("-inf")}])
def test_no_json_is_printed_that_is_none(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        output.print_json(value)


def test_a_cell_too_long_for_its_table_is_folded_and_not_cut():
    table = output.table_of("name", "value")
    table.add_row("x" * 50, "1")
    console = Console(width=40, file=io.StringIO())
    console.print(table)
    assert console.file.getvalue().count("x") == 50


def test_what_of_a_store_cannot_be_read_is_told_and_left_out(tmp_path, make_spec, capsys):
    Store(tmp_path).save_spec(make_spec())
    (tmp_path / "tiny" / "runs").mkdir()
    (tmp_path / "tiny" / "runs" / "pack-x.parquet").write_bytes(b"nonsense")
    assert len(output.opened(str(tmp_path)).runs("tiny")) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("hpscan: ")
    assert "pack-x.parquet: " in told.err
    assert told.err.count("\n") == 1
