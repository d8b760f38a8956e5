"""Boxes with a known answer come back to the radiograph's own pixels, padding undone; scores decide where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydicom import dcmread

from models.card import file_digest
from models.errors import CardInvalid, InferenceFailed
from models.export.card_text import toml_text
from models.model import Model
from models.results import Outcome
from models.volume import Volume
from node.cli import main
from tests.generators.radiographs import write_radiograph

SIZE = 64


def write_model(folder: Path, *, scored: bool, pad: str = "centre", targets: list[dict] | None = None) -> Path:
    """One box around what is bright: a ramp's minimum and maximum over the bright pixels; a score by the brightest one."""
    folder.mkdir(parents=True)
    edges = np.arange(SIZE, dtype=np.float32)
    nodes = [
        helper.make_node("Greater", ["image", "half"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["bright"], to=TensorProto.FLOAT),
        # The mask of padding is used, so that it must be right: what is padding is never bright.
        helper.make_node("Sub", ["one", "padding"], ["inside"]),
        helper.make_node("Mul", ["bright", "inside"], ["seen"]),
    ]
    for axis, ramp in (("x", "columns"), ("y", "rows")):
        nodes += [
            helper.make_node("Mul", ["seen", ramp], [f"{axis}_at"]),
            helper.make_node("ReduceMax", [f"{axis}_at", "plane"], [f"{axis}_last"], keepdims=0),
            helper.make_node("Sub", ["far", ramp], [f"{axis}_back"]),
            helper.make_node("Mul", ["seen", f"{axis}_back"], [f"{axis}_from_end"]),
            helper.make_node("ReduceMax", [f"{axis}_from_end", "plane"], [f"{axis}_most"], keepdims=0),
            helper.make_node("Sub", ["far", f"{axis}_most"], [f"{axis}_first"]),
            helper.make_node("Add", [f"{axis}_first", f"{axis}_last"], [f"{axis}_sum"]),
            helper.make_node("Sub", [f"{axis}_last", f"{axis}_first"], [f"{axis}_span"]),
            helper.make_node("Mul", [f"{axis}_sum", "to_share_half"], [f"{axis}_centre"]),
            helper.make_node("Add", [f"{axis}_span", "one"], [f"{axis}_wide"]),
            helper.make_node("Mul", [f"{axis}_wide", "to_share"], [f"{axis}_width"]),
            helper.make_node("Add", [f"{axis}_centre", "half_pixel"], [f"{axis}_middle"]),
        ]
    parts = ["x_middle", "y_middle", "x_width", "y_width"]
    nodes += [
        helper.make_node("Concat", parts, ["flat"], axis=1),
        helper.make_node("Unsqueeze", ["flat", "first_axis"], ["boxes"]),
        helper.make_node("ReduceMax", ["image", "plane"], ["peak"], keepdims=0),
        helper.make_node("Sub", ["peak", "half"], ["above"]),
        helper.make_node("Mul", ["above", "ten"], ["scores"]),
    ]
    # Places count from one, so that the first pixel is told from "not bright".
    constants: dict[str, Any] = {
        "half": np.float32(0.5),
        "one": np.float32(1),
        "ten": np.float32(10),
        "far": np.float32(SIZE + 1),
        "columns": (edges + 1)[None, None, None, :],
        "rows": (edges + 1)[None, None, :, None],
        "to_share": np.float32(1 / SIZE),
        "to_share_half": np.float32(0.5 / SIZE),
        "half_pixel": np.float32(-0.5 / SIZE),
        "plane": np.array([2, 3], np.int64),
        "first_axis": np.array([1], np.int64),
    }
    outputs = [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 1, 4])]
    if scored:
        outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1]))
    graph = helper.make_graph(
        nodes,
        "main",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, SIZE, SIZE]),
            helper.make_tensor_value_info("padding", TensorProto.FLOAT, [1, SIZE, SIZE]),
        ],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    path = folder / "main.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    concept = {"value": "36118008", "scheme": "SCT", "meaning": "Pneumothorax"}
    content = {
        "id": "known-boxes",
        "version": "0.1",
        "title": "Bright box",
        "name": "Bright box",
        "manufacturer": "Test",
        "family": "feed_forward",
        "licence": "Apache-2.0",
        "intended_use": "test",
        "finding": {"value": "404684003", "scheme": "SCT", "meaning": "Clinical finding"},
        "site": {"value": "816094009", "scheme": "SCT", "meaning": "Chest"},
        "inputs": [{"role": "image", "kind": "projection", "modality": "CR|DX"}],
        "graphs": {
            "main": {
                "file": "main.onnx",
                "sha256": file_digest(path),
                "inputs": ["image", "padding"],
                "outputs": ["boxes", "scores"] if scored else ["boxes"],
                "opset": 18,
            }
        },
        "options": {
            "output": "boxes",
            "image": {"size": SIZE, "resize": "area", "pad": pad},
            "targets": targets or [{"output": 0, "concept": concept, **({"operating_point": 0.7} if scored else {})}],
        },
    }
    (folder / "model.toml").write_text(toml_text(content), encoding="utf-8")
    return folder


def radiograph(value: float = 4000, shape: tuple[int, int] = (256, 128)) -> Volume:
    """Dark, with a bright box of rows 40 … 79 and columns 64 … 95."""
    image = np.full((1, *shape), 400, np.float32)
    image[0, 40:80, 64:96] = value
    return Volume(image, np.eye(4), facts={"maximum_value": 4095})


@pytest.mark.parametrize("pad", ["centre", "end"])
@pytest.mark.parametrize("shape", [(256, 128), (128, 256), (128, 128)])
def test_the_box_lies_around_what_is_bright(tmp_path: Path, pad: str, shape: tuple[int, int]) -> None:
    model = Model(write_model(tmp_path / "m", scored=True, pad=pad))
    result = model.run({"image": radiograph(shape=shape)}, {})
    (mark,) = result.marks
    (top, left), (bottom, right) = mark.points_yx
    # Edges of the network's pixels, four or two of the radiograph's each.
    assert (top, left, bottom, right) == pytest.approx((39.5, 63.5, 79.5, 95.5), abs=0.01)
    assert mark.finding is not None
    assert mark.finding.probability > 0.98
    assert result.outcome is Outcome.FOUND


def test_a_box_below_its_operating_point_is_left_out(tmp_path: Path) -> None:
    result = Model(write_model(tmp_path / "m", scored=True)).run({"image": radiograph(2300)}, {})
    assert (result.outcome, result.marks, result.findings) == (Outcome.NOTHING_FOUND, (), ())


def test_without_scores_a_box_says_where_and_not_whether(tmp_path: Path) -> None:
    result = Model(write_model(tmp_path / "m", scored=False)).run({"image": radiograph()}, {})
    assert result.marks[0].finding is None
    assert result.findings == ()


def test_the_box_reaches_a_report(tmp_path: Path) -> None:
    write_model(tmp_path / "site" / "known-boxes", scored=True)
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{tmp_path / "site"}"]\n'
        '[profile.default]\nobjects = ["presentation", "measurements"]\n'
    )
    values = radiograph().array_zyx[0].astype(np.uint16)
    write_radiograph(tmp_path / "in" / "a.dcm", values)
    out = tmp_path / "out"
    words = ["process", str(tmp_path / "in"), "--out", str(out), "--model", "known-boxes", "--profile", "default"]
    assert main(["--config", str(config), *words]) == 0
    made = dcmread(next(out.glob("presentation*.dcm")))
    points = np.array(made.GraphicAnnotationSequence[0].GraphicObjectSequence[0].GraphicData).reshape(-1, 2)
    # Column, row; they count from one (PS3.3 C.10.5.1.2).
    assert points.min(0) == pytest.approx([64.5, 40.5], abs=1.1)
    assert points.max(0) == pytest.approx([96.5, 80.5], abs=1.1)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    concept = {"value": "36118008", "scheme": "SCT", "meaning": "Pneumothorax"}
    for name, targets, scored, words in (
        ("a", [{"output": 0, "concept": concept}], True, "operating points"),
        ("b", [{"output": 0, "concept": concept, "operating_point": 0.5}], False, "operating points"),
    ):
        with pytest.raises(CardInvalid, match=words):
            Model(write_model(tmp_path / name, scored=scored, targets=targets)).run({"image": radiograph()}, {})
    more = [{"output": 1, "concept": concept}]
    with pytest.raises(InferenceFailed, match="reads 2"):
        Model(write_model(tmp_path / "c", scored=False, targets=more)).run({"image": radiograph()}, {})
    two = Volume(np.zeros((2, 8, 8), np.float32), np.eye(4), facts={"maximum_value": 1})
    with pytest.raises(InferenceFailed, match="one image"):
        Model(write_model(tmp_path / "d", scored=False)).run({"image": two}, {})
