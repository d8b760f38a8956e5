"""Other ways to be pointed at: corners as points, clicks in a cube. Known answers say where the mask must lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage

from models.card import file_digest
from models.errors import CardInvalid, InferenceFailed, PromptMissing
from models.export.imported import CARDS_FOLDER
from models.model import Model
from models.patient_grid import PatientAxes
from models.prompts import BoxPrompt
from models.roi_prompting import cube_of, standardised, trilinear
from models.volume import Volume
from tests.unit.models_promptable.conftest import write_model

CUBE = 32


def as_corner_points(folder: Path) -> None:
    """Turn the known decoder into one of corner points; with other labels than 2 and 3 its box is nothing."""
    path = folder / "decoder.onnx"
    model = onnx.load(path)
    graph = model.graph
    kept = [each for each in graph.input if each.name != "boxes"]
    del graph.input[:]
    graph.input.extend(kept)
    for name, shape in (("point_coords", [1, "points", 2]), ("point_labels", [1, "points"]), ("orig_im_size", [2])):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    before = [
        helper.make_node("Reshape", ["point_coords", "as box"], ["corners"]),
        helper.make_node("Equal", ["point_labels", "wanted labels"], ["right labels"]),
        helper.make_node("Cast", ["right labels"], ["right"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["right"], ["all right"], keepdims=0),
        helper.make_node("Mul", ["corners", "all right"], ["boxes"]),
    ]
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 4], np.int64), "as box"))
    graph.initializer.append(numpy_helper.from_array(np.array([[2, 3]], np.float32), "wanted labels"))
    old = file_digest(path)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    card = folder / "model.toml"
    text = card.read_text().replace(old, file_digest(path))
    inputs = '["image_embeddings", "point_coords", "point_labels", "orig_im_size"]'
    text = text.replace('["image_embeddings", "boxes"]', inputs)
    card.write_text(text.replace("threshold = 0.5", 'threshold = 0.5\ndecoder = "corner_points"'))


def test_corner_points_give_what_boxes_give(tmp_path: Path) -> None:
    boxes, corners = write_model(tmp_path / "boxes"), write_model(tmp_path / "corners")
    as_corner_points(corners)
    rng = np.random.default_rng(1)
    volume = Volume(rng.uniform(1, 900, (3, 50, 70)).astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    prompts = [BoxPrompt(1, 1, 5, 6, 20, 30), BoxPrompt(2, 1, 25, 30, 45, 60)]
    first, second = (Model(folder).segment({"image": volume}, prompts, {}) for folder in (boxes, corners))
    assert first.segmentation is not None and second.segmentation is not None
    assert (first.segmentation.mask_zyx == second.segmentation.mask_zyx).all()
    assert len(second.segmentation.regions) == 2


def test_points_are_taken_only_where_the_card_says_that_they_are_corners(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "corners")
    as_corner_points(folder)
    card = folder / "model.toml"
    card.write_text(card.read_text().replace('decoder = "corner_points"\n', ""))
    with pytest.raises(CardInvalid, match="takes points only"):
        Model(folder).segment({}, [], {})


def write_cube_model(folder: Path) -> Path:
    """Whatever is brighter than the mean of the cube is the thing; the click must lie in the middle, labelled inside."""
    folder.mkdir(parents=True)
    cube = [1, 1, CUBE, CUBE, CUBE]
    encoder = helper.make_graph(
        [helper.make_node("AveragePool", ["volume"], ["image_embeddings"], kernel_shape=[4, 4, 4], strides=[4, 4, 4])],
        "encoder",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, cube)],
        [helper.make_tensor_value_info("image_embeddings", TensorProto.FLOAT, [1, 1, 8, 8, 8])],
    )
    nodes = [
        helper.make_node("Resize", ["image_embeddings", "", "factors"], ["larger"], mode="linear"),
        helper.make_node("Sub", ["larger", "half way"], ["large"]),
        helper.make_node("Sub", ["points", "middle"], ["aside"]),
        helper.make_node("Abs", ["aside"], ["distance"]),
        helper.make_node("ReduceMax", ["distance"], ["furthest"], keepdims=0),
        helper.make_node("ReduceMin", ["labels"], ["inside"], keepdims=0),
        helper.make_node("Sub", ["inside", "furthest"], ["trusted"]),
        helper.make_node("Mul", ["large", "trusted"], ["sure"]),
        helper.make_node("Mul", ["sure", "gain"], ["loud"]),
        helper.make_node("Add", ["loud", "mask"], ["masks"]),
        helper.make_node("ReduceMax", ["masks", "axes"], ["iou"], keepdims=0),
    ]
    constants = {
        "factors": np.array([1, 1, 4, 4, 4], np.float32),
        "middle": np.full((1, 1, 3), CUBE // 2, np.float32),
        "gain": np.float32(20),
        "half way": np.float32(1.2),
        "axes": np.array([2, 3, 4], np.int64),
    }
    decoder = helper.make_graph(
        nodes,
        "decoder",
        [
            helper.make_tensor_value_info("image_embeddings", TensorProto.FLOAT, [1, 1, 8, 8, 8]),
            helper.make_tensor_value_info("points", TensorProto.FLOAT, [1, "count", 3]),
            helper.make_tensor_value_info("labels", TensorProto.FLOAT, [1, "count"]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, cube),
        ],
        [
            helper.make_tensor_value_info("masks", TensorProto.FLOAT, cube),
            helper.make_tensor_value_info("iou", TensorProto.FLOAT, [1, 1]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    text = (CARDS_FOLDER / "sam-med3d.toml").read_text(encoding="utf-8").replace("size = 128", f"size = {CUBE}")
    for name, graph in (("encoder", encoder), ("decoder", decoder)):
        path = folder / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        inputs = '", "'.join(each.name for each in graph.input)
        outputs = '", "'.join(each.name for each in graph.output)
        text += (
            f'\n[graphs.{name}]\nfile = "{name}.onnx"\nsha256 = "{file_digest(path)}"\n'
            f'inputs = ["{inputs}"]\noutputs = ["{outputs}"]\nopset = 18\n'
        )
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def clicked(tmp_path: Path) -> Model:
    return Model(write_cube_model(tmp_path / "clicked"))


def head(centre_zyx: tuple[float, float, float], radius_mm: float, affine: np.ndarray) -> tuple[Volume, np.ndarray]:
    """A bright ball in grey, and which voxels are of it."""
    shape = (24, 70, 60)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    apart = [(np.arange(n) - c) * s for n, c, s in zip(shape, centre_zyx, spacing, strict=True)]
    distance = np.sqrt(sum(np.square(a).reshape([-1 if n == k else 1 for k in range(3)]) for n, a in enumerate(apart)))
    ball = distance < radius_mm
    return Volume(np.where(ball, 500.0, 100.0).astype(np.float32), affine), ball


AFFINES = {
    "axial": np.diag([1.0, 1.0, 3.0, 1.0]),
    "flipped": np.diag([-1.0, 1.0, -3.0, 1.0]),
    "coronal": np.array([[1.2, 0, 0, 0], [0, 0, 2.5, 0], [0, -1.2, 0, 0], [0, 0, 0, 1.0]]),
    "sagittal": np.array([[0, 0, 2.5, 0], [1.1, 0, 0, 0], [0, -1.1, 0, 0], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("name", sorted(AFFINES))
def test_a_click_finds_the_ball_on_the_series_own_grid(clicked: Model, name: str) -> None:
    volume, ball = head((10, 30, 22), 14.0, AFFINES[name])
    result = clicked.segment({"image": volume}, [BoxPrompt(1, 10, 27, 19, 33, 25)], {})
    assert result.segmentation is not None
    mask = result.segmentation.mask_zyx > 0
    assert 2 * np.count_nonzero(mask & ball) / (np.count_nonzero(mask) + np.count_nonzero(ball)) > 0.85
    assert np.allclose(ndimage.center_of_mass(mask), (10, 30, 22), atol=0.8)
    assert result.total_ml == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.2)


def test_nothing_beyond_the_cube_is_segmented(clicked: Model) -> None:
    volume, ball = head((10, 30, 22), 14.0, AFFINES["axial"])
    far = replace(
        volume, array_zyx=np.where(np.indices(ball.shape)[1] > 62, 900.0, volume.array_zyx).astype(np.float32)
    )
    result = clicked.segment({"image": far}, [BoxPrompt(1, 10, 27, 19, 33, 25)], {})
    assert result.segmentation is not None
    reach = CUBE / 2 * 1.5
    rows = np.flatnonzero((result.segmentation.mask_zyx > 0).any((0, 2)))
    assert rows.min() >= 30 - reach - 1 and rows.max() <= 30 + reach + 1


def test_what_points_nowhere_is_refused(clicked: Model) -> None:
    volume, _ = head((10, 30, 22), 14.0, AFFINES["axial"])
    with pytest.raises(PromptMissing):
        clicked.segment({"image": volume}, [], {})
    with pytest.raises(InferenceFailed, match="outside"):
        clicked.segment({"image": volume}, [BoxPrompt(1, 24, 1, 1, 2, 2)], {})
    broken = replace(volume, array_zyx=np.full_like(volume.array_zyx, np.nan))
    with pytest.raises(InferenceFailed, match="NaN"):
        clicked.segment({"image": broken}, [BoxPrompt(1, 10, 27, 19, 33, 25)], {})


@pytest.mark.parametrize("name", sorted(AFFINES))
def test_patient_axes_go_there_and_back(name: str) -> None:
    array = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    volume = Volume(array, AFFINES[name])
    axes = PatientAxes.of(volume)
    turned = axes.read(array)
    assert (axes.back(turned) == array).all()
    place = tuple(int(each) for each in axes.place((1, 2, 3)))
    assert turned[place] == array[1, 2, 3]
    # One step along each axis goes to the patient's right (-x), front (-y), head (+z).
    corner = np.array([axes.place((z, y, x)) for z, y, x in ((0, 0, 0), (3, 4, 5))])
    world = np.array([AFFINES[name] @ (x, y, z, 1) for z, y, x in ((0, 0, 0), (3, 4, 5))])[:, :3]
    assert (np.sign(corner[1] - corner[0]) == np.sign((world[1] - world[0]) * (-1, -1, 1))).all()


def test_cube_arithmetic_is_the_originals() -> None:
    torch = pytest.importorskip("torch", reason="the comparison needs torch")
    low = np.random.default_rng(2).normal(size=(8, 8, 8)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(low)[None, None], (32, 32, 32), mode="trilinear")
    assert np.abs(trilinear(low, 32) - expected[0, 0].numpy()).max() < 1e-5
    cube = np.random.default_rng(3).normal(5, 9, (6, 6, 6)).astype(np.float32)
    above = torch.from_numpy(cube[cube > 0])
    assert np.allclose(standardised(cube), (cube - above.mean().item()) / above.std().item(), atol=1e-4)
    assert not standardised(np.zeros((4, 4, 4), np.float32)).any()
    ramp = np.arange(20, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    part = cube_of(ramp, [-2, 0, 0], [1.5, 1.0, 1.0], 4)
    assert part[:, 0, 0].tolist() == [0.0, 0.0, 0.0, 1.5]
