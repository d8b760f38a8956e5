"""Networks with a known answer, as models that label every voxel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.card import file_digest
from models.export.card_text import toml_text

BRAIN = {"value": "12738006", "scheme": "SCT", "meaning": "Brain"}
STRUCTURE = {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}
WINDOW = (16, 16, 16)


@pytest.fixture(scope="session")
def references() -> dict[str, npt.NDArray]:
    """What nnU-Net v2 and MONAI make of one image (tests/generators/dense_references.py)."""
    return dict(np.load(Path(__file__).with_name("references.npz")))


def term(name: str) -> dict[str, str]:
    """A code of the tests' own."""
    return {"value": name.upper(), "scheme": "99TEST", "meaning": name}


def brightness_graph(path: Path, steps: Sequence[float], *, channels: int = 1) -> None:
    """Logits (n, 1 + len(steps), …): class k wins from brightness ``steps[k - 1]`` of the first channel on."""
    # Lines of rising slope that cross at the steps.
    weights = np.zeros((len(steps) + 1, channels, 1, 1, 1), np.float32)
    bias = np.zeros(len(steps) + 1, np.float32)
    for k, step in enumerate(steps, start=1):
        weights[k, 0] = k
        bias[k] = bias[k - 1] - step
    _save(path, [helper.make_node("Conv", ["image", "weights", "bias"], ["logits"])], weights=weights, bias=bias)


def half_graph(path: Path, axis: int, step: float, window: Sequence[int] = WINDOW) -> None:
    """Two logits: the second wins where it is brighter than ``step`` and in the upper half of the window along ``axis``."""
    ramp = np.linspace(-1, 1, window[axis], dtype=np.float32).reshape([-1 if n == axis else 1 for n in range(3)])
    upper = np.where(ramp > 0, np.float32(1), np.float32(0))[None, None]
    nodes = [
        helper.make_node("Sub", ["image", "step"], ["bright"]),
        helper.make_node("Max", ["bright", "zero"], ["positive"]),
        helper.make_node("Mul", ["positive", "upper"], ["chosen"]),
        helper.make_node("Mul", ["image", "zero"], ["nothing"]),
        helper.make_node("Concat", ["nothing", "chosen"], ["logits"], axis=1),
    ]
    _save(path, nodes, upper=upper, step=np.float32(step), zero=np.float32(0))


def _save(path: Path, nodes: list[Any], **constants: Any) -> None:
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["count", None, None, None, None])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def write_model(
    folder: Path,
    *,
    labels: Sequence[str],
    roles: Sequence[str] = ("image",),
    members: Sequence[str] = ("main",),
    options: dict[str, Any] | None = None,
) -> Path:
    """Card around the graphs ``MEMBER.onnx`` already in ``folder``."""
    content = {
        "id": "known-dense",
        "version": "0.1",
        "title": "Known structures",
        "name": "Known structures",
        "manufacturer": "Test",
        "family": "feed_forward",
        "licence": "Apache-2.0",
        "intended_use": "test",
        "finding": STRUCTURE,
        "site": BRAIN,
        "inputs": [{"role": role, "kind": "image", "modality": "MR"} for role in roles],
        "labels": [
            {"value": n, "name": name, "finding": term(name), "category": STRUCTURE, "site": BRAIN}
            for n, name in enumerate(labels, start=1)
        ],
        "graphs": {
            name: {
                "file": f"{name}.onnx",
                "sha256": file_digest(folder / f"{name}.onnx"),
                "inputs": ["image"],
                "outputs": ["logits"],
                "opset": 18,
            }
            for name in members
        },
        "options": {
            "output": "dense",
            "orientation": "RAS",
            "channels": [{"role": role, "normalise": "none"} for role in roles],
            "window": {"size": list(WINDOW)},
            "members": list(members),
            **(options or {}),
        },
    }
    (folder / "model.toml").write_text(toml_text(content), encoding="utf-8")
    return folder
