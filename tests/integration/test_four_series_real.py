"""Four series of a real glioma study fill four roles, are brought into agreement, and give one segmentation on the first."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from models.export.card_text import toml_text
from node.cli import main
from tests.unit.models_dense.conftest import brightness_graph, write_model

pytestmark = pytest.mark.slow
ROLES = {"t1c": "t1.*post", "t1": "t1.*pre", "t2": "^(?!.*flair).*t2", "flair": "flair"}


def test_four_roles_of_one_study(tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / "site" / "known-dense"
    folder.mkdir(parents=True)
    brightness_graph(folder / "main.onnx", (2.5,), channels=4)
    channels = [{"role": role, "normalise": "zscore_nonzero"} for role in ROLES]
    options = {"co_register": "rigid", "channels": channels, "window": {"size": [8, 96, 96]}}
    write_model(folder, labels=("Bright",), roles=tuple(ROLES), options=options)
    text = (folder / "model.toml").read_text(encoding="utf-8")
    for role, pattern in ROLES.items():
        described = toml_text({"role": role, "series_description": pattern})
        text = text.replace(f'role = "{role}"\nkind', f"{described}kind")
    (folder / "model.toml").write_text(text, encoding="utf-8")
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{folder.parent}"]\n')
    study = tmp_path / "study"
    shutil.copytree(shared_data / "mr_brain_glioma_PGBM006", study)
    words = ["process", str(study), "--out", str(tmp_path / "out"), "--model", "known-dense"]
    assert main(["--config", str(config), *words]) == 0
    seg = dcmread(tmp_path / "out" / "seg.dcm")
    first = sorted((study / "t1_post").glob("*"))
    assert seg.FrameOfReferenceUID == dcmread(first[0], stop_before_pixels=True).FrameOfReferenceUID
    sources = {item.SeriesInstanceUID for item in seg.ReferencedSeriesSequence}
    assert sources == {dcmread(first[0], stop_before_pixels=True).SeriesInstanceUID}
    # The first channel alone decides, so what is marked is what is bright on the post-contrast series.
    images = [dcmread(path) for path in first]
    volume = np.stack([each.pixel_array.astype(np.float32) for each in images])
    used = volume[volume != 0]
    expected = int(((volume - used.mean()) / used.std() > 2.5)[volume != 0].sum())
    spacing = images[0].PixelSpacing
    positions = sorted(float(each.ImagePositionPatient[2]) for each in images)
    voxel_ml = float(spacing[0]) * float(spacing[1]) * abs(positions[1] - positions[0]) / 1000
    report = dcmread(tmp_path / "out" / "measurements.dcm").to_json()
    assert expected > 100
    marked = _volume(tmp_path / "out" / "measurements.dcm")
    assert "Bright" in report
    assert marked == pytest.approx(expected * voxel_ml, rel=0.03)


def _volume(path: Path) -> float:
    """The first measured volume, mL."""
    stack = list(dcmread(path).ContentSequence)
    while stack:
        item = stack.pop(0)
        if "MeasuredValueSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == "118565006":
            return float(item.MeasuredValueSequence[0].NumericValue)
        stack += list(item.get("ContentSequence", []))
    raise AssertionError("no volume")
