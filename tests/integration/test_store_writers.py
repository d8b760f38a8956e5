"""Writing processes side by side: no acknowledged write is lost, the ledger's chain holds, also when they are killed."""

from __future__ import annotations

import pytest

from node.settings import Settings
from tests import store_writers

pytest_plugins = ["tests.store_fixtures"]


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_five_writers(store_settings: Settings, kill: bool) -> None:
    finding = store_writers.run(store_settings, seconds=4.0, kill=kill)
    assert finding.problems == []
    assert finding.sealed > 0
