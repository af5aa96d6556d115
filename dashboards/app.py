"""The pages: which there are, which one an address means, and what all of them do."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update, set_props
from dash.exceptions import DependencyException
from fastapi import FastAPI, HTTPException

from hpscan.caveats import command
from hpscan.files import StoreError
from hpscan.spec import SpecError

from . import cells, controls, maps, overview, reports, submit
from .admission import LaunchError
from .callbacks import Pages
from .launching import Launcher
from .problems import problem
from .reading import Reader, UnknownError
from .shell import empty, head, shell

__all__ = ["add_pages"]

EXPECTED = (UnknownError, StoreError, SpecError, LaunchError)
"""What a callback may meet that is nobody's mistake here: told in a line."""
UNREADABLE = "The store cannot be read: "
_LOG = logging.getLogger(__name__)

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<title>{%title%}</title>
{%favicon%}
{%css%}
</head>
<body>
{%app_entry%}
{%config%}
{%scripts%}
{%renderer%}
</body>
</html>"""


class _App(Dash):
    """Refuses what no page of it asks, which Dash takes for a mistake of its own: of another server's page, or nobody's."""

    def _initialize_context(self, body: Any) -> Any:
        with _refused():
            return super()._initialize_context(body)

    def _prepare_callback(self, g: Any, body: Any) -> Any:
        with _refused():
            known = self.callback_map[body["output"]]
            if any(len(body.get(kind, [])) != len(known[kind]) for kind in ("inputs", "state")):
                raise ValueError
            outputs, own = (each if isinstance(each, list) else [each] for each in (body["outputs"], known["output"]))
            if [Output(each["id"], each["property"]) for each in outputs] != own:
                raise ValueError
            return super()._prepare_callback(g, body)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError):
        raise HTTPException(400, "no page of this server asks for that; reload the page") from None


def add_pages(server: FastAPI, reader: Reader, launcher: Launcher, *, signed_in: bool = False) -> Sequence[str]:
    """Add the pages to a server that has its other routes already; return the hashes of their inline scripts."""
    app = _App(
        __name__, server=server, backend="fastapi", title="hpscan", update_title=None, index_string=INDEX,  # type: ignore[arg-type]
        assets_folder=str(Path(__file__).parent / "assets"), suppress_callback_exceptions=True, enable_mcp=False,
        add_log_handler=False, on_error=_told,
        meta_tags=[
            {"name": "viewport", "content": "width=device-width, initial-scale=1"},
            {"name": "color-scheme", "content": "light dark"},
            {"name": "description", "content": "How error depends on learning rate and weight decay"},
        ],
    )  # fmt: skip
    server.add_exception_handler(DependencyException, lambda _, __: problem(404, "there is no such file"))
    app.backend.websocket_capability = False  # no page uses it, and browsers connect to it wherever it is offered
    pages = Pages(app, reader, launcher)
    app.layout = shell(reader.store.files.shown(), launches=launcher.allowed, signed_in=signed_in)

    @pages.callback(
        Output("page", "children"), Output("at", "data"), Input("url", "pathname"), Input("url", "search")
    )  # fmt: skip
    def route(path: str | None, query: str | None) -> tuple[Any, list[str]]:
        at = [path or "/", query or ""]
        try:
            return [*_marks(reader, *at), *_page(pages, *at)], at
        except EXPECTED as error:
            return [
                *(dcc.Store(id=name) for name in ("version", "counted")),
                dcc.Store(id="planned", data=_plan_if_any(reader, *at)),
                head(
                    "This cannot be shown",
                    actions=[dcc.Link("Show what there is", href=path, className="button")] if query else [],
                ),
                empty("", str(error), command(reader.store, "status")),
            ], at

    @pages.callback(
        Output("version", "data"), Output("counted", "data"), Output("read-at", "children"), Output("notice", "children"), Output("notice", "hidden"), Output("revised", "data"),
        Input("tick", "n_intervals"), Input("at", "data"),
        State("version", "data"), State("counted", "data"), State("planned", "data"), State("notice", "children"), prevent_initial_call=True,
    )  # fmt: skip
    def look(
        _: int, at: list[str] | None, shown: str | None, counted: str | None, planned: str | None, said: Any
    ) -> tuple[Any, ...]:
        try:
            known = _sweeps_of(reader, *(at or ["/", ""]))
            now, plan = _state(reader, known), _plan(reader, known)
            was_unreadable = isinstance(said, str) and said.startswith(UNREADABLE)
            is_new = now[0] != shown or pages.triggered() == "at" or was_unreadable
            broken = [line for name in known for line in reader.problems(name)] if is_new else []
            read_at = max((reader.read_at(name) for name in known), default=datetime.now(UTC))
        except StoreError as error:
            return no_update, no_update, no_update, f"{UNREADABLE}{error}", False, no_update
        told = f"Data read {read_at.astimezone(UTC):%H:%M:%S} UTC"
        changed = [no_update if one == other else one for one, other in zip(now, (shown, counted), strict=True)]
        notice = [[html.P(f"Left out, broken: {line}") for line in broken], not broken] if is_new else [no_update] * 2
        return (*changed, told, *notice, no_update if plan == planned else plan)

    pages.in_browser(
        "settled",
        Output("notice", "hidden", allow_duplicate=True), Input("view", "data"), State("notice", "children"), prevent_initial_call=True,
    )  # fmt: skip
    pages.in_browser("reload", Output("page", "className"), Input("revised", "data"), prevent_initial_call=True)

    pages.in_browser(
        "here", *(Output(f"nav-{name}", "className") for name in ("sweeps", "compare", "launch")),
        Input("url", "pathname"),
    )  # fmt: skip
    for each in (overview, controls, maps, cells, reports, submit):
        each.register(pages)
    # Dash would at the first request for "/": whoever asked for another page before got it without styles
    app._setup_server()  # type: ignore[no-untyped-call]  # noqa: SLF001
    return app.csp_hashes()


def _page(pages: Pages, path: str, query: str) -> Any:
    match _parts(path):
        case []:
            return overview.page(pages.reader)
        case ["compare"]:
            return maps.page(pages.reader, maps.compared(pages.reader, query), query, comparing=True)
        case ["launch"]:
            return submit.page(pages)
        case ["sweeps", name]:
            return maps.page(pages.reader, [name], query)
        case ["sweeps", name, "report"]:
            return reports.page(pages.reader, name)
    return [head("Not found"), html.P(["There is no such page. ", dcc.Link("All sweeps", href="/")])]


def _sweeps_of(reader: Reader, path: str, query: str) -> list[str]:
    """The sweeps of the store that a page shows."""
    parts, stored = _parts(path), reader.sweeps()
    named = parts[1:2] if parts[:1] == ["sweeps"] else maps.compared(reader, query) if parts == ["compare"] else []
    return [name for name in named if name in stored]


def _state(reader: Reader, names: Sequence[str]) -> tuple[str, str]:
    """What changes when there is something new of some sweeps: in their files, and in their numbers."""
    return " ".join(map(reader.version, names)), " ".join(str(reader.numbers.ended(name)) for name in names)


def _plan(reader: Reader, names: Sequence[str]) -> str:
    """What a page of some sweeps is laid out for, and what is picked on it is of: where that changes, the page is another."""
    specs = [reader.spec(name).model_dump_json(exclude={"resources", "notes"}) for name in names]
    return hashlib.sha256("".join(specs).encode()).hexdigest()[:16] if specs else ""


def _plan_if_any(reader: Reader, path: str, query: str) -> str | None:
    """The same of a page that cannot be shown; None if its specs cannot be read either."""
    try:
        return _plan(reader, _sweeps_of(reader, path, query))
    except EXPECTED:
        return None


def _marks(reader: Reader, path: str, query: str) -> list[Any]:
    """How far what a page shows has come, in the page, so that it is drawn once when it comes."""
    known = _sweeps_of(reader, path, query)
    marks = zip(("version", "counted", "planned"), (*_state(reader, known), _plan(reader, known)), strict=True)
    return [dcc.Store(id=name, data=data) for name, data in marks]


def _parts(path: str) -> list[str]:
    return [unquote(part) for part in path.strip("/").split("/") if part]


def _told(error: Exception) -> Any:
    """What goes wrong in a callback is told on the page, and what is our mistake in the log, too."""
    if isinstance(error, EXPECTED):
        text = f"{UNREADABLE}{error}" if isinstance(error, StoreError) and not error.bad_input else str(error)
    else:
        _LOG.error("a callback failed", exc_info=error)
        text = "Something went wrong here; the server's log says what."
    set_props("notice", {"children": text, "hidden": False})
    ctx.response.set_header("Cache-Control", "no-store")  # nobody else is to be answered so (``Remembered``)
    return no_update
