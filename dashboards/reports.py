"""The report of a sweep as a page, and its files."""

from __future__ import annotations

import logging
from typing import Any

from dash import Input, Output, State, dcc, html, no_update

from hpscan.analysis import Analysis
from hpscan.content import report_page
from hpscan.files import StoreError
from hpscan.report import DATA, PAGES
from hpscan.spec import SpecError

from .blocks import of_page
from .callbacks import Pages
from .making import Made
from .reading import Reader
from .shell import aria, empty, head, path_of

__all__ = ["page", "register"]

_LOG = logging.getLogger(__name__)

FILES = {
    **{name: {"html": "Page", "md": "Markdown", "pdf": "PDF"}[kind] for kind, name in PAGES.items()},
    **{name: {"yaml": "Best configs, YAML", "json": "Best configs, JSON", "csv": "All cells, CSV"}[kind] for kind, (name, _) in DATA.items()},
    "landscapes.png": "Maps, PNG",
    "landscapes.svg": "Maps, SVG",
}  # fmt: skip


def page(reader: Reader, name: str) -> list[Any]:
    """The page; its report is made beside, which takes seconds, and of a large sweep minutes."""
    made, is_current = reader.analysis(name)
    # not by the attribute `download`, which saves whatever is answered while the file is being made
    links = [
        html.A(told, href=f"{_file(name, file)}?download=true", target="_blank", className="button")
        for file, told in FILES.items()
    ]
    return [
        head("Report", path=[("Sweeps", "/"), (name, path_of(name))], about=html.P("What the sweep says, and how to train with it.", className="quiet")),
        html.Div(links, id="report-files", className="downloads", hidden=made is None, **aria({"aria-label": "Files of the report"}), role="group"),
        dcc.Store(id="report-of", data=name),
        dcc.Store(id="report-shown", data=_mark(made)),
        html.P(_age(made, is_current), id="report-age", className="quiet"),
        html.Div(_told(name, made), id="report", className="report card"),
    ]  # fmt: skip


def _told(name: str, made: Made[Analysis] | None) -> Any:
    if made is None:
        return html.P("The report is being made…", className="quiet")
    error = made.outcome.exception()
    if error is None:
        # of each report its own pictures: a browser does not ask again for what it shows
        return of_page(
            report_page(made.outcome.result()), lambda picture: f"{_file(name, f'{picture}.svg')}?of={made.version}"
        )
    if isinstance(error, StoreError | SpecError):
        return empty("No report", str(error))
    _LOG.error("the report of %s cannot be made", name, exc_info=error)
    return empty("No report", "Something went wrong here; the server's log says what.")


def _mark(made: Made[Analysis] | None) -> str | None:
    """Of each that was made another."""
    return made.read_at.isoformat() if made else None


def _age(made: Made[Analysis] | None, is_current: bool) -> str:
    if made is None or is_current:
        return ""
    return f"Of what was stored at {made.read_at:%H:%M:%S} UTC; a newer one is being made."


def _file(name: str, file: str) -> str:
    return f"/api/v1{path_of(name, 'report', file)}"


def register(pages: Pages) -> None:
    """Show the report when it is made, and again when the sweep has gone on."""

    @pages.callback(
        Output("report", "children"), Output("report-age", "children"), Output("report-shown", "data"), Output("report-files", "hidden"),
        Input("tick", "n_intervals"), State("report-of", "data"), State("report-shown", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def show(_: int, name: str, shown: str | None) -> tuple[Any, ...]:
        made, is_current = pages.reader.analysis(name)
        age = _age(made, is_current)
        if made is None or _mark(made) == shown:
            return no_update, age, no_update, no_update
        return _told(name, made), age, _mark(made), False
