import base64
import re
from html.parser import HTMLParser

import pytest

from hpscan.analysis import analyze
from hpscan.report import save_report
from hpscan.store import Store
from tests.test_analysis import filled  # noqa: F401  (a fixture)

VOID = {"meta", "img", "br", "link", "hr"}


class Checker(HTMLParser):
    """Checks nesting; collects headings, images, links and the text of tables."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.images, self.urls, self.cells = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(attrs)
        self.urls += [attrs[name] for name in ("src", "href") if name in attrs]
        if tag == "th":
            assert attrs.get("scope") in {"row", "col"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in {"h1", "h2"}:
            self.headings.append(data)
        if self.open and self.open[-1] in {"td", "th"}:
            self.cells.append(data)


@pytest.fixture
def written(filled, tmp_path):  # noqa: F811
    paths = save_report(analyze(filled, "tiny"), tmp_path / "report")
    return {path.name: path.read_text() for path in paths if path.suffix in {".html", ".md"}}


def test_the_page_is_well_formed_and_needs_no_network(written):
    page = Checker(written["report.html"])
    assert page.headings[:3] == ["tiny: best configurations", "Best configuration of each variant",
                                 "How separable learning rate and weight decay are"]  # fmt: skip
    assert len(page.images) == 3
    assert all(image["alt"] for image in page.images)
    assert all(url.startswith("data:image/svg+xml;base64,") for url in page.urls)
    assert base64.b64decode(page.urls[0].partition(",")[2]).startswith(b"<?xml")
    assert "http" not in re.sub(r"data:[^\"]*", "", written["report.html"])


def test_the_answer_comes_first_in_words(written):
    for marked, bold in ((written["report.html"], "<strong>{}</strong>"), (written["report.md"], "**{}**")):
        answer = marked.index(bold.format("sgdw") + ": learning rate and weight decay can be tuned one after the other")
        assert answer < marked.index("Best configuration of each variant")
        assert bold.format("sgd") + ": learning rate and weight decay must be tuned together" in marked


def test_the_table_holds_the_best_cells(written):
    cells = Checker(written["report.html"]).cells
    row = cells[cells.index("sgdw") :][:7]
    assert row == ["sgdw", "2⁻⁴ ≈ 0.0625", "2⁻⁶ ≈ 0.0156", "1.010 [0.985, 1.035]", "1.010 ± 0.006", "10.0 ± 0.0 %", "3"]


def test_what_a_reader_must_know_is_said(written):
    for text in written.values():
        assert "adamw: 25 of 75 runs are missing." in text
        assert "adamw: the best cell has 2 of 3 seeds so far." in text
        assert "sgd: 3 of 75 runs diverged." in text


def test_markdown_links_the_figures_beside_it(written):
    assert "](heatmaps.svg)" in written["report.md"]
    assert "](separability.svg)" in written["report.md"]


def test_text_of_a_spec_is_text_everywhere(filled, tmp_path):  # noqa: F811
    evil = '<script>alert("x")</script> **bold** [a](javascript:1) ```'
    filled.save_spec(filled.spec("tiny").model_copy(update={"notes": evil}))
    paths = save_report(analyze(filled, "tiny"), tmp_path / "evil")
    page, text = paths[0].read_text(), paths[1].read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\\<script\\>" in text
    assert text.count("```") == 2


def test_an_empty_sweep_still_makes_a_report(tmp_path, make_spec):
    store = Store(tmp_path)
    store.save_spec(make_spec())
    page, *_ = save_report(analyze(store, "tiny"), tmp_path / "report")
    assert "no cell has a result to compare" in page.read_text()
    Checker(page.read_text())
