"""Whatever is asked, the API answers as its OpenAPI document says."""

import json

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.reading import Reader
from hpscan.dashboards.server import make_app
from hpscan.grid import runs

from .conftest import no_pages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def described(store, tiny_raw):
    """The API's schema; that launching is off is one of the answers."""
    app = make_app(Reader(store), Launcher(store), pages=no_pages)
    return schemathesis.openapi.from_asgi("/api/openapi.json", app, headers={"host": "localhost"})
