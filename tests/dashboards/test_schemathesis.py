"""Whatever is asked, the API answers as its OpenAPI document says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.reading import Reader
from hpscan.dashboards.server import make_app
from hpscan.grid import runs

from .conftest import no_pages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FEW = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
HERE = {"host": "localhost"}


@pytest.fixture
def operations(store):
    """Those of the API. Launching is off; that it is, is one of the answers."""
    app = make_app(Reader(store), Launcher(store), pages=no_pages)
    document = schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=HERE)
    found = [result.ok() for result in document.get_all_operations()]
    assert len(found) == 16
    return found


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_is_asked_is_answered_as_documented(operations, mode):
    for operation in operations:
        if not [*operation.iter_parameters(), *operation.body] and mode is GenerationMode.NEGATIVE:
            continue  # it is asked for nothing that could be wrong

        @FEW
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers(case):
            case.call_and_validate(headers=HERE)

        answers()


def test_what_is_there_is_answered_as_documented(operations, store):
    run_id = runs(store.spec("tiny"))[0].run_id
    there = {"sweep": "tiny", "panel": "sgd", "name": "quickstart", "run_id": run_id}
    for operation in operations:

        @FEW
        @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        def answers(case):
            case.path_parameters = {
                name: there.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
            case.call_and_validate(
                headers=HERE, excluded_checks=[positive_data_acceptance]
            )  # a step has to be one of theirs

        answers()
