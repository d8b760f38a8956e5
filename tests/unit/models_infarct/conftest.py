"""The embedded baseline, warm."""

from __future__ import annotations

import pytest

from models.model import Model
from models.registry import Registry


@pytest.fixture(scope="session")
def baseline() -> Model:
    """Model ``infarct-adc-baseline``."""
    model = Registry(threads=1).get("infarct-adc-baseline")
    model.warm()
    return model
