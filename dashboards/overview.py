"""The list of sweeps: how far each is, what it found, and what to run when there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dash import Input, Output, dcc, html, no_update

from hpscan import numerals
from hpscan.caveats import command
from hpscan.files import StoreError
from hpscan.spec import SpecError

from .axes import cell_name
from .callbacks import Pages
from .reading import Pace, Reader, UnknownError
from .shell import aria, chip, empty, head, path_of
from .thumbnails import thumbnail

__all__ = ["page", "progress", "register"]

MOST_THUMBNAILS = 8
STATES = ("completed", "diverged", "stopped", "failed")


def page(reader: Reader) -> list[Any]:
    """The page, its list as the store is now."""
    search = html.Label(
        [
            html.Span("Find a sweep", className="unseen"),
            dcc.Input(id="search", type="search", autoComplete="off", placeholder="Find a sweep"),
        ]
    )
    return [
        head("Sweeps", actions=[search]),
        html.Div(_cards(reader, ""), id="sweeps", className="sweeps"),
        dcc.Store(id="sweeps-shown", data=_shown(reader, "")),
    ]


def register(pages: Pages) -> None:
    """Keep the list as the store is."""

    @pages.callback(
        Output("sweeps", "children"), Output("sweeps-shown", "data"),
        Input("tick", "n_intervals"), Input("search", "value"), Input("sweeps-shown", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def refresh(_: int, wanted: str | None, shown: str) -> tuple[Any, Any]:
        now = _shown(pages.reader, wanted or "")
        return (no_update, no_update) if now == shown else (_cards(pages.reader, wanted or ""), now)


def _shown(reader: Reader, wanted: str) -> str:
    """What the list depends on: while that stays it is not sent again."""
    minute = f"{datetime.now(UTC):%H:%M}"  # no file says how long ago a sweep has ended
    known = [f"{name}={reader.version(name)}{'+' * reader.launched(name)}" for name in reader.sweeps()]
    return " ".join([*known, minute, wanted])


def _cards(reader: Reader, wanted: str) -> list[Any]:
    names = reader.sweeps()
    if not names:
        told = f"{reader.store.files.shown()} is an empty store. This trains the quickstart, a few minutes on a laptop:"
        return [empty("No sweeps yet", told, command(reader.store, "launch", "quickstart"))]
    found: list[tuple[datetime, str, Any]] = []
    for name in names:
        if wanted.lower() not in name.lower():
            continue
        try:
            pace = reader.pace(name)
            found.append((pace.last or datetime.min.replace(tzinfo=UTC), name, _card(reader, name, pace)))
        except (StoreError, SpecError, UnknownError) as error:
            broken = html.Div([html.H2(name), html.P(str(error), className="bad")], className="card sweep")
            found.append((datetime.min.replace(tzinfo=UTC), name, broken))
    if not found:
        return [empty("Nothing found", f"No sweep of this store has “{wanted}” in its name.")]
    return [card for *_, card in sorted(found, key=lambda each: each[:2], reverse=True)]


def _card(reader: Reader, name: str, pace: Pace) -> html.Article:
    spec, status = reader.spec(name), reader.status(name)
    shapes = reader.shapes(name)
    is_over = _is_over(status, pace)
    told = "no result" if is_over else "no result yet"
    if best := reader.best(name):
        shape, cell = best
        value = numerals.metric_value(spec.metric, cell.means[spec.metric])
        told = f"{shape.name}, {cell_name(cell.lr, cell.wd)}: {numerals.metric_name(spec.metric)} {value}"
    pictures = [
        html.Figure(
            [html.Img(src=reader.kept(name, ("thumbnail", shape.name), lambda shape=shape: thumbnail(shape)), alt=""), html.Figcaption(shape.name, title=shape.name)],  # type: ignore[misc]
            className="thumb",
        )
        for shape in shapes[:MOST_THUMBNAILS]
    ]  # fmt: skip
    more = len(shapes) - MOST_THUMBNAILS
    return html.Article(
        [
            html.Div([html.H2(dcc.Link(name, href=path_of(name))), _condition(status, pace)], className="row"),
            html.P(f"{spec.workload.name} · {status['runs']:,} runs · {numerals.budgets(spec)}", className="quiet"),
            progress(status, pace),
            html.Div([*pictures, html.Span(f"and {more} more", className="quiet") if more > 0 else None], className="thumbs"),
            html.P([html.Span("Best " if is_over else "Best so far ", className="quiet"), told], className="best"),
        ],
        className="card sweep",
    )  # fmt: skip


def progress(status: dict[str, Any], pace: Pace) -> html.Div:
    """A bar of states, and what it says in words."""
    states, total = status["states"], max(status["runs"], 1)
    done = total - states["missing"] if status["runs"] else 0
    words = [f"{states[state]:,} {state}" for state in STATES if states[state]]
    if to_go := states["missing"] - pace.left_out:
        words.append(f"{'at most ' if pace.left_out else ''}{to_go:,} to go")
        if pace.eta_s is not None:
            words.append(f"about {numerals.duration(pace.eta_s, 0)} left")
    if pace.left_out and not to_go:
        words.append(f"{pace.left_out:,} left out")
    if pace.last and not to_go:
        words.append(f"ended {_since(pace.last)}")
    bar = html.Div(
        [html.Div(className=f"part {state}", style={"width": f"{100 * states[state] / total:.2f}%"}) for state in STATES if states[state]],
        className="bar", role="progressbar",
        **aria({"aria-valuenow": str(round(100 * done / total)), "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": "Runs that ended, percent"}),
    )  # fmt: skip
    return html.Div([bar, html.P(" · ".join(words), className="quiet")], className="progress")


def _is_over(status: dict[str, Any], pace: Pace) -> bool:
    """Whether nothing is left to train."""
    return bool(status["states"]["missing"] == pace.left_out)


def _condition(status: dict[str, Any], pace: Pace) -> html.Span:
    if _is_over(status, pace):
        return chip("complete", "good") if not status["states"]["failed"] else chip("with failures", "bad")
    return chip("running", "busy") if pace.is_running else chip("incomplete", "warn")


def _since(moment: datetime) -> str:
    """How long ago."""
    ago = datetime.now(UTC) - moment
    return f"{ago.days} d ago" if ago.days > 1 else f"{numerals.duration(ago.total_seconds(), 0)} ago"
