"""A machine without data."""

import pytest

from hpscan.workloads import FashionMNIST


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty data folder on a machine that has no data and no network."""
    monkeypatch.setenv("HPSCAN_DATA", str(tmp_path))
    monkeypatch.setattr(FashionMNIST, "debian", tmp_path / "nowhere")

    def refused(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refused)
    return tmp_path
