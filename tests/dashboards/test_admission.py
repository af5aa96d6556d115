"""Which specs a server refuses, and that it does before it opens what they name."""

import sys

import pytest
import yaml

from hpscan.dashboards.admission import RefusedError, admitted
from hpscan.spec import SpecError


def as_yaml(raw, **changes):
    return yaml.safe_dump({**raw, **changes})


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"workload": {"name": "trainable", "trainable": "os:getcwd"}}, "os:getcwd"),
        ({"workload": {"trainable": "os:getcwd"}}, "os:getcwd"),
        ({"workload": {"factory": "os:getcwd"}}, "os:getcwd"),
        ({"workload": {"name": "factory"}}, "workload.factory"),
        ({"workload": {"name": "factory", "factory": "mine:make", "folder": "/tmp"}}, "workload.folder"),
        ({"workload": {"name": "charlm", "text": "/etc/passwd"}}, "/etc/passwd"),
        ({"workload": {"name": "imported", "kind": "csv", "source": "x"}}, "imported"),
    ],
)
def test_code_and_files_that_nobody_allowed_are_refused(tiny_raw, changes, names):
    with pytest.raises(RefusedError, match=names):
        admitted(as_yaml(tiny_raw, **changes), ("mine:make",), submits=False)


def test_a_file_that_is_not_allowed_is_not_even_opened(tiny_raw):
    """Reading /dev/zero would not end."""
    workload = {"name": "charlm", "text": "/dev/zero"}
    with pytest.raises(RefusedError):
        admitted(as_yaml(tiny_raw, workload=workload, budget={"epochs": 1}), (), submits=False)


def test_allowed_code_is_taken_and_not_imported(tiny_raw):
    spec = admitted(as_yaml(tiny_raw, workload={"factory": "mine:make"}), ("mine:make",), submits=False)
    assert spec.workload.factory == "mine:make"
    assert "mine" not in sys.modules


def test_a_job_server_is_sent_no_code(tiny_raw):
    with pytest.raises(RefusedError, match="job servers"):
        admitted(as_yaml(tiny_raw, workload={"factory": "mine:make"}), ("mine:make",), submits=True)


def test_many_values_of_each_of_several_axes_are_refused_together(tiny_raw):
    grid = {axis: {"log2": [-8, 0], "points": 1000} for axis in ("lr", "wd")}
    assert admitted(as_yaml(tiny_raw, grid=grid, seeds=1), (), submits=False).n_runs == 3_000_000
    with pytest.raises(SpecError, match="at most 3,000,000 runs here; got 30,000,000"):
        admitted(as_yaml(tiny_raw, grid=grid, seeds=10), (), submits=False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be a mapping"),
        ("[1", "not YAML at line"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("[" * 30_000, "nested too deeply"),
        ("x" * 70_000, "at most 65,536 characters"),
        ("name: tiny", "workload"),
        ("grid: {lr: {log2: [-8, 0], points: 1000000000}}", "lr: must have at most 10,000 values"),
        ("seeds: 1000000000", "seeds: must have at most 10,000 values"),
        ("grid: {momentum: {log2: [-8, 0], points: 999}, eps: {log2: [-8, 0], points: 999}}", "998,001"),
        ("grid: {variants: {sgd: {lr: {log2: [-8, 0], points: 99999}}}}", "lr: must have at most"),
        ("batch_size: 2026-13-45", "not YAML"),
    ],
)
def test_what_is_no_spec_ends_in_one_line(text, says):
    with pytest.raises(SpecError, match=says) as told:
        admitted(text, (), submits=False)
    assert "\n" not in str(told.value)
