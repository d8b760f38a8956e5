"""The dependency direction of the design, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("node", "dicom_sr", "models")
FORBIDDEN = {
    "models": {"node", "dicom_sr", "pydicom", "pynetdicom", "highdicom", "sqlalchemy"},
    "dicom_sr": {"node", "pynetdicom", "onnxruntime", "sqlalchemy", "torch"},
    "node": {"onnxruntime", "torch", "transformers"},
}
ONLY_IN = {
    "pynetdicom": ("node/dicom/",),
    "onnxruntime": ("models/session.py", "models/export/"),
    "torch": ("models/export/",),
    "transformers": ("models/export/",),
}


def _modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0], node.lineno


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_design(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    package = relative.split("/")[0]
    for name, line in _imports(path):
        assert name not in FORBIDDEN[package], f"{relative}:{line} imports {name}"
        if name in ONLY_IN:
            assert relative.startswith(ONLY_IN[name]), f"{relative}:{line} imports {name}; only {ONLY_IN[name]} may"


def test_no_module_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert not [path for path in _modules() if path.stem in vague]
