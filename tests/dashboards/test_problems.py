"""Every error is a problem: the status for a program, one line for a person."""

import json
from typing import Annotated

import pytest
from fastapi import FastAPI, HTTPException, Query
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from hpscan.dashboards.admission import LaunchError, RefusedError
from hpscan.dashboards.launching import BusyError, IdleError, JobServerError, NotAllowedError
from hpscan.dashboards.problems import WHY, add_handlers, documented, problem
from hpscan.dashboards.reading import UnknownError
from hpscan.files import StoreError
from hpscan.spec import SpecError
from hpscan.workloads import WorkloadError

from .conftest import is_problem

RAISED = [
    (UnknownError("panel 'x': tiny has sgd"), 404), (SpecError("lr: must be positive; got -1"), 422), (WorkloadError("no text"), 422),
    (LaunchError("no"), 403), (RefusedError("no"), 403), (NotAllowedError("launching is off"), 403), (BusyError("it runs"), 409),
    (IdleError("it has ended"), 409), (JobServerError("no answer"), 502), (StoreError("disk"), 503),
    (StoreError("not a folder", bad_input=True), 404), (HTTPException(418, "a pot"), 418),
]  # fmt: skip


@pytest.fixture
def client():
    app = FastAPI()
    add_handlers(app)

    @app.get("/raise/{number}")
    def fail(number: int):
        raise RAISED[number][0]

    @app.get("/count")
    def count(n: Annotated[int, Query(ge=1)]):
        return n

    @app.get("/mistake")
    def mistake():
        raise ZeroDivisionError("a secret")

    @app.get("/later")
    def later():
        raise HTTPException(429, "later", {"Retry-After": "7"})

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("number", range(len(RAISED)), ids=lambda number: type(RAISED[number][0]).__name__)
def test_what_is_raised_is_told_with_its_status(client, number):
    error, status = RAISED[number]
    told = is_problem(client.get(f"/raise/{number}"), status)
    assert told == (error.detail if isinstance(error, HTTPException) else str(error))


def test_a_parameter_is_told_by_its_place_and_name(client):
    assert is_problem(client.get("/count?n=0"), 422) == "query.n: Input should be greater than or equal to 1"
    assert is_problem(client.get("/count"), 422) == "query.n: Field required"


def test_a_mistake_says_nothing_of_itself(client):
    assert is_problem(client.get("/mistake"), 500) == "A mistake in the server; its log says what."
    assert "secret" not in client.get("/mistake").text


def test_headers_of_an_error_are_kept(client):
    answer = client.get("/later")
    is_problem(answer, 429)
    assert answer.headers["retry-after"] == "7"


@given(st.text(st.characters(codec=None) | st.sampled_from('\ud800\udfff\n"<')))
def test_any_text_can_be_told(detail):
    answer = problem(422, detail)
    assert answer.body.isascii()
    assert json.loads(answer.body)["detail"] == detail


def test_what_is_documented_has_one_shape_and_a_reason():
    found = documented(*WHY)
    assert set(found) == set(WHY)
    for status, told in found.items():
        (schema,) = (each["schema"] for each in told["content"].values())
        assert set(schema["properties"]) == {"type", "title", "status", "detail"}
        assert told["description"] == WHY[status]


def test_every_status_that_is_raised_is_documented():
    assert {status for _, status in RAISED if status != 418} <= set(WHY)
