"""A short soak: nothing grows, and two receivers on one port agree on what is a duplicate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import soak


@pytest.mark.slow
def test_fifteen_hundred_instances(tmp_path: Path) -> None:
    run = soak(tmp_path, instances=1500, minutes=4)
    assert len(run.stored) >= 1500
    assert run.grown() == []
