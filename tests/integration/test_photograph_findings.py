"""A fundus photograph against phrases, from the file to report and text; and what is no such photograph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydicom import dcmread

from dicom_sr.loaded import Kind
from dicom_sr.phantom_study import write_phantom_study
from dicom_sr.series import load_study
from models.card import file_digest
from models.phantom import make_phantom
from node.cli import main
from tests.generators.photographs import write_photograph
from tests.generators.radiographs import write_radiograph

CARD = """
id = "known-colours"
version = "0.1"
title = "Known colours"
name = "Known colours"
manufacturer = "Test"
family = "image_text"
licence = "Apache-2.0"
intended_use = "test"
limitations = ["not_validated", "scores_are_no_diagnosis"]
finding = {{ value = "404684003", scheme = "SCT", meaning = "Clinical finding" }}
site = {{ value = "81745001", scheme = "SCT", meaning = "Eye" }}

[[inputs]]
role = "image"
kind = "photograph"
modality = "OP"

[graphs.main]
file = "main.onnx"
sha256 = "{graph}"
inputs = ["pixels"]
outputs = ["global", "patches"]
opset = 18

[files.phrases]
file = "phrases.npz"
sha256 = "{phrases}"

[options]
head = "softmax"
scale = 30.0

[options.image]
size = 32
crop = "long_side"
resize = "bilinear_antialias"
channels = 3

[options.heat_map]
sigma = 0.0

[[options.classes]]
name = "red"
concept = {{ value = "RED", scheme = "99TEST", meaning = "Red lesion" }}
positive = ["red"]

[[options.classes]]
name = "green"
concept = {{ value = "GREEN", scheme = "99TEST", meaning = "Green lesion" }}
positive = ["green"]

[[options.classes]]
name = "blue"
concept = {{ value = "BLUE", scheme = "99TEST", meaning = "Healthy colour" }}
positive = ["blue"]
background = true
"""


def write_colours(folder: Path, changes: dict[str, str] | None = None) -> Path:
    """A model whose vector is the image's mean colour, and whose patches are those of each quarter."""
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["patches"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("ReduceMean", ["patches", "axes"], ["global"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 32, 32])],
        [
            helper.make_tensor_value_info("global", TensorProto.FLOAT, [1, 3]),
            helper.make_tensor_value_info("patches", TensorProto.FLOAT, [1, 3, 2, 2]),
        ],
        [numpy_helper.from_array(np.array([2, 3], np.int64), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "main.onnx")
    colours = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
    np.savez_compressed(
        folder / "phrases.npz", **{f"{name}/positive": np.array(axis, np.float32) for name, axis in colours.items()}
    )
    text = CARD.format(graph=file_digest(folder / "main.onnx"), phrases=file_digest(folder / "phrases.npz"))
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return folder


def write_config(folder: Path) -> Path:
    """A node with the models below ``site``."""
    path = folder / "node.toml"
    path.write_text(
        f'[node]\ndata_dir = "{folder / "data"}"\n[models]\nfolders = ["{folder / "site"}"]\n'
        '[profile.default]\nobjects = ["measurements", "text", "parametric_map"]\nlanguages = ["en", "ja"]\n'
        'text_documents = "shown_as_draft"\nmaximum_series = 4\n'
    )
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_colours(tmp_path / "site" / "colours")
    return write_config(tmp_path)


def photograph(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((40, 60, 3), colour, np.uint8)


def processed(config: Path, image: Path, out: Path) -> tuple[int, dict[str, str]]:
    arguments = ["--config", str(config), "process", str(image), "--out", str(out), "--model", "known-colours"]
    code = main([*arguments, "--profile", "default"])
    return code, {path.stem: json.dumps(dcmread(path).to_json_dict()) for path in out.glob("*.dcm")}


@pytest.mark.parametrize(("photometric", "planar"), [("RGB", 0), ("RGB", 1), ("YBR_FULL", 0)])
def test_the_colour_decides(tmp_path: Path, config: Path, photometric: str, planar: int) -> None:
    for name, colour in (("Red lesion", (220, 20, 30)), ("Green lesion", (20, 200, 40))):
        image = write_photograph(tmp_path / name / "a.dcm", photograph(colour), photometric=photometric, planar=planar)
        code, objects = processed(config, image, tmp_path / f"out {name}")
        assert code == 0 and {"text-en", "text-ja"} <= set(objects)
        assert f"AI flags: {name}." in objects["text-en"]
        # A photograph has no place in the patient: no map is claimed to lie there.
        assert not any(key.startswith("parametric_map") for key in objects)


def test_background_is_no_finding(tmp_path: Path, config: Path) -> None:
    image = write_photograph(tmp_path / "in" / "a.dcm", photograph((10, 20, 230)))
    _, objects = processed(config, image, tmp_path / "out")
    text = objects["text-en"]
    assert "The AI flagged nothing. This does not exclude disease." in text
    assert not any("Healthy colour" in each for each in objects.values())


def test_stored_colours_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    colours = rng.integers(0, 256, (33, 41, 3)).astype(np.uint8)
    (item,) = load_study([write_photograph(tmp_path / "a.dcm", colours)]).volumes
    assert item.kind is Kind.PHOTOGRAPH and item.volume.colour is not None
    assert (np.moveaxis(item.volume.colour, 0, -1) == colours).all()
    (item,) = load_study([write_photograph(tmp_path / "b.dcm", colours, photometric="YBR_FULL")]).volumes
    assert item.volume.colour is not None
    assert np.abs(np.moveaxis(item.volume.colour, 0, -1).astype(int) - colours).max() <= 2


@pytest.mark.parametrize(
    ("kind", "code"),
    [("radiograph", "SER-011"), ("two", "SER-012"), ("external camera", "SER-011"), ("monochrome", "SER-0")],
)
def test_other_images_are_refused_with_the_reason(tmp_path: Path, config: Path, kind: str, code: str) -> None:
    folder = tmp_path / "in"
    if kind == "radiograph":
        write_radiograph(folder / "a.dcm", np.zeros((64, 64), np.uint16))
    elif kind == "two":
        write_photograph(folder / "a.dcm", photograph((220, 20, 30)))
        write_photograph(
            folder / "b.dcm", photograph((20, 220, 30)), SOPInstanceUID="1.2.3.4", SeriesInstanceUID="1.2.3.5"
        )
    elif kind == "external camera":
        write_photograph(folder / "a.dcm", photograph((220, 20, 30)), Modality="XC")
    else:
        write_photograph(folder / "a.dcm", photograph((220, 20, 30)), PhotometricInterpretation="MONOCHROME2")
    exit_code, objects = processed(config, folder, tmp_path / "out")
    assert exit_code == 1 and all(name.startswith("status") for name in objects)
    assert code in objects["status"]


def test_a_slice_of_a_series_gets_a_map_in_the_patient(tmp_path: Path) -> None:
    """What matches on the slice becomes a Parametric Map; a grey picture is equally red, green and blue."""
    changes = {
        'kind = "photograph"': 'kind = "image"',
        'modality = "OP"': 'modality = "MR"',
        "[options.image]": "[options.slice]\n"
        'intensity = { kind = "percentile", low = 0.5, high = 99.5 }\nchoose = "middle"\n\n[options.slice.picture]',
        'crop = "long_side"': 'crop = "none"',
        'name = "green"': 'name = "green"\noperating_point = 0.3',
        'name = "red"': 'name = "red"\noperating_point = 0.9',
    }
    write_colours(tmp_path / "site" / "colours", changes)
    config = write_config(tmp_path)
    head = make_phantom(61, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
    study = write_phantom_study(head, tmp_path / "study", seed=5)
    wanted = [path for path in study.files if dcmread(path).SeriesInstanceUID == study.b0_series_uid]
    folder = tmp_path / "in"
    folder.mkdir()
    for path in wanted:
        (folder / path.name).write_bytes(path.read_bytes())
    code, objects = processed(config, folder, tmp_path / "out")
    assert code == 0
    (name,) = (name for name in objects if name.startswith("parametric_map"))
    assert "AI flags: Green lesion." in objects["text-en"]
    made = dcmread(tmp_path / "out" / f"{name}.dcm")
    values = np.frombuffer(made.FloatPixelData, "<f4").reshape(-1, 64, 64)
    shown = [n for n, plane in enumerate(values) if plane.any()]
    assert len(values) == 12 and shown == [6]
    # Equal shares of three colours: the cosine with each is one over the root of three, where anything is to be seen.
    assert values[6].max() == pytest.approx(1 / np.sqrt(3), abs=1e-3)
