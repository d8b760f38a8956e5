from __future__ import annotations

import pytest

from tests.unit.dicom_sr_objects.cases import Case, phantom_case


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A classic axial study."""
    return phantom_case(tmp_path_factory.mktemp("axial"))


@pytest.fixture(scope="session")
def enhanced(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """An Enhanced, oblique, shuffled study."""
    return phantom_case(tmp_path_factory.mktemp("enhanced"), plane="oblique", enhanced=True, shuffled=True)
