"""A network with a known answer that gives each structure of a radiograph a mask of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.card import file_digest
from models.export.card_text import toml_text

SIZE = 64
STRUCTURE = {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}
CHEST = {"value": "816094009", "scheme": "SCT", "meaning": "Chest"}


def write_model(folder: Path, limits: Sequence[float], *, size: int = SIZE, option: dict | None = None) -> Path:
    """Mask n holds what is brighter than ``limits[n]``, as a share of the image's own range; darker, where that is negative."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.array([10 if each > 0 else -10 for each in limits], np.float32).reshape(-1, 1, 1, 1)
    bias = np.array([-10 * each for each in limits], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights", "bias"], ["logits"])],
        "main",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(limits), size, size])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    path = folder / "main.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    sides = ("left", "right", "bilateral", "unknown")
    content = {
        "id": "known-masks",
        "version": "0.1",
        "title": "Known structures of a radiograph",
        "name": "Known structures",
        "manufacturer": "Test",
        "family": "feed_forward",
        "licence": "Apache-2.0",
        "intended_use": "test",
        "finding": STRUCTURE,
        "site": CHEST,
        "inputs": [{"role": "image", "kind": "projection", "modality": "CR|DX"}],
        "labels": [
            {
                "value": n,
                "name": f"Structure {n}",
                "finding": {"value": f"S{n}", "scheme": "99TEST", "meaning": f"Structure {n}"},
                "category": STRUCTURE,
                "site": CHEST,
                "side": sides[n % 4],
            }
            for n in range(1, len(limits) + 1)
        ],
        "graphs": {
            "main": {
                "file": "main.onnx",
                "sha256": file_digest(path),
                "inputs": ["image"],
                "outputs": ["logits"],
                "opset": 18,
            }
        },
        "options": {
            "output": "masks",
            "image": {"size": size, "crop": "none", "resize": "nearest", "levels": "own_extremes"},
            **(option or {}),
        },
    }
    (folder / "model.toml").write_text(toml_text(content), encoding="utf-8")
    return folder


def steps(rows: int = 150, columns: int = 101) -> npt.NDArray[np.uint16]:
    """A dark radiograph with a box on a box, and a bright one apart that touches neither."""
    image = np.full((rows, columns), 100, np.uint16)
    image[rows // 10 : rows // 2, columns // 8 : columns // 2] = 1500
    image[rows // 5 : rows // 3, columns // 5 : columns // 3] = 2500
    image[rows - rows // 4 :, columns - columns // 4 :] = 4000
    return image
