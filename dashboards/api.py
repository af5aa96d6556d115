"""The REST API: every route reads by the same functions as the pages do, and presents."""

from __future__ import annotations

import json
from email.utils import format_datetime
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, FastAPI, Path, Query, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from hpscan import __version__
from hpscan.spec import SpecError
from hpscan.spec_text import shipped_specs

from . import documents
from .admission import RefusedError
from .answers import (
    AnalysisAnswer,
    Curves,
    LandscapeAnswer,
    Later,
    Launch,
    Log,
    Page,
    PanelStates,
    Run,
    RunDetail,
    ShippedSpec,
    SpecText,
    State,
    Status,
    SweepSummary,
    Validated,
    ValidationText,
    json_values,
)
from .downloads import REPORT_FILES, TABLES, report_file, table
from .launching import IdleError, Launcher, Started
from .login import waiting_page
from .making import BeingMadeError, Made
from .problems import add_handlers, documented
from .reading import Reader, UnknownError
from .reference import reference_page

__all__ = ["BASE", "api", "router"]

BASE = "/api"
MOST_CURVES = 200
PAGE = 100
MOST_OF_PAGE = 1000

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What a sweep may be called: nothing that a path could mean."""

SweepName = Annotated[str, Path(pattern=NAME, description="A sweep of the store.")]
Offset = Annotated[int, Query(ge=0, le=10**9, description="How many to leave out.")]
Limit = Annotated[int, Query(ge=1, le=MOST_OF_PAGE, description="How many to give at most.")]
Metric = Annotated[str | None, Query(max_length=100, description="A metric or diagnostic; the sweep's own by default.")]
Step = Annotated[
    int | None, Query(ge=0, lt=2**63, description="An evaluation (`steps` of the status); the end by default.")
]
Units = Annotated[
    Literal["paper", "torch"] | None, Query(description="The convention a decoupled landscape is drawn in.")
]
Download = Annotated[bool, Query(description="Whether a browser is to save it, not to show it.")]
ReportName = Annotated[str, Path(max_length=100, json_schema_extra={"enum": list(REPORT_FILES)})]

EVERY = (400, 401, 403, 413, 422, 429, 500, 503, 504)
"""What any route may answer, the guard's answers among them."""

RETRY_S = 5
LATER: dict[int | str, dict[str, Any]] = {
    202: {
        "model": Later,
        "content": {"text/html": {}},
        "description": "It is being made; ask again after Retry-After seconds. While the sweep is being launched the last "
        "that was made is answered; Last-Modified says of when.",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
    }
}
"""Of what may take longer than a request."""

SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
"""A report is a page that holds all it needs, and text that came from specs: nothing in it is run."""


def api(reader: Reader, launcher: Launcher) -> FastAPI:
    """The API as an application of its own, to be mounted at :data:`BASE`: what it does not know never is a page."""
    app = FastAPI(
        title="hpscan API",
        version=__version__,
        description="Sweeps of hyperparameters: how far they are, their landscapes, runs, curves and numbers. "
        "Errors are problem+json (RFC 9457); what is not known or not finite is null. A token, if the server has any, "
        "goes into the header Authorization: Bearer TOKEN.",
        servers=[{"url": BASE}],
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    add_handlers(app)

    @app.exception_handler(BeingMadeError)
    def later(request: Request, error: Exception) -> Response:
        if "text/html" in request.headers.get("accept", ""):  # a browser would show or save what is meant for programs
            return waiting_page(str(error), RETRY_S)
        told = json.dumps(Later(detail=f"{error}; ask again").model_dump())
        return Response(told, 202, {"Retry-After": str(RETRY_S)}, "application/json")

    app.include_router(router(reader, launcher), prefix="/v1")

    @app.get("/docs", include_in_schema=False)
    def reference() -> HTMLResponse:
        return HTMLResponse(reference_page(app.openapi(), BASE))

    return app


def router(reader: Reader, launcher: Launcher) -> APIRouter:
    """All routes of the API."""
    every = APIRouter(responses=documented(*EVERY))
    _add_sweeps(every, reader)
    _add_runs(every, reader)
    _add_results(every, reader)
    _add_specs(every, launcher)
    _add_launches(every, launcher)
    return every


def _add_sweeps(routes: APIRouter, reader: Reader) -> None:
    @routes.get("/sweeps", tags=["Sweeps"], summary="All sweeps, in alphabetical order")
    def sweeps(offset: Offset = 0, limit: Limit = PAGE) -> Page[SweepSummary]:
        names = reader.sweeps()
        items = [documents.summary(reader, name) for name in names[offset : offset + limit]]
        return Page(total=len(names), offset=offset, limit=limit, items=items)

    @routes.get("/sweeps/{sweep}", tags=["Sweeps"], summary="How far a sweep is", responses=documented(404))
    def status(sweep: SweepName) -> Status:
        version = reader.version(sweep)  # before all else: what is read after it may be newer, and never is older
        found = reader.status(sweep)
        return Status(
            **documents.status_fields(reader, sweep),
            metric=reader.spec(sweep).metric,
            panels=[PanelStates(**each) for each in found["variants"]],
            metrics=reader.metrics(sweep),
            steps=reader.steps(sweep),
            errors=found["errors"],
            broken=reader.problems(sweep),
            version=version,
            read_at=reader.read_at(sweep),
        )

    @routes.get(
        "/sweeps/{sweep}/spec", tags=["Sweeps"], summary="The spec as last launched",
        response_class=Response,
        responses={200: {"content": {"application/yaml": {}, "application/json": {"schema": {"type": "object"}}}}, **documented(404)},
    )  # fmt: skip
    def spec(sweep: SweepName, format: Literal["yaml", "json"] = "yaml") -> Response:  # noqa: A002  (of the URL)
        found = reader.spec(sweep)
        if format == "json":
            return _json(json_values(found.model_dump(mode="json")))
        return _file(found.to_yaml().encode(), f"{sweep}.yaml", "application/yaml")


def _add_runs(routes: APIRouter, reader: Reader) -> None:
    @routes.get(
        "/sweeps/{sweep}/runs", tags=["Runs"], summary="Runs, those that are missing among them", responses=documented(404)
    )  # fmt: skip
    def runs(
        sweep: SweepName,
        panel: Annotated[str | None, Query(max_length=300, description="Of this landscape.")] = None,
        state: Annotated[State | None, Query(description="In this state.")] = None,
        offset: Offset = 0,
        limit: Limit = PAGE,
    ) -> Page[Run]:
        every = documents.planned_runs(reader, sweep)
        chosen = np.ones(len(every), dtype=bool)
        if panel is not None:
            chosen &= (every["panel"] == reader.panel(sweep, panel).name).to_numpy()
        if state is not None:
            chosen &= (every["state"] == state).to_numpy()
        page = every.iloc[np.flatnonzero(chosen)[offset : offset + limit]]
        items = [Run(**each) for each in documents.run_fields(reader, sweep, page)]
        return Page(total=int(chosen.sum()), offset=offset, limit=limit, items=items)

    @routes.get(
        "/sweeps/{sweep}/runs/{run_id}", tags=["Runs"], summary="One run, with its config", responses=documented(404)
    )
    def run(sweep: SweepName, run_id: Annotated[str, Path(max_length=100)]) -> RunDetail:
        every = documents.planned_runs(reader, sweep)
        page = every[every["run_id"] == run_id]
        if page.empty:
            raise UnknownError(f"run {run_id!r}: is none of {sweep}")
        (told,) = documents.run_fields(reader, sweep, page)
        row = reader.runs(sweep, [run_id])
        further = {} if row.empty else json_values(row.iloc[0].to_dict())
        config = further.pop("config", None)
        return RunDetail(**told, config=json_values(json.loads(config)) if config else None, row=further)

    @routes.get(
        "/sweeps/{sweep}/curves", tags=["Runs"], summary="Learning curves of some runs", responses=documented(404)
    )
    def curves(
        sweep: SweepName,
        run_id: Annotated[list[str], Query(min_length=1, max_length=MOST_CURVES, description="A run; repeatable.")],
    ) -> Curves:
        rows = reader.curves(sweep, run_id)
        found = [
            documents.curve(str(name), rows) for name, rows in rows.sort_values("step").groupby("run_id", sort=False)
        ]
        order = {name: place for place, name in enumerate(run_id)}
        return Curves(curves=sorted(found, key=lambda curve: order[curve.run_id]))


def _add_results(routes: APIRouter, reader: Reader) -> None:
    tables: dict[str, Any] = {kind.partition(";")[0]: {} for kind in TABLES.values()}

    @routes.get(
        "/sweeps/{sweep}/landscapes/{panel}", tags=["Results"], summary="One landscape",
        response_model=LandscapeAnswer, responses={200: {"content": tables}, **documented(404)},
    )  # fmt: skip
    def landscape(
        sweep: SweepName,
        panel: Annotated[str, Path(max_length=300, description="A panel of the sweep's status.")],
        format: Annotated[  # noqa: A002  (of the URL)
            Literal["json", "csv", "parquet", "arrow"], Query(description="Arrays, or a table with one row a run.")
        ] = "json",
        metric: Metric = None,
        step: Step = None,
        units: Units = None,
    ) -> Response:
        shape = reader.shape(sweep, panel, metric, step=step, convention=units)
        if format == "json":
            return _json(documents.landscape(sweep, shape, step))
        return _file(table(shape, format), f"{sweep} {panel}.{format}", TABLES[format])

    @routes.get(
        "/sweeps/{sweep}/analysis", tags=["Results"], summary="Every number that hpscan analyze prints", responses={**LATER, **documented(404)}
    )  # fmt: skip
    def analysis(sweep: SweepName, response: Response, metric: Metric = None) -> AnalysisAnswer:
        made = reader.analysed(sweep, metric)
        response.headers["Last-Modified"] = _date(made)
        return AnalysisAnswer(**made.outcome.result().to_json())

    @routes.get(
        "/sweeps/{sweep}/report/{file}", tags=["Results"], summary="A file of the report, as hpscan report writes it",
        response_class=Response,
        responses={200: {"content": {kind.partition(";")[0]: {} for kind in REPORT_FILES.values()}}, **LATER, **documented(404)},
    )  # fmt: skip
    def report(sweep: SweepName, file: ReportName, download: Download = False) -> Response:
        if file not in REPORT_FILES:
            raise UnknownError(f"file {file!r}: a report has {', '.join(REPORT_FILES)}")
        made = reader.analysed(sweep)
        content = report_file(reader, sweep, made, file)
        answer = _file(content, f"{sweep} {file}", REPORT_FILES[file], saved=download)
        answer.headers["Content-Security-Policy"] = SANDBOX
        answer.headers["Last-Modified"] = _date(made)
        return answer


def _add_specs(routes: APIRouter, launcher: Launcher) -> None:
    @routes.get("/specs", tags=["Specs"], summary="The specs that come with hpscan")
    def specs() -> list[ShippedSpec]:
        return [documents.shipped(name) for name in shipped_specs()]

    @routes.get(
        "/specs/{name}", tags=["Specs"], summary="One of them, as YAML", response_class=Response,
        responses={200: {"content": {"application/yaml": {}}}, **documented(404)},
    )  # fmt: skip
    def shipped_spec(name: Annotated[str, Path(pattern=NAME)]) -> Response:
        known = shipped_specs()
        if name not in known:
            raise UnknownError(f"spec {name!r}: shipped are {', '.join(known)}")
        return _file(known[name].encode(), f"{name}.yaml", "application/yaml")

    @routes.post("/validate", tags=["Specs"], summary="Check a spec, and estimate what it would cost")
    def validate(spec: ValidationText) -> Validated:
        """Nothing is written. `valid` is false where the spec cannot be launched, and `error` says why."""
        try:
            found = launcher.check(spec.text, cost=spec.cost)
        except (SpecError, RefusedError) as error:
            return Validated(valid=False, error=str(error), may_launch=launcher.may_launch)
        return Validated(
            valid=True,
            sweep=found.sweep,
            runs=found.runs,
            to_train=found.to_train,
            cost=found.cost or None,
            may_launch=launcher.may_launch,
        )


def _add_launches(routes: APIRouter, launcher: Launcher) -> None:
    @routes.get("/launches", tags=["Launching"], summary="The last launch of every sweep that was launched from here")
    def launches() -> list[Launch]:
        return [_launch(each) for each in launcher.launches()]

    @routes.post(
        "/launch", tags=["Launching"], summary="Launch a spec", status_code=202, responses=documented(409, 502)
    )
    def launch(spec: SpecText, response: Response) -> Launch:
        """Trains the runs that the store lacks. Its results come into the store as they land."""
        started = launcher.launch(spec.text)
        response.headers["Location"] = f"{BASE}/v1/sweeps/{started.sweep}"
        return _launch(started)

    @routes.post(
        "/sweeps/{sweep}/cancel", tags=["Launching"], summary="End a launch; what it has trained stays",
        status_code=202, responses=documented(409, 502),
    )  # fmt: skip
    def cancel(sweep: SweepName) -> Launch:
        return _launch(launcher.cancel(sweep))

    @routes.get(
        "/sweeps/{sweep}/log", tags=["Launching"], summary="The end of what a launch printed",
        responses=documented(404, 502),
    )  # fmt: skip
    def log(sweep: SweepName) -> Log:
        try:
            return Log(**_launch(launcher.last(sweep)).model_dump(), text=launcher.log(sweep))
        except IdleError as error:
            raise UnknownError(str(error)) from None


def _date(made: Made[Any]) -> str:
    return format_datetime(made.read_at, usegmt=True)


def _launch(started: Started) -> Launch:
    return Launch.model_validate(started, from_attributes=True)


def _json(value: Any) -> Response:
    """A document that is JSON values already: checking a large one once more takes longer than making it."""
    return Response(json.dumps(value, allow_nan=False).encode(), media_type="application/json")


def _file(content: bytes, name: str, media_type: str, *, saved: bool = False) -> Response:
    ascii_name = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\' else "_" for letter in name
    )
    how = "attachment" if saved else "inline"
    return Response(content, media_type=media_type, headers={"Content-Disposition": f'{how}; filename="{ascii_name}"'})
