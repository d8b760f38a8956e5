"""`ainode models train-head` as a site uses it: a table of DICOM and PNG images becomes a model that reports findings."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from node.cli import main
from tests.generators.radiographs import write_radiograph
from tests.unit.models_head.conftest import write_backbone

pytest.importorskip("sklearn", reason="training needs scikit-learn")
pytest.importorskip("onnx", reason="training needs onnx")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_backbone(tmp_path / "site" / "halves")
    path = tmp_path / "node.toml"
    path.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{tmp_path / "site"}"]\n'
        '[profile.default]\nobjects = ["measurements", "text"]\nlanguages = ["en"]\n'
    )
    return path


def picture(rng: np.random.Generator, positive: int) -> np.ndarray:
    """Stored 12-bit values, the left half brighter in positive ones."""
    values = rng.normal(1500, 300, (40, 40))
    values[:, :20] += 800 * positive
    return np.clip(values, 0, 4095).astype(np.uint16)


def write_table(folder: Path, *, spoiled: str = "") -> Path:
    rng = np.random.default_rng(2)
    rows = []
    for n in range(40):
        positive, values = n % 2, picture(rng, n % 2)
        if n % 4 < 2:
            name = f"{n}.dcm"
            write_radiograph(folder / name, values, study=f"s{n}", PatientID=f"P{n}")
        else:
            name = f"{n}.png"
            Image.fromarray((values // 16).astype(np.uint8)).save(folder / name)
        rows.append({"file": name, "patient": f"P{n}", "Pneumothorax (SCT 36118008)": spoiled or positive})
    table = folder / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def trained(config: Path, table: Path, out: Path) -> int:
    words = ["models", "train-head", "halves", str(table), "--out", str(out), "--id", "site-head", "--title", "Air"]
    return main(["--config", str(config), *words])


def test_a_table_becomes_a_model_that_reports(tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    table = write_table(tmp_path / "images")
    assert trained(config, table, tmp_path / "site" / "head") == 0
    said = capsys.readouterr().out
    assert "Pneumothorax (SCT 36118008): area under the ROC curve 1.000" in said
    assert "P1" not in said
    assert main(["--config", str(config), "models", "verify", "site-head"]) == 0
    image = write_radiograph(tmp_path / "new" / "a.dcm", picture(np.random.default_rng(9), 1), study="new")
    out = tmp_path / "out"
    words = ["process", str(image), "--out", str(out), "--model", "site-head", "--profile", "default"]
    assert main(["--config", str(config), *words]) == 0
    report = dcmread(next(out.glob("measurements*.dcm")))
    assert "36118008" in report.to_json()
    # A new folder each time: an installed model is never replaced.
    assert trained(config, table, tmp_path / "site" / "head") == 2


def test_a_table_that_cannot_be_used_is_refused(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    table = write_table(tmp_path / "images", spoiled="yes")
    assert trained(config, table, tmp_path / "head") == 2
    assert "line 2" in capsys.readouterr().err
    table = write_table(tmp_path / "images", spoiled="1")
    assert trained(config, table, tmp_path / "head") == 1
    assert "MOD-030" in capsys.readouterr().err
    (tmp_path / "images" / "0.dcm").unlink()
    assert trained(config, table, tmp_path / "head") == 2
    assert not (tmp_path / "head").exists()
