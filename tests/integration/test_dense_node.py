"""Volumes in, labelled structures out, as the engineer tries it: `ainode process` with a segmenting model of the site's own."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from node.cli import main
from tests.generators.volumes import write_series
from tests.unit.models_dense.conftest import brightness_graph, write_model


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "site" / "known-dense"
    folder.mkdir(parents=True)
    brightness_graph(folder / "main.onnx", (250, 600))
    write_model(folder, labels=("Grey", "White"), options={"spacing_mm": [1.5, 1.0, 1.0], "crop_to_nonzero": True})
    path = tmp_path / "node.toml"
    path.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{tmp_path / "site"}"]\n'
        '[profile.default]\nobjects = ["seg", "measurements", "text"]\nlanguages = ["en", "ja"]\n'
        'text_documents = "shown_as_draft"\nmaximum_series = 4\n'
    )
    return path


def painted() -> np.ndarray:
    image = np.full((24, 36, 40), 100.0)
    image[4:14, 5:20, 8:22] = 400
    image[15:21, 18:30, 24:36] = 800
    return image


@pytest.mark.parametrize("directions", ["LPS", "RAS", "sagittal"])
def test_structures_reach_the_segmentation(tmp_path: Path, config: Path, directions: str) -> None:
    affine = {
        "LPS": np.diag([1.2, 1.2, 2.0, 1.0]),
        "RAS": np.diag([-1.2, -1.2, 2.0, 1.0]),
        "sagittal": np.array([[0, 0, 2.0, 0], [1.2, 0, 0, 0], [0, -1.2, 0, 0], [0, 0, 0, 1.0]]),
    }[directions]
    affine[:3, 3] = (-30, 12, 40)
    write_series(tmp_path / "in", painted(), affine)
    out = tmp_path / "out"
    words = ["process", str(tmp_path / "in"), "--out", str(out), "--model", "known-dense", "--profile", "default"]
    assert main(["--config", str(config), *words]) == 0
    assert {path.stem for path in out.glob("*.dcm")} == {"seg", "measurements", "text-en", "text-ja"}
    seg = hd.seg.segread(out / "seg.dcm")
    for item in seg.SegmentSequence:
        read = seg.get_volume(segment_numbers=[item.SegmentNumber], combine_segments=True, relabel=False)
        points = read.map_indices_to_reference(np.argwhere(read.array > 0))
        back = (np.linalg.inv(affine) @ np.c_[points, np.ones(len(points))].T)[:3].round().astype(int)
        mask = np.zeros(painted().shape, bool)
        mask[back[2], back[1], back[0]] = True
        truth = painted() == {"Grey": 400, "White": 800}[item.SegmentLabel]
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.93


def test_two_series_of_the_modality_are_not_chosen_between(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "in", painted(), np.diag([1.0, 1.0, 2.0, 1.0]))
    write_series(tmp_path / "in", painted() + 5, np.diag([1.0, 1.0, 2.0, 1.0]), series=2, SeriesDescription="T1 post")
    words = ["process", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", "known-dense"]
    assert main(["--config", str(config), *words]) == 1
    card = tmp_path / "site" / "known-dense" / "model.toml"
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace('modality = "MR"', 'modality = "MR"\nseries_description = "post"'), encoding="utf-8")
    assert main(["--config", str(config), *words[:3], str(tmp_path / "again"), *words[4:]]) == 0
    assert (tmp_path / "again" / "seg.dcm").exists()
