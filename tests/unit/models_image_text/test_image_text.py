"""A radiograph against phrases: known vectors give the known answer, and an earlier image counts where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.card import file_digest
from models.errors import CardInvalid, InferenceFailed
from models.model import Model
from models.results import Outcome
from models.volume import Volume

CARD = """
id = "known-phrases"
version = "0.1"
title = "Known phrases"
name = "Known phrases"
manufacturer = "Test"
family = "image_text"
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
sha256 = "{graph}"
inputs = ["current", "prior", "has_prior"]
outputs = ["global"]
opset = 18

[files.phrases]
file = "phrases.npz"
sha256 = "{phrases}"

[options]
head = "positive_against_negative"
scale = 10.0

[options.image]
size = 32
crop = "none"
resize = "bilinear_antialias"
low = 0.0
high = 1.0

[[options.classes]]
name = "left"
concept = {{ value = "36118008", scheme = "SCT", meaning = "Pneumothorax" }}
positive = ["bright on the left"]
negative = ["bright on the right"]

[[options.classes]]
name = "change"
concept = {{ value = "60046008", scheme = "SCT", meaning = "Pleural effusion" }}
positive = ["brighter than before"]
negative = ["as before"]
"""
AXES = {
    "left/positive": (1, 0, 0, 0),
    "left/negative": (0, 1, 0, 0),
    "change/positive": (0, 0, 1, 0),
    "change/negative": (0, 0, 0, 1),
}


def write_model(folder: Path, axes: dict[str, tuple[float, ...]] | None = None) -> Path:
    """global = (mean left, mean right, has_prior × (mean now - mean before), 0.1)."""
    folder.mkdir(parents=True)
    halves = np.zeros((2, 1, 32, 32), np.float32)
    halves[0, 0, :, :16] = halves[1, 0, :, 16:] = 1 / 512
    whole = np.full((1, 1, 32, 32), 1 / 1024, np.float32)
    nodes = [
        helper.make_node("Conv", ["current", "halves"], ["sides"]),
        helper.make_node("Flatten", ["sides"], ["side vector"]),
        helper.make_node("Conv", ["current", "whole"], ["now"]),
        helper.make_node("Conv", ["prior", "whole"], ["before"]),
        helper.make_node("Sub", ["now", "before"], ["difference"]),
        helper.make_node("Flatten", ["difference"], ["change"]),
        helper.make_node("Mul", ["change", "has_prior"], ["seen change"]),
        helper.make_node("Concat", ["side vector", "seen change", "rest"], ["global"], axis=1),
    ]
    image = ["one", 1, 32, 32]
    graph = helper.make_graph(
        nodes,
        "main",
        [
            helper.make_tensor_value_info("current", TensorProto.FLOAT, image),
            helper.make_tensor_value_info("prior", TensorProto.FLOAT, image),
            helper.make_tensor_value_info("has_prior", TensorProto.FLOAT, ["one"]),
        ],
        [helper.make_tensor_value_info("global", TensorProto.FLOAT, ["one", 4])],
        [
            numpy_helper.from_array(halves, "halves"),
            numpy_helper.from_array(whole, "whole"),
            numpy_helper.from_array(np.array([[0.1]], np.float32), "rest"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "main.onnx")
    vectors = {name: np.array(axis, np.float32) for name, axis in (axes or AXES).items()}
    np.savez_compressed(folder / "phrases.npz", **vectors)
    card = CARD.format(graph=file_digest(folder / "main.onnx"), phrases=file_digest(folder / "phrases.npz"))
    (folder / "model.toml").write_text(card, encoding="utf-8")
    return folder


def radiograph(left: float, right: float) -> Volume:
    image = np.zeros((1, 40, 40), np.float32)
    image[0, :, :20], image[0, :, 20:] = left * 255, right * 255
    return Volume(image, np.eye(4), facts={"maximum_value": 255})


@pytest.fixture
def known(tmp_path: Path) -> Model:
    return Model(write_model(tmp_path / "known"))


def test_the_nearer_phrase_decides(known: Model) -> None:
    for left, right, present in ((0.9, 0.2, True), (0.2, 0.9, False)):
        finding = known.run({"image": radiograph(left, right)}, {}).findings[0]
        length = float(np.linalg.norm([left, right, 0.0, 0.1]))
        expected = 1 / (1 + np.exp(-10 * (left - right) / length))
        assert finding.present is present
        assert finding.probability == pytest.approx(expected, abs=5e-3)
        assert finding.operating_point == 0.5


def test_an_earlier_image_is_looked_at(known: Model) -> None:
    now, before = radiograph(0.8, 0.8), radiograph(0.2, 0.2)
    alone = known.run({"image": now}, {})
    both = known.run({"image": now, "prior": before}, {})
    assert alone.findings[1].present is False
    assert both.findings[1].present is True
    assert (alone.evidence["earlier_image"], both.evidence["earlier_image"]) == (False, True)
    assert alone.outcome is Outcome.NOTHING_FOUND
    assert both.outcome is Outcome.FOUND


@pytest.mark.parametrize(
    ("axes", "error"),
    [
        ({**AXES, "left/positive": (2, 0, 0, 0)}, CardInvalid),
        ({k: v for k, v in AXES.items() if k != "change/negative"}, CardInvalid),
        ({**AXES, "left/positive": (1, 0, 0)}, InferenceFailed),
    ],
    ids=["length", "missing", "other space"],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path: Path, axes: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        Model(write_model(tmp_path / "wrong", axes)).run({"image": radiograph(0.5, 0.4)}, {})


def test_an_image_is_needed(known: Model) -> None:
    with pytest.raises(InferenceFailed, match="missing"):
        known.run({}, {})
