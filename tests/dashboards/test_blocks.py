"""A report as components says what its HTML says."""

from html.parser import HTMLParser

import pytest

from hpscan.content import report_page
from hpscan.dashboards.blocks import of_page
from hpscan.pages import Code, Facts, Page, Paragraph, Picture, Points, Section, Table, to_html

from .conftest import parts_of, text_of

HOSTILE = "<script>alert('&')</script>"


def page_of(*blocks, level=2):
    return Page("Title", [Section("Head", list(blocks), level=level)])


def words_of(markup):
    """The words of an HTML page below its head."""
    found = []
    parser = HTMLParser()
    parser.handle_data = found.append
    parser.feed(markup[markup.index("<body") :])
    return {word.strip(":") for word in " ".join(found).split()}


@pytest.mark.parametrize(
    "block",
    [Paragraph(HOSTILE), Points([(HOSTILE, "text", "run")]), Points([("", HOSTILE, "")]), Facts([("term", HOSTILE)]),
     Table("about", ["a", "b"], [["name", HOSTILE]]), Code(HOSTILE, "yaml"), Picture("heatmaps", HOSTILE, HOSTILE)],
    ids=lambda block: block.kind,
)  # fmt: skip
def test_every_block_is_text(block):
    (section,) = of_page(page_of(block), lambda name: f"/{name}.svg")
    assert HOSTILE in text_of(section)
    assert not parts_of(section, "Markdown")


def test_all_that_the_html_says_of_a_sweep_is_there(reader):
    page = report_page(reader.analysed("tiny").outcome.result())
    told = {word.strip(":") for word in f"{page.title} {text_of(of_page(page, str))}".split()}
    assert words_of(to_html(page, dict.fromkeys([each.name for each in page.pictures], b""))) - told <= {""}


def test_names_of_what_is_copied_are_unique(reader):
    page = of_page(report_page(reader.analysed("tiny").outcome.result()), str)
    names = [clip.target_id for clip in parts_of(page, "Clipboard")]
    assert len(names) == len(set(names)) > 1
    assert set(names) == {part.id for part in parts_of(page, "Pre")}


def test_a_picture_is_had_where_it_is_said_and_told_to_those_who_do_not_see_it():
    (image,) = parts_of(of_page(page_of(Picture("heatmaps", "alt", "caption")), lambda name: f"/x/{name}.svg"), "Img")
    assert (image.src, image.alt) == ("/x/heatmaps.svg", "alt")


def test_rows_of_a_table_are_named_by_their_first_cell_and_only_some_wrap():
    table = of_page(page_of(Table("about", ["a", "b", "c"], [["n", "1", "2"]], wraps=[2])), str)
    scopes = [(head.children, head.scope) for head in parts_of(table, "Th")]
    assert scopes == [("a", "col"), ("b", "col"), ("c", "col"), ("n", "row")]
    assert [(cell.children, cell.className) for cell in parts_of(table, "Td")] == [("1", ""), ("2", "wraps")]


@pytest.mark.parametrize(("level", "kind"), [(2, "H2"), (3, "H3"), (4, "H4")])
def test_a_section_s_level_is_that_of_its_heading(level, kind):
    (heading,) = parts_of(of_page(page_of(Paragraph("x"), level=level), str), kind)
    assert heading.children == "Head"
