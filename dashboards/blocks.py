"""A page of the report, block by block, as components: the same text as in its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dash import html

from hpscan.pages import Block, Code, Facts, Page, Paragraph, Picture, Points, Table

from .shell import aria, code, facts

__all__ = ["of_page"]


def of_page(page: Page, picture: Callable[[str], str]) -> list[Any]:
    """All sections of a page; ``picture`` gives the URL of one by its name."""
    found: list[Any] = []
    for number, section in enumerate(page.sections):
        title = {2: html.H2, 3: html.H3}.get(section.level, html.H4)(section.title) if section.title else None
        inside = [_block(block, picture, f"block-{number}-{k}") for k, block in enumerate(section.blocks)]
        found.append(html.Section([title, *inside], className=f"section {section.tone}".strip()))
    return found


def _block(block: Block, picture: Callable[[str], str], name: str) -> Any:
    match block:
        case Paragraph(text):
            return html.P(text)
        case Points(points):
            return html.Ul([_point(*point) for point in points])
        case Facts(pairs):
            return facts(pairs)
        case Table(about, columns, rows, wraps):
            return table(about, columns, rows, wraps)
        case Code(text):
            return code(name, text)
        case Picture(file, alt, caption):
            return html.Figure([html.Img(src=picture(file), alt=alt), html.Figcaption(caption)], className="picture")
    raise AssertionError(block)


def _point(about: str, text: str, command: str) -> html.Li:
    return html.Li(
        [html.B(f"{about}: ") if about else None, text, html.Code(command, className="line") if command else None]
    )


def table(about: str, columns: Any, rows: Any, wraps: Any = ()) -> html.Div:
    """A table that scrolls by itself where the page is narrow."""
    body = [
        html.Tr(
            [
                html.Th(row[0], scope="row"),
                *(html.Td(cell, className="wraps" if k in wraps else "") for k, cell in enumerate(row[1:], 1)),
            ]
        )
        for row in rows
    ]
    top = html.Thead(html.Tr([html.Th(name, scope="col") for name in columns]))
    return html.Div(
        html.Table([html.Caption(about, className="unseen"), top, html.Tbody(body)]),
        className="scrolls", tabIndex=0, role="region", **aria({"aria-label": about}),
    )  # fmt: skip
