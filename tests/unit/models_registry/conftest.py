"""A second feed_forward model, nothing but a card and a graph: bright voxels of one image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.card import file_digest

CARD = """
id = "bright-spots"
version = "0.1"
title = "Bright spots"
name = "Bright spots"
manufacturer = "Test"
family = "feed_forward"
licence = "Apache-2.0"
intended_use = "test"
finding = {{ value = "404684003", scheme = "SCT", meaning = "Clinical finding" }}
site = {{ value = "12738006", scheme = "SCT", meaning = "Brain" }}
adjustable = ["limit_ml"]

[[inputs]]
role = "image"
kind = "image"
modality = "MR"

[graphs.main]
file = "main.onnx"
sha256 = "{digest}"
inputs = ["normal"]
outputs = ["score"]
opset = 18

[thresholds]
limit_ml = 0.0

[[preprocessing]]
step = "standardise"
parameters = {{ array = "image", output = "normal", nonzero = false }}

[[postprocessing]]
step = "connected_regions"
parameters = {{ array = "score", above = 0.0 }}

[[postprocessing]]
step = "drop_small"
parameters = {{ threshold = "limit_ml", minimum_voxels = 1 }}

[[postprocessing]]
step = "label_regions"
parameters = {{ maximum = {maximum} }}

[[labels]]
value = 1
name = "Spot"
finding = {{ value = "404684003", scheme = "SCT", meaning = "Clinical finding" }}
category = {{ value = "49755003", scheme = "SCT", meaning = "Morphologically Abnormal Structure" }}
site = {{ value = "12738006", scheme = "SCT", meaning = "Brain" }}
"""


def write_graph(path: Path, *, operator: str = "Sub", constant: float = 2.0) -> None:
    """A graph score = normal <operator> constant."""
    shape = ["z", "y", "x"]
    graph = helper.make_graph(
        [helper.make_node(operator, ["normal", "constant"], ["score"])],
        "main",
        [helper.make_tensor_value_info("normal", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.float32(constant), "constant")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def write_spots(catalogue: Path) -> Path:
    """Make a catalogue folder that holds the model ``bright-spots``."""
    folder = catalogue / "spots"
    folder.mkdir(parents=True)
    write_graph(folder / "main.onnx")
    card = CARD.format(digest=file_digest(folder / "main.onnx"), maximum=3)
    (folder / "model.toml").write_text(card, encoding="utf-8")
    return catalogue


@pytest.fixture
def spots(tmp_path: Path) -> Path:
    """Catalogue folder holding the model ``bright-spots``."""
    return write_spots(tmp_path / "site")
