"""Promptable models with a known answer: whatever is brighter than half inside the box, and nothing outside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.card import file_digest
from models.export.imported import CARDS_FOLDER
from models.model import Model

SIZE = 64


def write_encoder(path: Path) -> None:
    """image_embeddings = mean over channels, at a quarter of the resolution as the mask grid has it."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "channel"], ["grey"], keepdims=1),
        helper.make_node("AveragePool", ["grey"], ["image_embeddings"], kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("image_embeddings", TensorProto.FLOAT, [1, 1, SIZE, SIZE])],
        [numpy_helper.from_array(np.array([1], np.int64), "channel")],
    )
    _save(graph, path)


def write_decoder(path: Path) -> None:
    """masks = 40 (grey - 0.5) inside the box, -20 outside; pixel centres are whole numbers."""
    places = np.arange(SIZE, dtype=np.float32)
    constants = {
        "x": places.reshape(1, 1, 1, SIZE),
        "y": places.reshape(1, 1, SIZE, 1),
        "half": np.float32(0.5),
        "gain": np.float32(40),
        "outside": np.float32(-20),
        "axis": np.array([2], np.int64),
        **{name: np.array([n], np.int64) for n, name in enumerate(("x0", "y0", "x1", "y1"))},
    }
    nodes = []
    for name in ("x0", "y0", "x1", "y1"):
        nodes += [
            helper.make_node("Gather", ["boxes", name], [f"{name} flat"], axis=2),
            helper.make_node("Unsqueeze", [f"{name} flat", "axis"], [f"{name} column"]),
        ]
    nodes += [
        helper.make_node("GreaterOrEqual", ["x", "x0 column"], ["right of"]),
        helper.make_node("LessOrEqual", ["x", "x1 column"], ["left of"]),
        helper.make_node("GreaterOrEqual", ["y", "y0 column"], ["below"]),
        helper.make_node("LessOrEqual", ["y", "y1 column"], ["above"]),
        helper.make_node("And", ["right of", "left of"], ["across"]),
        helper.make_node("And", ["below", "above"], ["along"]),
        helper.make_node("And", ["across", "along"], ["inside"]),
        helper.make_node("Sub", ["image_embeddings", "half"], ["brighter"]),
        helper.make_node("Mul", ["brighter", "gain"], ["sure"]),
        helper.make_node("Where", ["inside", "sure", "outside"], ["masks"]),
        helper.make_node("ReduceMax", ["masks", "scores axes"], ["iou"], keepdims=0),
    ]
    constants["scores axes"] = np.array([2, 3], np.int64)
    graph = helper.make_graph(
        nodes,
        "decoder",
        [
            helper.make_tensor_value_info("image_embeddings", TensorProto.FLOAT, [1, 1, SIZE, SIZE]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["count", 1, 4]),
        ],
        [
            helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["count", 1, SIZE, SIZE]),
            helper.make_tensor_value_info("iou", TensorProto.FLOAT, ["count", 1]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    _save(graph, path)


def _save(graph: onnx.GraphProto, path: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_model(folder: Path, *, changes: dict[str, str] | None = None) -> Path:
    """A model folder with MedSAM's own card, but for its size, and the graphs above."""
    folder.mkdir(parents=True)
    write_encoder(folder / "encoder.onnx")
    write_decoder(folder / "decoder.onnx")
    text = (CARDS_FOLDER / "medsam.toml").read_text(encoding="utf-8")
    for old, new in {"size = 1024": f"size = {SIZE}", **(changes or {})}.items():
        assert old in text
        text = text.replace(old, new)
    for name, inputs, outputs in (
        ("encoder", '["pixels"]', '["image_embeddings"]'),
        ("decoder", '["image_embeddings", "boxes"]', '["masks", "iou"]'),
    ):
        text += (
            f'\n[graphs.{name}]\nfile = "{name}.onnx"\nsha256 = "{file_digest(folder / f"{name}.onnx")}"\n'
            f"inputs = {inputs}\noutputs = {outputs}\nopset = 18\n"
        )
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def known(tmp_path: Path) -> Model:
    """The known-answer model."""
    return Model(write_model(tmp_path / "known"))
