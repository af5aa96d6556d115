"""Launching from the browser: a spec, what it would cost, its launch, its log and its end."""

from __future__ import annotations

from typing import Any

from dash import ALL, Input, Output, State, dcc, html, no_update

from hpscan import caveats
from hpscan.spec import SpecError
from hpscan.spec_text import shipped_specs
from hpscan.store import StoreError

from .admission import LaunchError
from .callbacks import Pages
from .shell import chip, command, facts, head, path_of

__all__ = ["page", "register"]


def page(pages: Pages) -> list[Any]:
    """A spec to write or to choose, and the launches that run."""
    launcher = pages.launcher
    told = f"on {launcher.address}" if launcher.address else "on this machine"
    about = f"A sweep starts {told}; its results come into {pages.reader.store.files.shown()}."
    if not launcher.may_launch:
        about = "This dashboard only shows. Specs can be checked here and launched from a terminal; with --allow-launch they can be launched here, too."
    return [
        dcc.Store(id="typed"),
        head("Launch", about=html.P(about, className="quiet")),
        html.Div(
            [
                html.Section(
                    [
                        html.Label([html.Span("Start from", className="name"), dcc.Dropdown(["your own", *sorted(shipped_specs())], "your own", clearable=False, id="shipped")], className="field wide"),
                        html.Label("Spec, as YAML", htmlFor="spec", className="name"),
                        dcc.Textarea(id="spec", className="spec", spellCheck=False, placeholder="name: mine\nworkload: {name: digits}\n…"),
                        html.Div([html.Button("Launch", id="launch", className="button primary", disabled=True), html.Span(id="launched", role="status")], className="actions")
                        if launcher.may_launch else html.Div([html.Button(id="launch"), html.Span(id="launched")], hidden=True),
                    ],
                    className="card",
                ),
                html.Section([html.H2("What it would do"), html.Div(html.P("Choose or paste a spec.", className="quiet"), id="checked", role="status"), dcc.Loading(html.Div(id="cost"), delay_show=200, type="dot")], className="card"),
            ],
            className="pair",
        ),
        html.Section([html.H2("Launched here"), html.Div(_launches(pages), id="launches")], className="card"),
    ]  # fmt: skip


def _launches(pages: Pages) -> Any:
    found = pages.launcher.launches()
    if not found:
        return html.P("Nothing was launched from this dashboard since it started.", className="quiet")
    return [
        html.Article(
            [
                html.Div(
                    [
                        html.H3(dcc.Link(each.sweep, href=path_of(each.sweep))),
                        chip("cancelling" if each.goes_on and each.cancelled else each.status, {"running": "busy", "submitted": "busy", "succeeded": "good", "failed": "bad"}.get(each.status, "warn")),
                        html.Button("Cancel", id={"type": "cancel", "name": each.sweep}, className="button") if each.goes_on and pages.launcher.may_launch else None,
                    ],
                    className="row",
                ),
                _log(pages, each.sweep),
            ]
        )
        for each in found
    ]  # fmt: skip


def _log(pages: Pages, sweep: str) -> Any:
    try:
        text = pages.launcher.log(sweep)
    except LaunchError as error:  # a job server that does not answer hides none of the other launches
        return html.P(str(error), className="bad")
    return html.Pre(text[-4000:] or "no output yet", className="log", tabIndex=0)


def _checked(pages: Pages, text: str) -> tuple[Any, bool]:
    """What a spec would do, and whether it can be launched."""
    if not text.strip():
        return html.P("Choose or paste a spec.", className="quiet"), False
    try:
        found = pages.launcher.check(text, cost=False)
    except (SpecError, StoreError, LaunchError) as error:
        return [chip("cannot be launched", "bad"), html.P(str(error), className="bad")], False
    rows = [("Sweep", found.sweep), ("Runs", f"{found.runs:,}"), ("To train", f"{found.to_train:,}")]
    how: list[Any] = []
    if not pages.launcher.may_launch:
        run = caveats.command(pages.reader.store, "launch", "spec.yaml")
        how = [html.P("Save it as spec.yaml and run:"), command("launch-command", run)]
    return [chip("valid", "good"), facts(rows), *how], True


def register(pages: Pages) -> None:
    """Check as one types; launch, watch and cancel where that is allowed."""
    launcher = pages.launcher

    @pages.callback(Output("spec", "value"), Input("shipped", "value"), prevent_initial_call=True)
    def take(name: str | None) -> Any:
        return shipped_specs().get(name or "", no_update)

    ready = [Output("launch", "disabled")] if launcher.allowed else []

    @pages.callback(Output("checked", "children"), *ready, Input("typed", "data"), prevent_initial_call=True)
    def check(text: str | None) -> Any:
        told, valid = _checked(pages, text or "")
        return (told, not valid or not launcher.may_launch) if ready else told

    @pages.callback(Output("cost", "children"), Input("typed", "data"), prevent_initial_call=True)
    def estimate(text: str | None) -> Any:
        try:
            found = launcher.check(text or "")
        except (SpecError, StoreError, LaunchError):
            return None
        return facts([("Cost", found.cost)])

    @pages.callback(Output("launches", "children"), Input("tick", "n_intervals"), prevent_initial_call=True)
    def watch(_: int) -> Any:
        return _launches(pages)

    pages.in_browser(
        "typed", Output("typed", "data"), Input("spec", "value"), prevent_initial_call=True
    )  # fmt: skip

    if not launcher.allowed:
        return

    @pages.callback(Output("launched", "children"), Input("launch", "n_clicks"), State("spec", "value"), prevent_initial_call=True)  # fmt: skip
    def launch(_: int, text: str) -> Any:
        try:
            launcher.launch(text or "")
        except (SpecError, StoreError, LaunchError) as error:
            return html.Span(str(error), className="bad")
        return "Launched."

    @pages.callback(Output("tick", "disabled"), Input({"type": "cancel", "name": ALL}, "n_clicks"), State({"type": "cancel", "name": ALL}, "id"), prevent_initial_call=True)  # fmt: skip
    def cancel(clicks: list[int | None], ids: list[dict[str, str]]) -> Any:
        own = pages.triggered()
        if own and any(count for count, each in zip(clicks, ids, strict=True) if each == own):
            launcher.cancel(own["name"])
        return False
