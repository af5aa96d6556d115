"""A page as a list of sections, and the same page as HTML, Markdown and PDF.

What is told and how it looks are apart: a page holds plain text only, and each way of showing it escapes all of it.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from hpscan.spec import SpecError

__all__ = ["Block", "Code", "Facts", "Page", "Paragraph", "Picture", "Points", "Section", "Table", "to_html",
           "to_markdown", "to_pdf"]  # fmt: skip


@dataclass(frozen=True)
class Paragraph:
    """A text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Points:
    """A list: what each point is about, which may be nothing, its text, and a command that belongs to it."""

    kind: ClassVar[str] = "points"
    points: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Facts:
    """Terms and what they are."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table whose rows begin with a name."""

    kind: ClassVar[str] = "table"
    about: str
    """What it is a table of: its name for those who do not see it."""
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    wraps: Sequence[int] = ()
    """Columns whose text may take several lines."""


@dataclass(frozen=True)
class Picture:
    """A figure, by the name of its file without a suffix."""

    kind: ClassVar[str] = "picture"
    name: str
    alt: str
    """What it shows, for those who do not see it."""
    caption: str


@dataclass(frozen=True)
class Code:
    """Something to copy."""

    kind: ClassVar[str] = "code"
    text: str
    language: str


Block = Paragraph | Points | Facts | Table | Picture | Code


@dataclass(frozen=True)
class Section:
    """A heading with what is below it; the first of a page may do without one."""

    title: str
    blocks: Sequence[Block]
    level: int = 2
    tone: str = ""
    """``answer`` or ``warning`` where it is set off from the rest."""

    @property
    def anchor(self) -> str:
        """What links to it."""
        return "".join(character if character.isalnum() else "-" for character in self.title.lower())


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    sections: list[Section] = field(default_factory=list)

    @property
    def pictures(self) -> list[Picture]:
        """The figures it wants."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]


def to_html(page: Page, svgs: Mapping[str, bytes]) -> str:
    """The page as one file that needs no network, its figures inside."""
    images = {name: Markup("data:image/svg+xml;base64,") + base64.b64encode(svg).decode() for name, svg in svgs.items()}
    return _environment().get_template("page.html.j2").render(page=page, images=images)


def to_markdown(page: Page) -> str:
    """The page as Markdown (GitHub's), which links its figures as files beside it."""
    return _environment().get_template("page.md.j2").render(page=page)


def to_pdf(page: Page, svgs: Mapping[str, bytes]) -> bytes:
    """The page as a tagged PDF, set by Typst, which gets the page as data and so reads none of its text as markup.

    Raises
    ------
    SpecError
        If Typst is not installed.
    """
    try:
        import typst
    except ImportError:
        raise SpecError("a report as PDF needs Typst: pip install 'hpscan[report]'") from None

    plain: dict[str, Any] = {
        "title": page.title,
        "sections": [
            {**asdict(section), "blocks": [{"kind": block.kind, **asdict(block)} for block in section.blocks]}
            for section in page.sections
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, svg in svgs.items():
            Path(folder, f"{name}.svg").write_bytes(svg)
        Path(folder, "page.json").write_text(json.dumps(plain), encoding="utf-8")
        source = Path(folder, "page.typ")
        source.write_text(files("hpscan").joinpath("templates/page.typ").read_text(encoding="utf-8"), encoding="utf-8")
        compiled: bytes = typst.compile(source, format="pdf", ignore_system_fonts=True, pdf_standards="ua-1")
    return compiled


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hpscan"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["md"] = _markdown_safe
    environment.filters["fenced"] = lambda text: text.replace("```", "` ` `")
    return environment


def _markdown_safe(text: str) -> str:
    """Escape what Markdown would read as markup, so that a spec's text stays text."""
    plain = " ".join(text.split())
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#~" else character for character in plain)
