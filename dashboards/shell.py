"""The frame of every page: navigation, notices, and what a page says that has nothing to show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from dash import dcc, html

__all__ = ["TICK_MS", "aria", "chip", "code", "command", "empty", "facts", "head", "heading", "path_of", "shell"]

TICK_MS = 2000
"""How often a page asks whether there is anything new."""


def path_of(sweep: str, *below: str) -> str:
    """Where a sweep is, or something below it, as a link has it."""
    return "/".join(["/sweeps", quote(sweep), *below])


def shell(sweep_store: str, *, launches: bool, signed_in: bool) -> html.Div:
    """What stays when pages change."""
    links = [("Sweeps", "/"), ("Compare", "/compare"), ("Launch", "/launch")]
    return html.Div(
        [
            html.A("Skip to the content", href="#page", className="skip"),
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="at"),
            dcc.Store(id="revised"),
            dcc.Interval(id="tick", interval=TICK_MS),
            html.Header(
                [
                    dcc.Link([html.Span(className="logo"), "hpscan"], href="/", className="brand"),
                    html.Nav(
                        [dcc.Link(name, href=href, className="nav", id=f"nav-{name.lower()}") for name, href in links],
                        **aria({"aria-label": "Pages"}),
                    ),
                    html.Div(
                        [
                            html.Span(sweep_store, className="store", title=f"Store {sweep_store}"),
                            html.A("API", href="/api/docs", className="nav"),
                            *([html.A("Sign out", href="/logout", className="nav")] if signed_in else []),
                            html.Button(
                                id="theme",
                                className="icon",
                                title="Light or dark",
                                **aria({"aria-label": "Light or dark"}),
                            ),
                        ],
                        className="tools",
                    ),
                ],
                className="top",
            ),
            html.Div(id="lost", role="status", className="notice", hidden=True),
            html.Div(id="notice", role="status", className="notice", hidden=True),
            html.Main(html.Div("Loading…", className="quiet"), id="page", tabIndex=-1),
            html.Footer(
                [html.Span(id="read-at"), html.Span("launching is on" if launches else "view only", className="quiet")],
            ),
        ],
        className="shell",
    )


def head(
    title: str, *, path: Sequence[tuple[str, str]] = (), about: Any = None, actions: Sequence[Any] = ()
) -> html.Div:
    """The head of a page: where it is, its name, what it is about, and what can be done."""
    crumbs = [item for name, href in path for item in (dcc.Link(name, href=href), html.Span("/", className="quiet"))]
    return html.Div(
        [
            html.Div([html.Div(crumbs, className="crumbs") if crumbs else None, html.H1(title), about]),
            html.Div(list(actions), className="actions"),
        ],
        className="head",
    )


def heading(text: str, about: str = "") -> html.Div:
    """The head of a part of a page."""
    return html.Div([html.H2(text), html.P(about, className="quiet") if about else None], className="heading")


def aria(names: dict[str, str]) -> dict[str, Any]:
    """Attributes whose names are no words of Python."""
    return names


def chip(text: str, kind: str = "") -> html.Span:
    """A word that is told at a glance."""
    return html.Span(text, className=f"chip {kind.replace(' ', '-')}")


def facts(pairs: Iterable[tuple[str, Any]], *, about: Mapping[str, str] | None = None, kind: str = "") -> html.Dl:
    """Terms and what they are; ``about`` says more of some, to who asks for it."""
    told = about or {}
    rows = [html.Div([html.Dt(term, title=told.get(term)), html.Dd(value)]) for term, value in pairs]
    return html.Dl(rows, className=f"facts {kind}".strip())


def code(name: str, text: str) -> html.Div:
    """Lines to copy, by a name that nothing else on the page has."""
    lines = html.Pre(html.Code(text), id=name, tabIndex=0)
    return html.Div([lines, dcc.Clipboard(target_id=name, title="Copy")], className="code")


def command(name: str, text: str) -> html.Div:
    """A command to copy."""
    copy = dcc.Clipboard(target_id=name, title="Copy the command")
    return html.Div([html.Code(text, id=name), copy], className="command")


def empty(title: str, text: str, run: str = "") -> html.Div:
    """What is shown in place of nothing: why there is nothing, and what to run next."""
    head = html.H2(title) if title else None
    return html.Div([head, html.P(text), command("next", run) if run else None], className="empty")
