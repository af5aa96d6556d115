"""Files of a sweep: their content against the store's, and each made once."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.feather
import pytest

from hpscan.dashboards import downloads
from hpscan.dashboards.downloads import REPORT_FILES, TABLES, table
from hpscan.dashboards.reading import UnknownError
from hpscan.gallery import report_drawings
from hpscan.grid import runs
from tests.conftest import landscape_of


def report_file(reader, sweep, name):
    return downloads.report_file(reader, sweep, reader.analysed(sweep), name)


READ = {"csv": pd.read_csv, "parquet": pd.read_parquet, "arrow": pyarrow.feather.read_feather}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("panel", ["sgd", "adamw"])
def test_a_table_has_what_the_store_has_of_each_run(reader, store, kind, panel):
    (path,) = (store.root / "tiny" / "runs").glob("*.parquet")
    stored = pd.read_parquet(path).query("variant == @panel").set_index("run_id")
    found = READ[kind](io.BytesIO(table(reader.shape("tiny", panel), kind))).set_index("run_id")
    assert found.index.is_unique
    assert set(found.index[found["state"] != "missing"]) == set(stored.index)
    both = found.loc[stored.index]
    pd.testing.assert_series_equal(both["state"], stored["state"], check_dtype=False)
    for column in ("lr", "wd", "seed"):
        np.testing.assert_array_equal(both[column], stored[column])
    done = stored["state"] == "completed"
    np.testing.assert_array_equal(both["val_loss"][done], stored["val_loss"][done])
    assert not np.isfinite(both["val_loss"][~done]).any()


def test_a_csv_keeps_every_digit_and_any_name():
    name = 'a,"b"\n<c>'
    shape = replace(landscape_of(np.full((1, 1, 2), 0.1 + 0.2)), name=name, variant=name)
    found = pd.read_csv(io.BytesIO(table(shape, "csv")))
    assert (found["val_loss"] == 0.1 + 0.2).all()
    assert (found["variant"] == name).all()
    assert b"\r" not in table(shape, "csv")


def test_a_figure_is_drawn_once_for_all_its_kinds(reader, monkeypatch):
    svg = report_file(reader, "tiny", "heatmaps.svg")
    monkeypatch.setattr(downloads, "report_drawings", None)
    assert report_file(reader, "tiny", "landscapes.svg") is svg
    assert report_file(reader, "tiny", "heatmaps.png").startswith(b"\x89PNG")
    assert report_file(reader, "tiny", "heatmaps.pdf").startswith(b"%PDF")


def test_a_file_is_made_anew_when_a_run_lands(reader, store, make_spec):
    before = report_file(reader, "tiny", "landscape.csv")
    run = next(run for run in runs(make_spec()) if run.cell.variant == "adamw" and run.seed == 1)
    row = {"run_id": run.run_id, "variant": "adamw", "state": "completed", "val_loss": 0.001, "seed": 1}
    store.save_pack("tiny", "q", [row], [])
    reader._looked.clear()  # as a second later
    after = report_file(reader, "tiny", "landscape.csv")
    assert before != after


def test_a_figure_that_a_sweep_does_not_call_for_is_none_of_its_files(reader, monkeypatch):
    with pytest.raises(UnknownError, match="scaling: tiny does not call for this figure"):
        report_file(reader, "tiny", "scaling.svg")
    monkeypatch.setattr(downloads, "report_drawings", None)
    with pytest.raises(UnknownError, match="scaling"):  # which is known, too
        report_file(reader, "tiny", "scaling.png")


def test_files_of_no_sweep_are_not_made(reader):
    for name in ("report.html", "heatmaps.svg"):
        with pytest.raises(UnknownError, match="'absent': not in the store"):
            report_file(reader, "absent", name)


def test_every_figure_of_a_report_can_be_had(reader):
    called_for = {drawing.name for drawing in report_drawings(reader.analysed("tiny").outcome.result())}
    assert called_for
    assert {f"{name}.{kind}" for name in called_for for kind in ("svg", "png", "pdf")} <= set(REPORT_FILES)
