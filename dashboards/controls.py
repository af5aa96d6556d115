"""What of landscapes is shown, and how: the controls of a page, whose choices are its address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dash import Input, Output, State, dcc, html, no_update

from hpscan import numerals
from hpscan.spec import SpecError

from .callbacks import Pages
from .reading import Reader
from .shell import aria
from .view import MOST_TOLERANCE, SCALES, SHOWN, View

__all__ = ["MOST_MAPS", "controls", "maps_of", "register", "view_of"]

MOST_MAPS = 12
"""Maps that are drawn before anything is chosen."""
METRICS_FIRST = ("val_loss", "val_error", "test_loss", "test_error", "train_loss", "train_error", "gap")


def maps_of(reader: Reader, names: Sequence[str]) -> list[str]:
    """All maps of some sweeps, ``SWEEP/PANEL``."""
    return [f"{name}/{panel.name}" for name in names for panel in reader.panels(name)]


def view_of(reader: Reader, names: Sequence[str], query: str) -> View:
    """The view of a page's query: of seeds that its sweeps have, and of one metric, though they were tuned by several; at the end of training if that is known of the end alone.

    Raises SpecError if the query names none and the sweeps have none in common.
    """
    view = View.from_query(query)
    if view.seed is not None:
        known = view.seed in _seeds(reader, names)
        view = replace(view, shows=str(view.seed) if known else View().shows)
    own = [reader.spec(name).metric for name in names]
    if not view.metric and len(set(own)) > 1:
        common = [each["value"] for each in _metrics(reader, names)]
        if not common:
            raise SpecError(f"metric: {', '.join(names)} have none in common")
        view = replace(view, metric=own[0] if own[0] in common else common[0])
    never = view.step is not None and not all(reader.steps(name, view.metric or own[0]) for name in names)
    return replace(view, step=None) if never else view


def controls(reader: Reader, names: Sequence[str], view: View, every: list[str], shown: list[str]) -> html.Section:
    """Everything that can be chosen, as the view has it."""
    metric = view.metric or reader.spec(names[0]).metric
    steps = _steps(reader, names, metric)
    at = steps.index(view.step) if view.step in steps else len(steps)
    short = len(names) == 1
    options = [{"label": name.split("/", 1)[1] if short else name, "value": name} for name in every]
    shows = [
        *({"label": told, "value": key} for key, told in SHOWN.items()),
        *({"label": f"seed {seed}", "value": str(seed)} for seed in _seeds(reader, names)),
    ]
    slider = dcc.Slider(
        0, len(steps), 1, value=at, id="choose-step", marks=None, className="slider", updatemode="drag", allow_direct_input=False,
    )  # fmt: skip
    return html.Section(
        [
            _field("Metric", dcc.Dropdown(_metrics(reader, names), metric, clearable=False, id="choose-metric"), "wide"),
            _field("Shown", dcc.Dropdown(shows, view.shows, clearable=False, id="choose-shows")),
            _field("Colours", dcc.RadioItems(list(SCALES), view.scale, inline=True, id="choose-scale", className="segmented")),
            _field(["Worst colour at", _words("clip", view)], dcc.Slider(5, 100, 5, value=view.clip, id="choose-clip", marks=None, className="slider", allow_direct_input=False)),
            _field(["Basin within", _words("tolerance", view)], dcc.Slider(0, MOST_TOLERANCE, 1, value=view.tolerance, id="choose-tolerance", marks=None, className="slider", allow_direct_input=False)),
            _field("Units of decay", dcc.RadioItems([{"label": "own", "value": ""}, {"label": "paper", "value": "paper"}, {"label": "torch", "value": "torch"}], view.units, inline=True, id="choose-units", className="segmented")),
            _field("Lines", dcc.Checklist([{"label": "lr·wd", "value": "iso"}], ["iso"] if view.iso else [], id="choose-iso", className="segmented")),
            _field("Maps", dcc.Dropdown(options, shown, multi=True, clearable=False, id="choose-maps"), "widest" if len(every) > 1 else "absent"),
            _field(
                [html.Button("▶", id="play", className="icon", **aria({"aria-label": "Play the evaluations"})), html.Span(_step_words(steps, at), id="step-words")],
                slider, _reel(steps), name="reel",
            ),
            dcc.Store(id="steps", data=steps),
            dcc.Interval(id="play-tick", interval=900, disabled=True),
        ],
        className="controls", **aria({"aria-label": "What is shown, and how"}),
    )  # fmt: skip


def _field(words: Any, control: Any, size: str = "", name: str = "") -> html.Div:
    words = [words] if isinstance(words, str) else words
    inside = [html.Div(words, className="name"), control]
    own: dict[str, Any] = {"id": name} if name else {}
    return html.Div(inside, className=f"field {size}", **own)


def _words(what: str, view: View) -> html.Span:
    """The value of a slider, which shows none by itself."""
    return html.Span(_in_words(view)[what], id=f"{what}-words", className="quiet")


def _in_words(view: View) -> dict[str, str]:
    return {"clip": f"{view.clip:g} % of cells", "tolerance": f"{view.tolerance:g} % of the best"}


def _metrics(reader: Reader, names: Sequence[str]) -> list[dict[str, str]]:
    """What all sweeps of a page have recorded."""
    lists = [reader.metrics(name) for name in names]
    common = [metric for metric in lists[0] if all(metric in other for other in lists)]
    common.sort(key=lambda metric: METRICS_FIRST.index(metric) if metric in METRICS_FIRST else len(METRICS_FIRST))
    return [{"label": numerals.metric_name(metric), "value": metric} for metric in common]


def _seeds(reader: Reader, names: Sequence[str]) -> list[int]:
    return sorted({seed for name in names for seed in reader.spec(name).seeds})


def _steps(reader: Reader, names: Sequence[str], metric: str) -> list[int]:
    """The evaluations before the end at which all sweeps of a page know a metric."""
    found = [set(reader.steps(name, metric)) for name in names]
    return sorted(set.intersection(*found))[:-1] if found else []


def _reel(steps: Sequence[int]) -> str:
    return "widest" if steps else "absent"


def _step_words(steps: Sequence[int], at: int) -> str:
    return f"after {steps[at]:,} steps" if at < len(steps) else "end of training"


def register(pages: Pages) -> None:
    """Make a view of what is chosen, and its address."""
    reader = pages.reader

    @pages.callback(
        Output("view", "data"), Output("query", "data"), Output("step-words", "children"), Output("clip-words", "children"), Output("tolerance-words", "children"),
        Input("choose-metric", "value"), Input("choose-shows", "value"), Input("choose-scale", "value"), Input("choose-clip", "value"),
        Input("choose-tolerance", "value"), Input("choose-units", "value"), Input("choose-iso", "value"), Input("choose-step", "value"),
        Input("choose-maps", "value"), State("steps", "data"), State("sweeps-of-page", "data"), State("url", "pathname"),
        prevent_initial_call=True,
    )  # fmt: skip
    def choose(
        metric: str, shows: str, scale: str, clip: float, tolerance: float, units: str, iso: list[str], at: int,
        maps: list[str] | None, steps: list[int], names: list[str], path: str | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        own = {reader.spec(name).metric for name in names}
        step = steps[at] if at is not None and at < len(steps) else None
        every = maps_of(reader, names)
        chosen = () if not maps or list(maps) == every[:MOST_MAPS] else tuple(maps)
        view = View(
            maps=chosen, metric="" if own == {metric} else metric, shows=shows, scale=scale, clip=float(clip), step=step,
            units=units or "", tolerance=float(tolerance), iso="iso" in (iso or []),
        ).sane()  # fmt: skip
        query = view.to_query(names if (path or "").strip("/") == "compare" else ())
        return (
            view.to_data(),
            query,
            _step_words(steps, at if at is not None else len(steps)),
            *_in_words(view).values(),
        )

    @pages.callback(
        Output("steps", "data"), Output("choose-step", "max"), Output("choose-step", "value"), Output("reel", "className"), Output("choose-metric", "options"),
        Input("version", "data"), Input("choose-metric", "value"), State("steps", "data"), State("choose-step", "value"), State("sweeps-of-page", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def offer(_: str, metric: str, steps: list[int], at: int, names: list[str]) -> tuple[Any, ...]:
        """Offer the evaluations of what is chosen, and the metrics, that have come since the page was opened."""
        now = _steps(reader, names, metric)
        metrics = _metrics(reader, names)
        if now == steps:
            return (*[no_update] * 4, metrics)
        held = now.index(steps[at]) if at < len(steps) and steps[at] in now else len(now)
        return now, len(now), held, f"field {_reel(now)}", metrics

    pages.in_browser(
        "address", Output("addressed", "data"),
        Input("query", "data"), prevent_initial_call=True
    )  # fmt: skip
    pages.in_browser(
        "play",
        Output("choose-step", "value", allow_duplicate=True), Input("play-tick", "n_intervals"), State("choose-step", "value"), State("choose-step", "max"),
        prevent_initial_call=True,
    )  # fmt: skip
    pages.in_browser(
        "playing",
        Output("play-tick", "disabled"), Output("play", "children"), Input("play", "n_clicks"), State("play-tick", "disabled"),
        prevent_initial_call=True,
    )  # fmt: skip
    pages.in_browser(
        "compare", Output("choose-sweeps", "className"), Input("choose-sweeps", "value"), prevent_initial_call=True
    )  # fmt: skip
