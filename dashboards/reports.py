"""The report of a sweep as a page, and its files."""

from __future__ import annotations

from typing import Any

from dash import Input, Output, State, dcc, html, no_update

from hpscan.content import report_page
from hpscan.files import StoreError
from hpscan.report import DATA, PAGES
from hpscan.spec import SpecError

from .blocks import of_page
from .callbacks import Pages
from .reading import Reader
from .shell import aria, empty, head, path_of

__all__ = ["page", "register"]

FILES = {
    **{name: {"html": "Page", "md": "Markdown", "pdf": "PDF"}[kind] for kind, name in PAGES.items()},
    **{name: {"yaml": "Best configs, YAML", "json": "Best configs, JSON", "csv": "All cells, CSV"}[kind] for kind, (name, _) in DATA.items()},
    "landscapes.png": "Maps, PNG",
    "landscapes.svg": "Maps, SVG",
}  # fmt: skip


def page(reader: Reader, name: str) -> list[Any]:
    """The page before its report is made, which takes seconds the first time."""
    reader.version(name)
    links = [html.A(told, href=_file(name, file), className="button", download=file) for file, told in FILES.items()]
    return [
        head("Report", path=[("Sweeps", "/"), (name, path_of(name))], about=html.P("What the sweep says, and how to train with it.", className="quiet")),
        html.Div(links, className="downloads", **aria({"aria-label": "Files of the report"}), role="group"),
        dcc.Store(id="report-of", data=name),
        html.Div(html.P("The report is being made…", className="quiet"), id="report", className="report card"),
    ]  # fmt: skip


def _file(name: str, file: str) -> str:
    return f"/api/v1{path_of(name, 'report', file)}"


def register(pages: Pages) -> None:
    """Make the report when it is looked at, and again when the sweep has gone on."""

    @pages.callback(Output("report", "children"), Input("version", "data"), State("report-of", "data"))
    def make(version: str | None, name: str) -> Any:
        if version is None:
            return no_update
        try:
            analysis = pages.reader.analysis(name)
        except (StoreError, SpecError) as error:
            return empty("No report", str(error))
        return of_page(report_page(analysis), lambda picture: _file(name, f"{picture}.svg"))
