"""Programs that are really run, as models; skipped where this machine gives nobody a namespace."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.card import file_digest
from models.export.card_text import toml_text
from models.registry import Registry
from models.results import StudyResult
from node.external.desk import ProgramDesk
from node.settings import ExternalSection
from tests.generators.volumes import write_series
from tests.unit.models_dense.conftest import BRAIN, STRUCTURE, term

PROGRAMS = Path(__file__).with_name("programs")
AFFINE = np.array([[-1.2, 0, 0, 30.0], [0, -1.2, 0, 12.0], [0, 0, 2.0, 40.0], [0, 0, 0, 1.0]])
PYTHON = [Path(sys.base_prefix), Path(sys.prefix), *(Path(each) for each in sys.path if "site-packages" in each)]


def painted() -> np.ndarray:
    """Two bright blocks (z, y, x)."""
    image = np.full((8, 24, 20), 100.0)
    image[2:5, 3:12, 4:11] = 400
    image[5:7, 14:20, 12:18] = 800
    return image


def write_card(folder: Path, program: str, *arguments: str, python: str = sys.executable, **options: Any) -> Path:
    """A model around one of the programs."""
    folder.mkdir(parents=True)
    shutil.copy(PROGRAMS / program, folder / program)
    content = {
        "id": folder.name,
        "version": "0.1",
        "title": "Known structures",
        "name": "Known structures",
        "manufacturer": "Test",
        "family": "external",
        "licence": "Apache-2.0",
        "intended_use": "test",
        "finding": STRUCTURE,
        "site": BRAIN,
        "inputs": [{"role": "image", "kind": "image", "modality": "MR"}],
        "labels": [
            {"value": n, "name": name, "finding": term(name), "category": STRUCTURE, "site": BRAIN}
            for n, name in enumerate(("Grey", "White"), start=1)
        ],
        "files": {"program": {"file": program, "sha256": file_digest(folder / program)}},
        "options": {
            "command": [python, f"{{model}}/{program}", *arguments],
            "layout": "mercure",
            "mask": "seg",
            "deadline_seconds": 60.0,
            **options,
        },
    }
    (folder / "model.toml").write_text(toml_text(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A series of the painted blocks."""
    return write_series(tmp_path_factory.mktemp("series"), painted(), AFFINE, PatientName="Secret^Name")


def run(folder: Path, files: list[Path], **site: Any) -> StudyResult:
    """One run over a series."""
    from dicom_sr.roles import fill_roles
    from dicom_sr.series import load_study

    desk = ProgramDesk()
    desk.prepare(ExternalSection(folders=PYTHON, **site), {"image": files}, None)
    model = Registry([folder.parent], threads=1, programs=desk).get(folder.name)
    sources = fill_roles(load_study(files), model.card.inputs)
    return model.run({"image": sources["image"].volume}, {})
