"""Findings of the scenarios: printed, and published in docs/arrival.md where that was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.durability_page import Findings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "arrival.md"


@pytest.fixture(scope="session")
def findings() -> Iterator[Findings]:
    """Rows for docs/arrival.md; ``AINODE_PUBLISH=1`` writes the page when the run ends."""
    collected = Findings()
    yield collected
    print("\n" + collected.text())
    if os.environ.get("AINODE_PUBLISH") and collected.tables:
        collected.publish(PAGE, "make scenarios")
