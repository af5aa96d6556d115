"""Landscapes side by side on one scale: what is chosen, the maps, and their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote

from dash import MATCH, Input, Output, State, dcc, html

from hpscan import numerals
from hpscan.caveats import command
from hpscan.landscape import is_chosen_by

from . import cells, controls
from .axes import MOST_CELLS, cell_name
from .callbacks import Pages
from .charts import Colours, colours, heatmap
from .marks import MARKS, has_fewer
from .numbers import Known
from .overview import progress
from .reading import Reader
from .shell import aria, chip, empty, facts, head, path_of
from .view import SHOWN, View

__all__ = ["compared", "page", "register"]

GRADIENT = "linear-gradient(to right, #440154, #482878, #3e4989, #31688e, #26828e, #1f9e89, #35b779, #6ece58, #b5de2b, #fde725)"
ABOUT = {
    "Best cell": "chosen by validation; [ ] is a 95 % interval over seeds",
    "Contour slope": "dlog wd / dlog lr: 0 where the best weight decay does not depend on the learning rate, −1 where only their product matters",
    "Interaction share": "the part of the variance over cells that no sum f(lr) + g(wd) explains",
    "Regret of tuning apart": "how much worse than the joint best it is to tune each alone",
}
MOST_ERRORS = 3
COMPUTING = "Numbers are being computed…"
STATE_WORDS = {
    "diverged": "diverged",
    "stopped": "stopped early",
    "failed": "failed",
    "missing": "not trained yet",
    "predicted": "predicted",
}
SIGNS = {**{state: sign for state, (_, sign, _) in MARKS.items()}, "predicted": "◇"}


def page(reader: Reader, names: Sequence[str], query: str, *, comparing: bool = False) -> list[Any]:
    """The page of one sweep, or of several on a shared scale."""
    if comparing:
        choice = html.Label(
            [
                html.Span("Sweeps", className="name"),
                dcc.Dropdown(reader.sweeps(), list(names), multi=True, id="choose-sweeps"),
            ],
            className="field wide",
        )
        top = head("Compare", about=html.P("Landscapes of several sweeps on one scale.", className="quiet"))
        if not names:
            told = f"{reader.store.files.shown()} has no sweep yet."
            return [top, empty("Nothing to compare", told, command(reader.store, "launch", "quickstart"))]
        above = [top, html.Div(choice, className="controls first")]
    else:
        above = [_head(reader, names[0]), html.Div(_progress(reader, names[0]), id="progress")]
    view = controls.view_of(reader, names, query)
    every = controls.maps_of(reader, names)
    shown = [name for name in view.maps if name in every] or every[: controls.MOST_MAPS]
    return [
        *above,
        dcc.Store(id="sweeps-of-page", data=list(names)),
        dcc.Store(id="view", data=view.to_data()),
        dcc.Store(id="query"),
        dcc.Store(id="addressed"),
        dcc.Store(id="picked", data={"cells": []}),
        controls.controls(reader, names, view, every, shown),
        html.Div(_legend(reader, names, view), id="legend", className="legend"),
        html.Div(
            [
                html.Div([_card(reader, names, name, view) for name in shown], id="maps", className="maps"),
                cells.inspector(),
            ],
            className="side-by-side",
        ),
        cells.details(),
    ]  # fmt: skip


def _head(reader: Reader, name: str) -> html.Div:
    spec = reader.spec(name)
    about = f"{numerals.in_words(spec.workload.identity())} · {numerals.budgets(spec)} · seeds {', '.join(map(str, spec.seeds))}"
    return head(
        name,
        path=[("Sweeps", "/")],
        about=html.P(about, className="quiet"),
        actions=[
            dcc.Link("Report", href=path_of(name, "report"), className="button"),
            dcc.Link("Compare", href=f"/compare?sweep={quote(name)}", className="button"),
            html.A("Spec", href=f"/api/v1{path_of(name, 'spec')}", className="button"),
        ],
    )


def _progress(reader: Reader, name: str) -> Any:
    status = reader.status(name)
    errors = list(status["errors"].items())[:MOST_ERRORS]
    told = [html.P(f"{count:,} failed: {text}", className="bad") for text, count in errors]
    return [progress(status, reader.pace(name)), *told]


def _card(reader: Reader, names: Sequence[str], name: str, view: View) -> html.Article:
    """A map with all that is known of it: a page comes whole, and each of its maps is drawn once."""
    sweep, panel = name.split("/", 1)
    grid = reader.panel(sweep, panel)
    numbers, verdict = _told(reader, view, name)
    return html.Article(
        [
            html.Div(
                [
                    html.H2([html.Span(f"{sweep} · ", className="quiet") if len(names) > 1 else None, panel]),
                    html.Span(verdict, id={"type": "verdict", "name": name}),
                ],
                className="row",
            ),
            dcc.Graph(
                id={"type": "map", "name": name}, className="map", responsive=True, figure=_figure(reader, names, name, view),
                style={"height": "340px"}, config={"displayModeBar": False, "scrollZoom": True, "doubleClick": "autosize"},
            ),
            dcc.Store(id={"type": "sight", "name": name}, data={"large": max(len(grid.lr), len(grid.wd)) > MOST_CELLS}),
            html.Div(numbers, id={"type": "numbers", "name": name}, className="numbers"),
        ],
        className="card", title="", **aria({"aria-label": f"Landscape of {panel}: {len(grid.lr)} learning rates by {len(grid.wd)} weight decays"}),
    )  # fmt: skip


def _figure(reader: Reader, names: Sequence[str], name: str, view: View, window: Any = None) -> dict[str, Any]:
    shape = cells.drawn(reader, view, name)
    predicts = view.step is None and reader.predicts(*name.split("/", 1))
    predicted = (shape.states == "missing").all(axis=0) if predicts else None
    return heatmap(
        shape, view, _scale(reader, names, view), predicted=predicted, window=window, uirevision=f"{name} {view.units}"
    )  # fmt: skip


def _scale(reader: Reader, names: Sequence[str], view: View) -> Colours:
    """The colours of a page: those of its sweeps at the end of training, whatever is drawn, so that they stay."""
    key = "colours", view.metric, view.shows, view.scale, view.clip
    shapes = [shape for name in names for shape in reader.shapes(name, view.metric or None)]
    return reader.kept_of(names, key, lambda: colours(shapes, view))


def _legend(reader: Reader, names: Sequence[str], view: View) -> list[Any]:
    scale = _scale(reader, names, view)
    metric = view.metric or reader.spec(names[0]).metric
    counts: dict[str, int] = {}
    for name in names:
        for panel in reader.status(name)["variants"]:
            for state, count in panel["states"].items():
                is_guessed = state == "missing" and view.step is None and reader.predicts(name, panel["variant"])
                told = "predicted" if is_guessed else state
                counts[told] = counts.get(told, 0) + count
    is_empty = not len(scale.order)
    shares = (0.0,) if scale.is_flat else (0.0, 0.25, 0.5, 0.75, 1.0)
    values = [] if is_empty else [scale.value_at(share) for share in shares]
    ends = (
        [f"{value:.0f}" if math.isclose(value, round(value)) else "" for value in values]
        if view.shows == "n"
        else numerals.scale_labels(metric, values)
    )
    if len(ends) > 1 and ends[-1] and (scale.is_cut or view.step is not None):
        ends[-1] = f"≥ {ends[-1]}"
    title = (
        numerals.metric_name(metric)
        if view.shows == "mean" or view.seed is not None
        else f"{SHOWN.get(view.shows, '')} of {numerals.metric_name(metric)}"
    )
    bar = (
        None
        if is_empty
        else html.Div(
            className="gradient" + (" reversed" if scale.reverse else ""), style={"backgroundImage": GRADIENT}
        )
    )
    keys = [("★", "best", "star"), ("○", "ten best", "ring")]
    if view.tolerance:
        keys.append(("▭", f"within {view.tolerance:g} % of the best", "basin"))
    if is_empty or view.shows != "mean" or not is_chosen_by(metric):
        keys = []  # no cell is the best one, and none is marked
    states = [(SIGNS[state], word, state) for state, word in STATE_WORDS.items() if counts.get(state)]
    if any(has_fewer(reader.shape(name, panel.name)).any() for name in names for panel in reader.panels(name)):
        states.append(("·", "fewer seeds", "fewer"))
    marks = [
        html.Li([html.Span(sign, className=f"sign {kind}", **aria({"aria-hidden": "true"})), word])
        for sign, word, kind in [*keys, *states]
    ]
    return [
        html.Div([html.Span(title, className="name"), bar, html.Div([html.Span(end) for end in ends], className="ticks")], className="colours"),
        html.Ul(marks, className="keys"),
    ]  # fmt: skip


def _told(reader: Reader, view: View, name: str) -> tuple[Any, Any]:
    """A map's numbers and its verdict, as far as they are known."""
    sweep, panel = name.split("/", 1)
    known, is_current = reader.numbers_of(sweep, panel, view.metric or None, view.units or None)
    if known is None:
        return html.P(COMPUTING, className="quiet"), None
    word = known.analysis.verdict.word if known.analysis else ""
    return _numbers(known, is_current, view, name), chip(word, word) if word else None


def _numbers(known: Known, is_current: bool, view: View, name: str) -> list[Any]:
    analysis = known.analysis
    if analysis is None:
        return [html.P("These numbers cannot be computed; the server's log says why.", className="quiet")]
    shape, numbers, best = analysis.landscape, analysis.separability, analysis.best
    rows = [
        ("Contour slope", numerals.interval(numbers.contour_slope, sign=True)),
        ("Interaction share", numerals.interval(numbers.interaction_share)),
        ("Regret of tuning apart", numerals.regret(numbers.independent_tuning_regret, shape.metric)),
    ]
    sentence = analysis.verdict.sentence
    told: list[Any] = [html.P(sentence[:1].upper() + sentence[1:], className="sentence")]
    if best is not None and analysis.best_metric is not None:
        where = f"{cell_name(best.lr, best.wd)}{' (on an edge of the grid)' if best.on_edge else ''}"
        rows.insert(0, ("Best cell", f"{where}: {numerals.metric_interval(shape.metric, analysis.best_metric)}"))
    if view.step is not None:
        told.append(html.P("These numbers are of the end of training.", className="quiet"))
    if known.every > 1:
        told.append(
            html.P(
                f"Slope, interaction and regret are of one in {known.every} values of each axis; of all, they come from hpscan analyze.",
                className="quiet",
            )
        )
    if not is_current:
        told.append(
            html.P(
                f"Of what was stored at {known.read_at:%H:%M:%S} UTC; newer ones are being computed.", className="quiet"
            )
        )
    return [*told, facts(rows, about=ABOUT), cells.best_cells(shape, name)]


def register(pages: Pages) -> None:
    """Draw the maps, and draw them again when something is chosen or a pack lands."""
    reader = pages.reader

    @pages.callback(
        Output("legend", "children"), Input("view", "data"), Input("version", "data"), State("sweeps-of-page", "data"), prevent_initial_call=True
    )  # fmt: skip
    def explain(data: dict[str, Any], _: str, names: list[str]) -> list[Any]:
        return _legend(reader, names, View.from_data(data))

    @pages.callback(
        Output("maps", "children"),
        Input("choose-maps", "value"), State("view", "data"), State("sweeps-of-page", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def lay_out(maps: list[str] | None, data: dict[str, Any], names: list[str]) -> list[Any]:
        every = controls.maps_of(reader, names)
        view = View.from_data(data)
        return [_card(reader, names, name, view) for name in maps or every[: controls.MOST_MAPS] if name in every]

    @pages.callback(
        Output({"type": "map", "name": MATCH}, "figure"),
        Input("view", "data"), Input("version", "data"), Input({"type": "sight", "name": MATCH}, "data"),
        State({"type": "map", "name": MATCH}, "id"), State("sweeps-of-page", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def draw(data: dict[str, Any], _: str, sight: dict[str, Any], own: dict[str, str], names: list[str]) -> Any:
        return _figure(reader, names, own["name"], View.from_data(data), sight.get("window"))

    @pages.callback(
        Output({"type": "numbers", "name": MATCH}, "children"), Output({"type": "verdict", "name": MATCH}, "children"),
        Input("view", "data"), Input("version", "data"), Input("counted", "data"), State({"type": "numbers", "name": MATCH}, "id"),
        prevent_initial_call=True,
    )  # fmt: skip
    def tell(data: dict[str, Any], _: str, __: str, own: dict[str, str]) -> tuple[Any, Any]:
        return _told(reader, View.from_data(data), own["name"])

    @pages.callback(
        Output("progress", "children"),
        Input("tick", "n_intervals"),
        State("sweeps-of-page", "data"),
        prevent_initial_call=True,
    )
    def go_on(_: int, names: list[str]) -> Any:
        return _progress(reader, names[0])

    pages.in_browser(
        "sight",
        Output({"type": "sight", "name": MATCH}, "data"),
        Input({"type": "map", "name": MATCH}, "relayoutData"), State({"type": "sight", "name": MATCH}, "data"),
        prevent_initial_call=True,
    )  # fmt: skip


def compared(reader: Reader, query: str) -> list[str]:
    """The sweeps that a query compares; the first two of the store if it names none."""
    named = [value for key, value in parse_qsl((query or "").removeprefix("?")) if key == "sweep"]
    return list(dict.fromkeys(named)) or reader.sweeps()[:2]
