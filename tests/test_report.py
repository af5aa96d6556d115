"""A report writes all its files or none, and text in them is text."""

import re
import sys
from dataclasses import replace

import pytest
import yaml

from hpscan.analysis import analyze
from hpscan.grid import runs
from hpscan.report import FORMATS, check_formats, save_report
from hpscan.spec import SpecError
from hpscan.store import Store
from tests.stored import NOW


def test_a_report_is_written_in_every_format(filled, tmp_path):
    paths = save_report(analyze(filled, "tiny"), tmp_path / "report")
    names = {path.name for path in paths}
    assert names >= {"report.html", "report.md", "report.pdf", "best_config.yaml", "best_config.json", "landscape.csv"}
    linked = re.findall(r"\]\((\w+\.svg)\)", (tmp_path / "report/report.md").read_text())
    assert linked
    assert set(linked) <= names
    assert all((tmp_path / "report" / name).stat().st_size for name in names)
    again = save_report(analyze(filled, "tiny"), tmp_path / "again", ["html"])
    assert [path.name for path in again] == ["report.html"]
    assert again[0].read_bytes() == (tmp_path / "report/report.html").read_bytes()
    best = yaml.safe_load((tmp_path / "report/best_config.yaml").read_text())
    assert best["best"][0]["variant"] == "sgd"


@pytest.mark.parametrize(("given", "wanted"), [(["html,md", "csv"], ["html", "md", "csv"]), (FORMATS, list(FORMATS))])
def test_formats_are_given_one_by_one_or_with_commas(given, wanted):
    assert check_formats(given) == wanted


def test_a_format_that_there_is_not_is_refused():
    with pytest.raises(SpecError, match="--format docx: must be of html, md, pdf, yaml, json, csv"):
        check_formats(["html,docx"])


def test_text_of_a_spec_is_text_everywhere(filled, tmp_path):
    evil = '<script>alert("x")</script> **bold** [a](javascript:1) ``` #panic("x")'
    filled.save_spec(filled.spec("tiny").model_copy(update={"notes": evil}))
    paths = save_report(analyze(filled, "tiny"), tmp_path / "evil", ["html", "md", "pdf"])
    page, text = paths[0].read_text(), paths[1].read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\\<script\\>" in text


def test_a_sweep_of_any_name_is_harmless(filled, tmp_path):
    spec = filled.spec("tiny").model_copy(update={"name": "a<b>c"})
    analysis = analyze(filled, "tiny")
    paths = save_report(replace(analysis, spec=spec), tmp_path, ["html", "md"])
    assert "a<b>c" not in paths[0].read_text()
    assert "a&lt;b&gt;c" in paths[0].read_text()


def test_an_empty_sweep_still_makes_a_report(tmp_path, make_spec):
    store = Store(tmp_path)
    store.save_spec(make_spec())
    page, *_ = save_report(analyze(store, "tiny"), tmp_path / "report")
    assert "no cell has a result to compare" in page.read_text()


def test_where_all_diverged_the_answer_says_so(tmp_path, make_spec):
    spec, store = make_spec(variants=["sgd", "sgdw"]), Store(tmp_path)
    store.save_spec(spec)
    rows = [
        run.columns() | {"state": "diverged", "finished_at": NOW} for run in runs(spec) if run.cell.variant == "sgd"
    ]
    store.save_pack(spec.name, "p", rows, [])
    told, *_ = save_report(analyze(store, "tiny"), tmp_path / "report", ["md"])
    assert "* **sgd**: all runs diverged.\n* **sgdw**: no cell has a result to compare.\n" in told.read_text()


def test_without_typst_a_pdf_says_what_to_install_and_the_rest_is_written(filled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(SpecError, match=re.escape("pip install 'hpscan[report]'")):
        save_report(analyze(filled, "tiny"), tmp_path / "report", ["html", "pdf"])
    assert not (tmp_path / "report").exists()
