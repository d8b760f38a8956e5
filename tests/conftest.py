"""Fixtures every test may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import network
from tests.warm_start import WarmStart

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("AINODE_SHARED", ROOT.parent / "shared"))
"""Real data and a second judge, beside a checkout of developers; absent elsewhere."""


def pytest_configure() -> None:
    """Nothing of what collecting tests makes is to be thrown away."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Thousands of tests and every module stay until the end: the cycle collector need not look through them each time."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real DICOM data beside the checkout; tests that need it skip where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the shared test data is not here")
    return folder


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmStart]:
    """Forks receivers and senders, which tests that kill at every step start by the dozen."""
    starter = WarmStart(["node.dicom.storage_scp", "node.listening", "node.settings", "node.delivery.sender"])
    yield starter
    starter.close()


@pytest.fixture(params=["auto", "stock"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the receiving lane and without it."""
    monkeypatch.setattr(network, "LANE", request.param)
    return str(request.param)


@pytest.fixture
def older_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are written by the older exporter, in a tenth of the time: for tests of what the graphs say, not of their making."""
    from models.export import graph_export

    monkeypatch.setattr(graph_export, "_by_dynamo", graph_export._by_legacy)
