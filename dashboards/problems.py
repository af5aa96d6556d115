"""Errors as RFC 9457 has them: ``application/problem+json``, one line for a person and a status for a program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hpscan.files import StoreError
from hpscan.spec import SpecError
from hpscan.workloads import WorkloadError

from .admission import LaunchError
from .launching import BusyError, IdleError, JobServerError
from .reading import UnknownError

__all__ = ["MEDIA_TYPE", "Problem", "add_handlers", "documented", "problem"]

MEDIA_TYPE = "application/problem+json"

WHY = {
    400: "The request cannot be read, or its Host is none of this server's.",
    401: "No token, or a wrong one.",
    403: "Refused: a read-only token, launching that is off, code that is not allowed, or another site's page asks.",
    404: "There is no such sweep, panel, run or file.",
    409: "The sweep is being launched, or is not.",
    413: "The request is too large.",
    422: "A parameter or the spec makes no sense.",
    429: "Too many wrong tokens; Retry-After says when to try again.",
    500: "A mistake in the server; its log says what.",
    502: "The cluster's job server does not answer.",
    503: "The store cannot be read.",
    504: "It took too long.",
}
"""What each status means here."""


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = "about:blank"
    title: str = Field(description="The status in words.")
    status: int = Field(ge=400, lt=600)
    detail: str = Field(description="One line: what is wrong, and what would be right.")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that says what is wrong."""
    told = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    content = json.dumps(told.model_dump()).encode()  # ASCII, since a request may hold what is no Unicode
    return Response(content, status, headers, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI is to say of these statuses."""
    schema = Problem.model_json_schema()
    return {status: {"description": WHY[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}


def add_handlers(app: FastAPI) -> None:
    """Make problems of whatever an endpoint raises."""

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return problem(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(StoreError)
    def _store(_: Request, error: Exception) -> Response:
        assert isinstance(error, StoreError)
        return problem(404 if error.bad_input else 503, str(error))

    statuses: dict[type[Exception], int] = {
        UnknownError: 404,
        SpecError: 422,
        WorkloadError: 422,
        LaunchError: 403,
        BusyError: 409,
        IdleError: 409,
        JobServerError: 502,
    }
    for kind, status in statuses.items():
        app.add_exception_handler(kind, lambda _, error, status=status: problem(status, str(error)))

    @app.exception_handler(Exception)
    def _mistake(_: Request, __: Exception) -> Response:
        return problem(500, "A mistake in the server; its log says what.")
