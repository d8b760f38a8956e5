"""ChatCAD's classifier converts from its published keys, equals torch, and sees the image its own code makes."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from models.errors import CheckpointMismatch, InferenceFailed
from models.grey_enhancement import equalised, smoothed
from models.model import Model
from models.projection_input import ProjectionInput, network_image, placement
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.chatcad_classifier import convert_sized, shape_of  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.jf_network import JfClassifier, JfShape  # noqa: E402

REFERENCES = np.load(Path(__file__).with_name("opencv.npz"))
"""Made by ``tests/generators/opencv_references.py`` with OpenCV 5.0."""
NAMES = ("wide", "high", "small")
SMALL = JfShape(growth=4, blocks=(2, 1, 1, 2), first=8)
SIZE = 128


def small_network() -> JfClassifier:
    torch.manual_seed(2)
    network = JfClassifier(SMALL).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.bias.data.normal_(0.2, 0.3)
    return network


def test_the_released_layout() -> None:
    layout = Layout.load("chatcad-classifier")
    with torch.device("meta"):
        state = JfClassifier(JfShape()).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == layout.shapes
    assert len(layout.shapes) == 829
    assert sum(math.prod(shape) for shape in layout.shapes.values()) / 1e6 == pytest.approx(12.6, abs=0.06)
    assert shape_of(state) == JfShape()
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}:\S+", source) for source in layout.source.split())


@pytest.mark.parametrize("name", NAMES)
def test_contrast_equals_opencv(name: str) -> None:
    assert np.array_equal(equalised(REFERENCES[name]), REFERENCES[f"{name} equalised"])
    assert np.array_equal(smoothed(REFERENCES[name]), REFERENCES[f"{name} smoothed"])


def test_one_level_stays_as_it_is() -> None:
    flat = np.full((5, 6), 90, np.uint8)
    assert np.array_equal(equalised(flat), flat) and np.array_equal(smoothed(flat), flat)


def test_a_photograph_is_refused() -> None:
    recipe = ProjectionInput(size=32, crop="long_side_grey", enhance="equalised_smoothed", resize="opencv_linear")
    colour = np.zeros((3, 40, 40), np.uint8)
    volume = Volume(np.zeros((1, 40, 40), np.float32), np.eye(4), facts={"maximum_value": 255}, colour=colour)
    with pytest.raises(InferenceFailed, match="colours"):
        network_image(volume, recipe)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[JfClassifier, Model]:
    folder = tmp_path_factory.mktemp("jf")
    network = small_network()
    torch.save(network.state_dict(), folder / "JFchexpert.pth")
    report = convert_sized(folder / "JFchexpert.pth", folder, SIZE).report()
    assert (report["missing"], report["unexpected"]) == (0, 0)
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    print(differences)
    assert len(differences) == 3 and max(differences) < 1e-5
    return network, Model(folder)


def plainly(network: JfClassifier, image: torch.Tensor) -> list[float]:
    """The original's order of things, written out: the attention stays on the features from one condition to the next."""
    features = torch.relu(network.backbone.features(image))
    up = torch.nn.functional.interpolate
    fpa = network.attention_map["pyramid_attention"]
    made = []
    for number in range(5):
        rows, columns = features.shape[2:]
        mean = up(fpa.gap_branch(features), (rows, columns), mode="bilinear", align_corners=False)
        one = fpa.downsample1(features)
        two = fpa.downsample2(one)
        three = up(fpa.scale3(fpa.downsample3(two)), (rows // 4, columns // 4), mode="bilinear", align_corners=False)
        two = up(fpa.scale2(two) + three, (rows // 2, columns // 2), mode="bilinear", align_corners=False)
        one = up(fpa.scale1(one) + two, (rows, columns), mode="bilinear", align_corners=False)
        features = one * fpa.mid_branch(features) + mean
        flat = features.flatten(2)
        pooled = torch.cat([flat.mean(2), flat.max(2).values], 1)[..., None, None]
        made.append(float(getattr(network, f"fc_{number}")(getattr(network, f"bn_{number}")(pooled))))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_scores_are_those_of_the_original(made: tuple[JfClassifier, Model], name: str) -> None:
    network, model = made
    model.verify()
    model.self_test()
    grey = REFERENCES[name]
    volume = Volume(grey[None].astype(np.float32), np.eye(4), facts={"maximum_value": 255})
    recipe = model._adapter.options.image  # type: ignore[union-attr]
    picture = network_image(volume, recipe)
    expected = REFERENCES[f"{name} made"]
    assert picture.shape == (1, 3, SIZE, SIZE) and np.abs(picture[0] - expected[None]).max() < 1e-5
    assert placement(grey.shape, recipe).rows == max(grey.shape)
    result = model.run({"image": volume}, {})
    with torch.no_grad():
        logits = plainly(network, torch.from_numpy(picture))
    scores = [1 / (1 + math.exp(-each)) for each in logits]
    assert [each.probability for each in result.findings] == pytest.approx(scores, abs=1e-5)
    assert [each.present for each in result.findings] == [score >= 0.5 for score in scores]
    assert [each.concept.meaning for each in result.findings][::4] == ["Cardiomegaly", "Pleural effusion"]
    assert len({round(score, 6) for score in scores}) == 5


@pytest.mark.parametrize("change", ["missing", "unexpected", "another shape", "six conditions", "another network"])
def test_other_layouts_are_refused(tmp_path: Path, change: str) -> None:
    tensors = dict(small_network().state_dict())
    key = "attention_map.pyramid_attention.scale2.conv.0.weight"
    told = re.escape(key)
    if change == "missing":
        del tensors[key]
    elif change == "unexpected":
        tensors["another_head.weight"], told = torch.zeros(2), "another_head"
    elif change == "another shape":
        tensors[key] = torch.zeros(3)
    elif change == "six conditions":
        tensors["fc_5.weight"], told = torch.zeros(2), "6 conditions"
    else:
        tensors, told = {"fc_0.weight": torch.zeros(2)}, "not JF Healthcare's classifier"
    torch.save(tensors, tmp_path / "x.pth")
    with pytest.raises(CheckpointMismatch, match=told):
        convert_sized(tmp_path / "x.pth", tmp_path, SIZE)
    assert not list(tmp_path.glob("*.onnx"))
