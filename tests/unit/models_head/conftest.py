"""A backbone with a known embedding: mean of the left half, mean of the right half, mean of all, of an image in [-1, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.card import file_digest
from models.export.card_text import toml_text
from models.model import Model

SIZE = 32


def write_backbone(folder: Path) -> Path:
    """Folder of the backbone ``halves``."""
    folder.mkdir(parents=True)
    halves = np.zeros((3, 1, SIZE, SIZE), np.float32)
    halves[0, 0, :, : SIZE // 2] = halves[1, 0, :, SIZE // 2 :] = 2 / SIZE**2
    halves[2] = 1 / SIZE**2
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "halves"], ["means"]),
            helper.make_node("Flatten", ["means"], ["embedding"]),
        ],
        "main",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["count", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["count", 3])],
        [numpy_helper.from_array(halves, "halves")],
    )
    path = folder / "main.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    image = {"size": SIZE, "crop": "none", "resize": "bilinear_antialias", "low": -1.0, "high": 1.0}
    content = {
        "id": "halves",
        "version": "0.1",
        "title": "Embedding",
        "name": "Halves",
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
                "inputs": ["image"],
                "outputs": ["embedding"],
                "opset": 18,
            }
        },
        "options": {
            "output": "embedding",
            "preprocessing": "plain",
            "images": {"plain": image, "upside": {**image, "low": 1.0, "high": -1.0}},
        },
    }
    (folder / "model.toml").write_text(toml_text(content), encoding="utf-8")
    return folder


@pytest.fixture
def backbone(tmp_path: Path) -> Model:
    """The backbone."""
    return Model(write_backbone(tmp_path / "halves"))
