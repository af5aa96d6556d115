"""Single cells: what the pointer is on, what was picked to be compared, and where to go on."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from dash import ALL, Input, Output, State, dcc, html, no_update

from hpscan import caveats, numerals
from hpscan.conventions import OUTSIDE
from hpscan.landscape import Landscape
from hpscan.provenance import DECAY_ON
from hpscan.refine import refined_within
from hpscan.snippets import torch_optimizer, torch_snippet
from hpscan.spec import SpecError
from hpscan.store import StoreError

from .admission import LaunchError
from .axes import axis_name, cell_name
from .blocks import table
from .callbacks import Pages
from .charts import cells_of
from .lines import LINES, curves, slices
from .reading import Reader
from .shell import aria, code, command, empty, facts, heading
from .view import View

__all__ = ["best_cells", "details", "drawn", "inspector", "register"]

MOST_PICKED = 8
"""Cells that are compared at once."""
N_BEST = 5
TOLD = ("val_loss", "val_error", "test_loss", "test_error", "train_loss", "gap")
"""Metrics of a run that are shown with it, where they are known."""

Place = tuple[str, int, int]
"""A map and a cell of it, by (lr, wd) indices."""


def drawn(reader: Reader, view: View, name: str) -> Landscape:
    """The landscape that a map shows."""
    sweep, panel = name.split("/", 1)
    return reader.shape(sweep, panel, view.metric or None, step=view.step, convention=view.units or None)


def best_cells(shape: Landscape, name: str) -> Any:
    """The best cells as a list to choose from, for keyboards and screen readers, too."""
    ranked, mean = shape.ranked(N_BEST), shape.mean()
    if not ranked:
        return None
    rows = [
        html.Li(
            html.Button(
                [_in_words(shape, i, j), html.Span(numerals.metric_value(shape.metric, float(mean[i, j])))],
                id={"type": "best", "name": name, "cell": f"{i},{j}"}, className="pick",
            )
        )
        for i, j in ranked
    ]  # fmt: skip
    return html.Details(
        [
            html.Summary("The best cell" if len(ranked) == 1 else f"The {len(ranked)} best cells"),
            html.Ol(rows, className="best-cells"),
        ]
    )


def inspector() -> html.Aside:
    """What the pointer is on, and the slices through it."""
    graph: Any = {"displayModeBar": False}
    return html.Aside(
        [
            html.Div(
                [html.H2("Under the pointer"), html.P("Point at a cell for its values; click it for its curves. Shift-click or drag a box to compare.", className="quiet")],
                id="hovered", className="hovered",
            ),
            html.Div(
                [
                    html.H3("Along weight decay"),
                    dcc.Graph(id="over-wd", config=graph, className="slice", style={"height": "250px"}, responsive=True, figure=_blank()),
                    html.H3("Along learning rate"),
                    dcc.Graph(id="over-lr", config=graph, className="slice", style={"height": "250px"}, responsive=True, figure=_blank()),
                ],
                id="slices", className="absent",
            ),
        ],
        className="card inspector", **aria({"aria-label": "The cell under the pointer"}),
    )  # fmt: skip


def _blank() -> dict[str, Any]:
    clear = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "height": 250}
    return {"data": [], "layout": clear | {"xaxis": {"visible": False}, "yaxis": {"visible": False}}}


def details() -> html.Section:
    """Where picked cells are told of; there from the beginning, so that nothing jumps."""
    return html.Section(
        [
            html.Div(id="details"),
            html.Div(
                [
                    html.Div([html.Button("Refine here", id="refine", className="button primary"), html.Button("Clear", id="clear", className="button")], className="actions"),
                    dcc.Loading(html.Div(id="refined"), delay_show=300, type="dot"),
                ],
                id="refining", hidden=True,
            ),
        ],
        className="picked", **aria({"aria-label": "Picked cells", "aria-live": "polite"}),
    )  # fmt: skip


def _picked(reader: Reader, view: View, picked: dict[str, Any]) -> list[Place]:
    """The cells that a browser says were picked; what is not on a map any more is left out."""
    found: list[Place] = []
    for each in picked.get("cells", []):
        shape = drawn(reader, view, each["name"])
        if "cell" in each:
            i, j = map(int, each["cell"].split(","))
            at = [(i, j)] if i < len(shape.lr) and j < len(shape.wd) else []
        else:
            at = cells_of(shape, [each])
        found += [(each["name"], i, j) for i, j in at]
    return list(dict.fromkeys(found))


def _in_words(shape: Landscape, i: int, j: int) -> str:
    return cell_name(float(shape.lr[i]), float(shape.wd[j]))


def _called(names: Sequence[str]) -> dict[str, str]:
    """What each map is called: by its panel, and by its sweep, too, where there are several."""
    several = len({name.split("/", 1)[0] for name in names}) > 1
    return {name: name if several else name.split("/", 1)[1] for name in names}


def _hovered(reader: Reader, view: View, name: str, i: int, j: int) -> html.Dl:
    sweep, shape = name.split("/", 1)[0], drawn(reader, view, name)
    metric, states = shape.metric, shape.states[:, i, j]
    mean = float(shape.mean()[i, j])
    rows = [
        (axis_name("lr", [shape.variant], view.units), numerals.quantity(float(shape.lr[i]))),
        (axis_name("wd", [shape.variant], view.units), numerals.quantity(float(shape.wd[j]))),
    ]
    seen = states != OUTSIDE
    if math.isfinite(mean):
        seeds = shape.z[:, i, j]
        seeds = seeds[~pd.isna(seeds)]
        spread = float(seeds.std(ddof=1) / len(seeds) ** 0.5) if len(seeds) > 1 else math.nan
        rows.append((numerals.metric_name(metric), numerals.metric_value(metric, mean, spread)))
    for seed, state, value in zip(shape.seeds, states, shape.z[:, i, j], strict=True):
        told = numerals.metric_value(metric, float(value)) if math.isfinite(value) else state
        rows.append((f"seed {seed}", told))
    if not seen.any():
        rows = [*rows[:2], ("", "not on the trained grid in these units")]
    for other in TOLD:
        if other != metric and other in shape.values and math.isfinite(mean):
            value = float(shape.values[other][:, i, j].mean())
            if math.isfinite(value):
                rows.append((numerals.metric_name(other), numerals.metric_value(other, value)))
    ranked = (
        reader.kept(
            sweep,
            ("ranks", name, metric, view.step, view.units),
            lambda: {cell: k for k, cell in enumerate(shape.ranked(), 1)},
        )
        if shape.axes == ("lr", "wd")
        else {}
    )
    rank = [("rank", f"{ranked[i, j]:,} of {len(ranked):,}")] if (i, j) in ranked else []
    return facts([*rows, *rank], kind="narrow")


def _sliced(ids: Sequence[dict[str, str]], own: dict[str, str]) -> list[dict[str, str]]:
    """The maps whose slices are drawn: as many as there are colours, in the page's order, the pointed one among them."""
    first = [own, *(each for each in ids if each != own)][: len(LINES)]
    return [each for each in ids if each in first]


def _told(reader: Reader, view: View, places: Sequence[Place]) -> list[Any]:
    """Curves, runs, config and snippet of picked cells."""
    first_sweep = places[0][0].split("/", 1)[0]
    runs: list[tuple[str, str, int]] = []
    tables, evaluations, titles = [], [], []
    metric = view.metric or reader.spec(first_sweep).metric
    metrics = list(dict.fromkeys([*TOLD, metric]))
    called = _called([name for name, *_ in places])
    for number, (name, i, j) in enumerate(places):
        sweep = name.split("/", 1)[0]
        shape = drawn(reader, view, name)
        words = (f"{called[name]}: " if len(called) > 1 else "") + _in_words(shape, i, j)
        ids = [str(run_id) for run_id in shape.run_ids[:, i, j] if run_id]
        runs += [(run_id, words, number) for run_id in ids]
        evaluations.append(reader.curves(sweep, ids))
        tables += _rows(reader.runs(sweep, ids), words, metrics)
        titles.append(html.Li([html.Span(className="dot", style={"background": LINES[number % len(LINES)]}), words]))
    drawn_curves = pd.concat(evaluations) if evaluations else pd.DataFrame()
    shown = metric if metric in drawn_curves else "val_loss"
    columns = ["cell", "seed", "state", *map(numerals.metric_name, metrics), "seconds", "run", "error"]
    return [
        heading("One cell" if len(places) == 1 else f"{len(places)} cells compared"),
        html.Ul(titles, className="chosen"),
        html.Div(
            [
                html.Div(
                    [html.H3(f"Learning curves: {numerals.metric_name(shown)}"), dcc.Graph(id="curves", figure=curves(drawn_curves, runs, shown), config={"displayModeBar": False}, className="curves", style={"height": "300px"}, responsive=True)]
                    if len(drawn_curves) else empty("No curves", "The store has no evaluation of these runs."),
                    className="card",
                ),
                html.Div([html.H3("Its optimizer in torch" if len(places) == 1 else "The first one's optimizer in torch"), _snippet(reader, view, places[0])], className="card"),
            ],
            className="pair",
        ),
        html.Div([html.H3("Runs"), table("Runs of the picked cells", columns, tables)], className="card"),
    ]  # fmt: skip


def _rows(frame: pd.DataFrame, words: str, metrics: Sequence[str]) -> list[list[str]]:
    rows = []
    for row in frame.sort_values("seed").to_dict("records"):
        values = [numerals.metric_value(m, float(row[m])) if pd.notna(row.get(m)) else "—" for m in metrics]
        seconds = f"{row['wall_s']:{'.2g' if row['wall_s'] < 99 else ',.0f'}}" if pd.notna(row.get("wall_s")) else "—"
        error = str(row["error"]) if pd.notna(row.get("error")) else ""
        rows.append([words, str(row["seed"]), str(row["state"]), *values, seconds, str(row["run_id"]), error])
    return rows or [[words, "—", "not trained yet", *["—"] * (len(metrics) + 2), ""]]


def _snippet(reader: Reader, view: View, place: Place) -> Any:
    name, i, j = place
    sweep, panel_name = name.split("/", 1)
    spec, panel, shape = reader.spec(sweep), reader.panel(sweep, panel_name), reader.shape(sweep, panel_name)
    run_id = drawn(reader, view, name).run_ids[0, i, j]
    if not run_id:
        return html.P("This cell has no training of its own.", className="quiet")
    i, j = np.argwhere(shape.run_ids[0] == run_id)[0]  # in other units it lies elsewhere
    lr, wd = float(shape.lr[i]), float(shape.wd[j])
    known = reader.runs(sweep, [str(run_id) for run_id in shape.run_ids[:, i, j]])
    short, loop = torch_optimizer(panel, lr, wd), torch_snippet(spec, panel, lr, wd)
    if "optimizer" in spec.unknown:
        short = None
    found: list[Any] = []
    if short is not None:
        arguments = ", ".join(f"{key}={value!r}" for key, value in short.items() if key != "class")
        found.append(code("optimizer-code", f"{short['class']}(model.parameters(), {arguments})"))
        decay = f"Decay on {DECAY_ON[panel.recipe.decay_on]}{', as in the training loop below' if loop else ''}."
        found.append(html.P(decay, className="quiet") if "decay_on" not in spec.unknown else None)
    if loop is None:
        why = "The source of this sweep does not say enough for a training loop."
        found.append(html.P(why if spec.unknown else "torch.optim has no such optimizer.", className="quiet"))
    else:
        found.append(
            html.Details([html.Summary("Training loop"), code("loop-code", loop.rstrip())], open=short is None)
        )
    if len(known):
        text = json.dumps(json.loads(known["config"].iloc[0]), indent=2)
        found.append(html.Details([html.Summary("Config"), code("config-code", text)]))
    return html.Div(found)


def _refined(pages: Pages, view: View, picked: dict[str, Any]) -> tuple[str, Any]:
    """The spec that is finer about the picked cells, and what to do with it."""
    reader = pages.reader
    places = _picked(reader, view, picked)
    sweep, panel = places[0][0].split("/", 1)
    inside = [(i, j) for name, i, j in places if name == places[0][0]]
    if view.units:
        return "", html.P("Choose “own” as units of decay first: a grid is refined in its own.", className="bad")
    shape = reader.shape(sweep, panel)
    found = refined_within(reader.spec(sweep), reader.shapes(sweep), shape, inside)
    text = found.spec.to_yaml()
    assert found.spec.adaptive is not None
    told = [
        heading("Refine here", "Finer about the picked cells. What is trained stays, and counts; of the new cells the promising ones are trained, the others predicted."),
        html.Ul([html.Li(change) for change in found.changes]),
        html.Details([html.Summary("The spec"), code("refined-code", text)]),
        html.P(["Save it as ", html.Code("refined.yaml"), " and run:"]),
        command("refined-command", caveats.command(reader.store, "launch", "refined.yaml")),
    ]  # fmt: skip
    if pages.launcher.may_launch:
        told.append(html.Button("Launch it", id={"type": "launch-refined", "name": sweep}, className="button primary"))
        told.append(html.Div(id="refined-launched", role="status"))
    return text, html.Div([*told, dcc.Store(id="refined-spec", data=text)], className="card")


def register(pages: Pages) -> None:
    """Answer what is pointed at, picked, and refined."""
    reader = pages.reader

    @pages.callback(
        Output("hovered", "children"), Output("over-wd", "figure"), Output("over-lr", "figure"), Output("slices", "className"),
        Input({"type": "map", "name": ALL}, "hoverData"), State("view", "data"), State({"type": "map", "name": ALL}, "id"),
        prevent_initial_call=True,
    )  # fmt: skip
    def hover(found: list[Any], data: dict[str, Any], ids: list[dict[str, str]]) -> tuple[Any, ...]:
        own = pages.triggered()
        at = next((point for point, each in zip(found, ids, strict=True) if each == own), None)
        if not own or not at:
            return (no_update,) * 4
        view, name = View.from_data(data), own["name"]
        shape = drawn(reader, view, name)
        cell = cells_of(shape, at.get("points", [])[:1])
        if not cell:
            return (no_update,) * 4
        (i, j) = cell[0]
        called = _called([each["name"] for each in ids])
        shapes = [(called[each["name"]], drawn(reader, view, each["name"])) for each in _sliced(ids, own)]
        over_wd, over_lr = slices(shapes, view, float(shape.lr[i]), float(shape.wd[j]))
        told = [html.H2(called[name]), _hovered(reader, view, name, i, j)]
        return told, over_wd, over_lr, "slices"

    pages.in_browser(
        "pick",
        Output("picked", "data"),
        Input({"type": "map", "name": ALL}, "clickData"), Input({"type": "map", "name": ALL}, "selectedData"),
        Input({"type": "best", "name": ALL, "cell": ALL}, "n_clicks"), Input("clear", "n_clicks"), State("picked", "data"),
        prevent_initial_call=True,
    )  # fmt: skip

    @pages.callback(
        Output("details", "children"), Output("refining", "hidden"),
        Input("picked", "data"), Input("version", "data"), Input("view", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def show(picked: dict[str, Any], _: str, data: dict[str, Any]) -> tuple[Any, bool]:
        view = View.from_data(data)
        places = _picked(reader, view, picked or {})
        if not places:
            return [], True
        told = _told(reader, view, places[:MOST_PICKED])
        if len(places) > MOST_PICKED:
            told.insert(
                1,
                html.P(
                    f"{len(places)} cells are picked; the first {MOST_PICKED} are shown, refining is about all.",
                    className="quiet",
                ),
            )
        return told, False

    @pages.callback(
        Output("refined", "children"),
        Input("refine", "n_clicks"), Input("picked", "data"), State("view", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def refine(_: int, picked: dict[str, Any], data: dict[str, Any]) -> Any:
        if pages.triggered() != "refine":
            return None
        try:
            return _refined(pages, View.from_data(data), picked)[1]
        except SpecError as error:
            return html.P(str(error), className="bad")

    if pages.launcher.allowed:

        @pages.callback(
            Output("refined-launched", "children"),
            Input({"type": "launch-refined", "name": ALL}, "n_clicks"), State("refined-spec", "data"), prevent_initial_call=True,
        )  # fmt: skip
        def launch(clicks: list[int | None], text: str) -> Any:
            if not any(clicks):
                return no_update
            try:
                pages.launcher.launch(text)
            except (SpecError, StoreError, LaunchError) as error:
                return html.P(str(error), className="bad")
            return html.P(["Launched. ", dcc.Link("Watch it", href="/launch")])
