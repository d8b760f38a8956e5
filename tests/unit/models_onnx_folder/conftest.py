"""The published folders, made once; each test gets copies of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("transformers", reason="conversion needs transformers")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from tests.unit.models_onnx_folder import folders  # noqa: E402

Published = Callable[[str], Path]


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders made so far, by name."""
    return {"": tmp_path_factory.mktemp("published")}


@pytest.fixture
def published(masters: dict[str, Path], tmp_path: Path) -> Published:
    """A copy of the folder of a kind: ``classifier``, ``backbone``, ``segmenter``, ``clip`` or ``siglip``."""

    def copied(kind: str) -> Path:
        if kind not in masters:
            made = masters[""] / kind
            made.mkdir()
            masters[kind] = getattr(folders, kind)(made)
        return shutil.copytree(masters[kind], tmp_path / kind)

    return copied


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the model goes."""
    made = tmp_path / "out"
    made.mkdir()
    return made
