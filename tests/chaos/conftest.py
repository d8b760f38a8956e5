"""What the chaos tests share: their findings are printed, and published where that was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.chaos.durability_page import PAGE, Findings


@pytest.fixture(scope="session")
def findings() -> Iterator[Findings]:
    """Rows for docs/durability.md; ``AINODE_PUBLISH=1`` writes the page when the run ends."""
    collected = Findings()
    yield collected
    print("\n" + collected.text())
    if os.environ.get("AINODE_PUBLISH"):
        collected.publish()


@pytest.fixture(scope="session")
def delivery_findings() -> Iterator[Findings]:
    """As ``findings``, for docs/delivery.md."""
    collected = Findings()
    yield collected
    print("\n" + collected.text())
    if os.environ.get("AINODE_PUBLISH"):
        collected.publish(PAGE.with_name("delivery.md"))
