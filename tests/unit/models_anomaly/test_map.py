"""A map with a known answer lies on the image's voxels, is scored by its highest value, and reaches a Parametric Map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydicom import dcmread

from models.card import file_digest
from models.errors import CardInvalid, InferenceFailed
from models.export.card_text import toml_text
from models.model import Model
from models.results import Outcome
from models.volume import Volume
from node.cli import main
from tests.generators.volumes import write_series

SIZE = 16


def write_model(folder: Path, **changed: Any) -> Path:
    """The map is the brightness of the image, which is 0 to 1 of the volume's grey levels."""
    folder.mkdir(parents=True)
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["image"], ["map"], axes=[1], keepdims=0)],
        "main",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["count", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["count", SIZE, SIZE])],
    )
    path = folder / "main.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), path)
    concept = {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Abnormal Structure"}
    content = {
        "id": "known-map",
        "version": "0.1",
        "title": "Bright places",
        "name": "Bright places",
        "manufacturer": "Test",
        "family": "feed_forward",
        "licence": "Apache-2.0",
        "intended_use": "test",
        "finding": concept,
        "site": {"value": "12738006", "scheme": "SCT", "meaning": "Brain"},
        "inputs": [{"role": "image", "kind": "image", "modality": "MR"}],
        "graphs": {
            "main": {
                "file": "main.onnx",
                "sha256": file_digest(path),
                "inputs": ["image"],
                "outputs": ["map"],
                "opset": 13,
            }
        },
        "options": {
            "output": "map",
            "operating_point": 0.9,
            "concept": concept,
            "intensity": {"kind": "window", "centre": 500.0, "width": 1000.0},
            "image": {"size": SIZE, "crop": "none", "resize": "bilinear_antialias", "low": 0.0, "high": 1.0},
            **changed,
        },
    }
    (folder / "model.toml").write_text(toml_text(content), encoding="utf-8")
    return folder


def spotted() -> np.ndarray:
    """Grey 400, one bright spot on one slice, an empty slice."""
    image = np.full((5, 48, 32), 400.0)
    image[0] = 0
    image[3, 8:20, 4:14] = 1000
    return image


def test_the_map_is_where_the_brightness_is(tmp_path: Path) -> None:
    model = Model(write_model(tmp_path / "m"))
    result = model.run({"image": Volume(spotted().astype(np.float32), np.diag([1.0, 1, 3, 1]))}, {})
    assert (result.outcome, result.evidence["slice"], result.evidence["slices_seen"]) == (Outcome.FOUND, 4, 4)
    assert result.findings[0].probability == pytest.approx(1.0, abs=0.01)
    heat = result.heat_maps[0].values_zyx
    assert heat.shape == spotted().shape
    assert heat[3, 11:17, 7:11].min() > 0.95
    assert heat[1].max() == pytest.approx(0.4, abs=0.01)
    assert not heat[0].any()
    # Grey levels are stretched to the brightest place of the volume: here it is so small that the network hardly sees it.
    dull = np.full((2, 64, 64), 100.0, np.float32)
    dull[0, :, :30], dull[1, 5, 5] = 0, 1000
    assert model.run({"image": Volume(dull, np.eye(4))}, {}).outcome is Outcome.NOTHING_FOUND
    with pytest.raises(InferenceFailed, match="hardly anything"):
        model.run({"image": Volume(np.zeros((2, 20, 20), np.float32), np.eye(4))}, {})


def test_the_map_reaches_the_patient(tmp_path: Path) -> None:
    write_model(tmp_path / "site" / "known-map")
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{tmp_path / "site"}"]\n'
        '[profile.default]\nobjects = ["parametric_map", "measurements"]\n'
    )
    affine = np.diag([-1.5, -1.5, 4.0, 1.0])
    affine[:3, 3] = (20, 30, -40)
    write_series(tmp_path / "in", spotted(), affine)
    out = tmp_path / "out"
    words = ["process", str(tmp_path / "in"), "--out", str(out), "--model", "known-map", "--profile", "default"]
    assert main(["--config", str(config), *words]) == 0
    made = dcmread(next(out.glob("parametric_map*.dcm")))
    values = np.frombuffer(made.FloatPixelData, np.float32).reshape(-1, made.Rows, made.Columns)
    frame, row, column = np.unravel_index(values.argmax(), values.shape)
    per_frame = made.PerFrameFunctionalGroupsSequence[int(frame)]
    shared = made.SharedFunctionalGroupsSequence[0]
    corner = np.array(per_frame.PlanePositionSequence[0].ImagePositionPatient, float)
    directions = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    place = corner + directions[0] * spacing[1] * column + directions[1] * spacing[0] * row
    x, y, z = (np.linalg.inv(affine) @ [*place, 1])[:3].round().astype(int)
    assert spotted()[z, y, x] == 1000


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"intensity": None}, "intensity"),
        ({"operating_point": 1.5}, "operating_point"),
        ({"image": {"size": 16, "crop": "centre_square", "resize": "bilinear", "low": 0.0, "high": 1.0}}, "crop"),
    ],
)
def test_cards_that_make_no_sense_are_refused(tmp_path: Path, changed: dict, words: str) -> None:
    with pytest.raises(CardInvalid, match=words):
        Model(write_model(tmp_path / "m", **changed)).run(
            {"image": Volume(np.ones((1, 8, 8), np.float32), np.eye(4))}, {}
        )
