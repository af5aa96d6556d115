"""A page shows the same text in every way, all of it as text, and each is well formed."""

import itertools
import re
from io import BytesIO

import html5lib
import pypdf
import pytest

from hpscan.pages import Code, Facts, Page, Paragraph, Picture, Points, Section, Table, to_html, to_markdown, to_pdf

EVIL = """<script>alert("x")</script> & 'q' **bold** [a](javascript:1) | #set page() $x$ \\ `tick` {{ 7*7 }} ~~s~~"""
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20" fill="#0f766e"/></svg>'


def page_of(text):
    """A page with a block of each kind, all of whose text is the same."""
    blocks = [
        Paragraph(text), Points([(text, text, text), ("", text, ""), (text, "", "")]), Facts([(text, text)]),
        Table(text, [text, text], [[text, text]], wraps=(1,)), Picture("figure", text, text), Code(text, "yaml"),
    ]  # fmt: skip
    return Page(
        text,
        [Section("", blocks, tone="answer"), Section(text, blocks, tone="warning"), Section(text, blocks, level=3)],
    )


def parsed(page):
    """The HTML as a tree; raises at the first parse error of the HTML5 specification."""
    text = to_html(page, {"figure": SVG})
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


@pytest.mark.parametrize("text", ["plain", EVIL, "```\nx\n```", "2⁻⁷ ≈ 0.0078, η·λ"])
def test_html_is_valid_and_holds_the_text_as_text(text):
    tree = parsed(page_of(text))
    assert tree.findall(".//script") == []
    assert [node.text for node in tree.iter("title")] == [f"{text} · hpscan report"]
    for tag, times in (("td", 3), ("pre", 3), ("dd", 3), ("figcaption", 3), ("dt", 3)):
        found = ["".join(node.itertext()) for node in tree.iter(tag)]
        assert found == [text] * times, tag


def test_html_can_be_used_without_seeing_it_and_without_a_mouse():
    tree = parsed(page_of("plain"))
    assert tree.getroot().get("lang") == "en" if hasattr(tree, "getroot") else tree.get("lang") == "en"
    levels = [int(node.tag[1]) for node in tree.iter() if re.fullmatch(r"h\d", str(node.tag))]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(node.get("alt") for node in tree.iter("img"))
    assert {node.get("scope") for node in tree.iter("th")} == {"row", "col"}
    for node in tree.iter("div"):  # what scrolls can be reached and is named
        assert (node.get("tabindex"), node.get("role")) == ("0", "region")
        assert node.get("aria-label")
    ids = [node.get("id") for node in tree.iter() if node.get("id")]
    assert {node.get("href") for node in tree.iter("a")} <= {f"#{name}" for name in ids}


def test_html_needs_no_network():
    assert set(re.findall(r'(?:src|href)="([a-z]+):', to_html(page_of("plain"), {"figure": SVG}))) == {"data"}
    assert "@import" not in to_html(page_of("plain"), {"figure": SVG})


def luminance(colour):
    """Relative luminance of #rrggbb, WCAG 2.2."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_accessibility_asks_for(scheme):
    """4.5 : 1, WCAG 2.2 level AA, of every ink on every ground it may stand on."""
    themes = re.findall(r":root \{([^}]*--ink[^}]*)\}", to_html(page_of("x"), {"figure": SVG}))
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", themes[scheme]))
    for ink in ("ink", "soft", "accent"):
        for ground in ("paper", "tint", "caution"):
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


@pytest.mark.parametrize("text", ["plain", EVIL])
def test_pdf_is_tagged_and_holds_the_text_as_text(text):
    read = pypdf.PdfReader(BytesIO(to_pdf(page_of(text), {"figure": SVG})))
    assert read.metadata.title == text
    assert read.trailer["/Root"]["/MarkInfo"]["/Marked"]
    told = re.sub(r"\s+", "", "".join(page.extract_text() for page in read.pages))
    assert re.sub(r"\s+", "", text) in told


def test_markdown_escapes_what_it_would_read_as_markup():
    text = to_markdown(page_of(EVIL))
    outside = re.sub(r"```.*?```|(?<!\\)`[^`]*`", "", text, flags=re.DOTALL)
    assert "\\<script\\>" in outside
    assert re.search(r"(?<!\\)<script", outside) is None
    assert "\\*\\*bold\\*\\*" in outside
    table = [line for line in outside.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in table)
    assert "](figure.svg)" in outside


def test_markdown_code_cannot_end_its_fence():
    assert to_markdown(Page("x", [Section("", [Code("a\n```\n# b", "yaml")])])).count("```") == 2
