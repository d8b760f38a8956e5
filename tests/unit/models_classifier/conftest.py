"""A classifier with a known answer: its outputs are linear in the mean of the left half, of the right half, and of all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.card import file_digest
from models.model import Model

CARD = """
id = "known-findings"
version = "0.1"
title = "Findings on a chest radiograph"
name = "Known findings"
manufacturer = "Test"
family = "feed_forward"
licence = "Apache-2.0"
intended_use = "test"
finding = {{ value = "404684003", scheme = "SCT", meaning = "Clinical finding" }}
site = {{ value = "816094009", scheme = "SCT", meaning = "Chest" }}

[[inputs]]
role = "image"
kind = "projection"
modality = "CR|DX"

[graphs.main]
file = "main.onnx"
sha256 = "{digest}"
inputs = ["image"]
outputs = ["logits"]
opset = 18

[options]
output = "findings"
{options}

[options.image]
size = 32
crop = "centre_square"
resize = "bilinear_antialias"
low = -1.0
high = 1.0

[[options.findings]]
output = 1
concept = {{ value = "36118008", scheme = "SCT", meaning = "Pneumothorax" }}
operating_point = {point}

[[options.findings]]
output = 0
concept = {{ value = "60046008", scheme = "SCT", meaning = "Pleural effusion" }}
operating_point = 0.5
"""


def write_graph(path: Path) -> None:
    """logits = 8 × (mean of the left half, mean of the right half, mean of all) of an image in [-1, 1]."""
    halves = np.zeros((3, 1, 32, 32), np.float32)
    halves[0, 0, :, :16] = halves[1, 0, :, 16:] = 8 / 512
    halves[2] = 8 / 1024
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "halves"], ["means"]),
            helper.make_node("Flatten", ["means"], ["logits"]),
        ],
        "main",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["count", 1, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["count", 3])],
        [numpy_helper.from_array(halves, "halves")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def write_model(folder: Path, *, options: str = "", point: float = 0.9) -> Path:
    """A model folder of the classifier."""
    folder.mkdir(parents=True)
    write_graph(folder / "main.onnx")
    text = CARD.format(digest=file_digest(folder / "main.onnx"), options=options, point=point)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def known(tmp_path: Path) -> Model:
    """The classifier."""
    return Model(write_model(tmp_path / "known"))
