"""What this product takes from inside pynetdicom is there, and its absence is noticed before anything is lost."""

from __future__ import annotations

import pytest
from pynetdicom import _config
from pynetdicom.transport import RequestHandler

from node.dicom.connection import prepare_library
from node.errors import NameConflict


def test_the_installed_version_has_every_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)
    prepare_library()
    assert _config.UNRESTRICTED_STORAGE_SERVICE
    assert _config.LOG_HANDLER_LEVEL == "none"


def test_a_missing_hook_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)
    monkeypatch.delattr(RequestHandler, "_create_association")
    with pytest.raises(NameConflict, match="_create_association"):
        prepare_library()
