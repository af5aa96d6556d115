"""`hpscan refine` as a user calls it: what it says, and what it hands to a launch."""

import pytest

from hpscan.cli import refining
from hpscan.grid import runs
from hpscan.store import Store
from tests.conftest import assert_refused
from tests.test_rounds import GRID, all_rounds


@pytest.fixture
def stored(make_spec, tmp_path):
    """A sweep of which every cell is stored: a bowl about lr 2⁻³."""
    spec = make_spec(grid=GRID, variants=["sgdw"], adaptive={"most_cells": 1.0})
    store = Store(tmp_path / "results")
    store.save_spec(spec)
    all_rounds(spec, store)
    return spec


@pytest.fixture
def launched(monkeypatch):
    """What is handed to a launch: spec, store, address."""
    handed = []
    monkeypatch.setattr(refining, "launch_spec", lambda spec, *, store, address: handed.append((spec, store, address)))
    return handed


def test_a_dry_run_says_what_would_change_and_launches_nothing(hpscan, stored, launched, tmp_path):
    before = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}
    code, out, err = hpscan("refine", "tiny", "--dry-run")
    assert (code, err, launched) == (0, "", [])
    *changes, share, last = out.splitlines()
    assert any("lr finer" in line for line in changes)
    assert share.startswith("adaptive: at most ")
    assert last == "nothing was written"
    assert {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()} == before


def test_what_is_launched_is_what_was_said_with_all_that_is_trained(hpscan, stored, launched):
    said = hpscan("refine", "tiny", "--dry-run")[1].splitlines()[:-1]
    code, out, err = hpscan("refine", "tiny", "--address", "auto")
    assert (code, err, out.splitlines()) == (0, "", said)
    ((spec, store, address),) = launched
    assert (spec.name, store, address) == ("tiny", "results", "auto")
    assert {run.run_id for run in runs(stored)} < {run.run_id for run in runs(spec)}


def test_neither_finer_nor_wider_is_nothing(hpscan, stored, launched):
    assert_refused(hpscan("refine", "tiny", "--no-finer", "--no-wider"), "nothing to refine")
    assert launched == []


def test_an_address_that_is_none_is_refused_before_the_store_is_read(hpscan, launched):
    assert_refused(hpscan("refine", "nothing", "--address", "nowhere"), "--address nowhere: must be `auto`")
    assert launched == []


def test_what_was_imported_is_not_refined(hpscan, launched, tmp_path):
    (tmp_path / "mine.csv").write_text(
        "lr,wd,val_loss\n" + "".join(f"{lr},{wd},{lr + wd}\n" for lr in (1, 2) for wd in (1, 2))
    )
    assert hpscan("import", "csv", "mine.csv", "--sweep", "mine", "--variant", "sgdw")[0] == 0
    assert_refused(hpscan("refine", "mine"), "imported")
    assert launched == []
