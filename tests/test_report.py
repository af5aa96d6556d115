"""The report tells everything it has to, in this order, and writes all its files or none."""

import re
import sys
from dataclasses import replace

import pytest
import yaml

from hpscan.analysis import analyze
from hpscan.content import report_page
from hpscan.pages import Table
from hpscan.report import FORMATS, check_formats, save_report
from hpscan.spec import Spec, SpecError
from hpscan.store import Store

SECTIONS = [
    "", "Best configuration of each variant", "To know before relying on this", "Recommended: the middle of the basin",
    "Ready to paste", "sgd in torch", "sgdw in torch", "adamw in torch",
    "How separable learning rate and weight decay are", "Coupled less decoupled", "The basin, and the evidence",
    "One effective parameter?", "Slices through the best cell", "The best weight decay at each learning rate", "Cost", "Setting",
    "How to reproduce it", "The complete spec",
]  # fmt: skip


@pytest.fixture
def page(filled):
    return report_page(analyze(filled, "tiny"))


def table_of(page, title):
    """The table of a section, by its rows' names and its columns."""
    (table,) = [
        block
        for section in page.sections
        if section.title == title
        for block in section.blocks
        if isinstance(block, Table)
    ]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_the_sections_are_these(page):
    assert page.title == "tiny: best configurations"
    assert [section.title for section in page.sections] == SECTIONS
    assert [picture.name for picture in page.pictures] == ["heatmaps", "separability", "collapse", "slices", "ridge"]


def test_every_table_is_as_wide_as_its_header(page):
    tables = [block for section in page.sections for block in section.blocks if isinstance(block, Table)]
    assert len(tables) == 5
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert all(at < len(table.columns) for at in table.wraps)


def test_the_answer_comes_first_in_plain_words(page):
    answer = {about: text for about, text, _ in page.sections[0].blocks[0].points}
    assert answer["sgdw"].startswith("tune lr and wd one after the other. Start from lr 2⁻⁴ ≈ 0.0625 and wd 2⁻⁶")
    assert answer["sgd"].startswith("tune lr and wd together.")
    assert "within 2 % of the best: any lr from 0.054 to 0.072" in answer["sgdw"]
    assert (
        answer["Between variants"] == "sgd's best cell is 0.000 [0.000, 0.000] worse than adamw's: no more than noise."
    )


def test_the_table_holds_the_best_cells(page):
    assert table_of(page, "Best configuration of each variant")["sgdw"] == {
        "variant": "sgdw", "lr": "2⁻⁴ ≈ 0.0625", "wd": "2⁻⁶ ≈ 0.0156", "decay": "decay η·λ (paper)",
        "trained": "12 steps, cosine", "validation loss": "1.010 [0.985, 1.035]", "test loss": "1.010 ± 0.006",
        "test error": "10.0 ± 0.0 %", "seeds": "3", "next cell": "+0.100 [+0.100, +0.100]",
    }  # fmt: skip


def test_what_is_recommended_says_how_far_it_reaches(page):
    sgdw = table_of(page, "Recommended: the middle of the basin")["sgdw"]
    assert sgdw["lr may move, octaves"] == "−0.2, +0.2"
    assert sgdw["an octave of wd costs"] == "+0.100 [+0.100, +0.100]"
    assert sgdw["within"] == "2 %"


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


def test_without_typst_a_pdf_says_what_to_install_and_the_rest_is_written(filled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(SpecError, match=re.escape("pip install 'hpscan[report]'")):
        save_report(analyze(filled, "tiny"), tmp_path / "report", ["html", "pdf"])
    assert not (tmp_path / "report").exists()


def test_the_spec_is_shown_without_what_it_leaves_open(filled, page):
    (code,) = page.sections[-1].blocks
    assert Spec.validated(yaml.safe_load(code.text)) == filled.spec("tiny")
    assert "null" not in code.text
