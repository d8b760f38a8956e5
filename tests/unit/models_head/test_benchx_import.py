"""BenchX's ResNet50 towers convert from files of the published layouts, equal torch, and take the image BenchX makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.embedding import Embedder
from models.errors import CardInvalid, CheckpointMismatch, CheckpointUnsafe
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.benchx import TOWERS, Tower, convert, tower_of  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402

LAYOUTS = {"convirt": "convirt", "gloria": "benchx-gloria", "mgca-resnet50": "benchx-mgca"}
WRAPPERS = {"convirt": "model", "gloria": "state_dict", "mgca-resnet50": "state_dict"}
REST = {
    "convirt": ("img_encoder.global_embed.head.0.weight", "text_encoder.model.embeddings.word_embeddings.weight"),
    "gloria": ("gloria.img_encoder.global_embedder.weight", "gloria.text_encoder.model.pooler.dense.weight"),
    "mgca-resnet50": ("img_encoder_q.global_embed.head.0.weight", "prototype_layer.weight"),
}
"""Keys outside of the tower, as many as show that they are left."""


def write_release(folder: Path, name: str) -> tuple[Path, Tower, dict[str, torch.Tensor]]:
    torch.manual_seed(7)
    tower = Tower((1, 1, 1, 1), 8).eval()
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    state = {f"{TOWERS[name][0]}{key}": value for key, value in tower.network.state_dict().items()}
    state |= {key: torch.zeros(2, 2) for key in REST[name]}
    path = folder / "release.pth"
    torch.save({WRAPPERS[name]: state, "epoch": 49}, path)
    return path, tower, state


@pytest.mark.parametrize("name", sorted(TOWERS))
def test_the_published_layouts(name: str) -> None:
    layout = Layout.load(LAYOUTS[name])
    with torch.device("meta"):
        state = Tower().network.state_dict()
    assert {f"{TOWERS[name][0]}{key}": tuple(value.shape) for key, value in state.items()} == layout.shapes
    assert len(layout.shapes) == 318
    assert tower_of({key: torch.empty(0) for key in layout.shapes}) == name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOWERS))
def test_embeddings_equal_torch(tmp_path: Path, name: str) -> None:
    path, tower, _ = write_release(tmp_path, name)
    report = convert(path, tmp_path).report()
    assert (report["system"], report["model"], report["missing"], report["unexpected"]) == (name, name, 0, 0)
    assert report["unused"] == 2
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    print(name, differences)
    assert len(differences) == 3 and max(differences) < 1e-5
    model = Model(tmp_path)
    model.verify()
    assert max(model.self_test().values()) < 1e-4
    grey = np.random.default_rng(1).integers(0, 256, (1, 300, 260)).astype(np.float32)
    grey[0, 0, :2] = 0, 255
    volume = Volume(grey, np.eye(4), facts={"maximum_value": 255})
    for way, means, deviations in (
        ("pretraining", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("nih", (0.4978,) * 3, (0.2449,) * 3),
    ):
        # torchvision's Resize(224), CenterCrop(224), ToTensor and Normalize, by Pillow.
        small = Image.fromarray(grey[0].astype(np.uint8)).resize((224, 258), Image.Resampling.BILINEAR)
        middle = np.asarray(small, np.float32)[17:241] / 255
        picture = np.stack([(middle - m) / d for m, d in zip(means, deviations, strict=True)]).astype(np.float32)
        with torch.no_grad():
            expected = tower(torch.from_numpy(picture[None]))[0].numpy()
        made = Embedder(model).embedding(volume, way)
        assert np.abs(made - expected).max() < 1e-3 * np.abs(expected).max()
    with pytest.raises(CardInvalid, match="train a head"):
        model.run({"image": volume}, {})


@pytest.mark.parametrize("change", ["missing", "unexpected", "no tower", "two towers", "code"])
def test_other_layouts_are_refused(tmp_path: Path, change: str) -> None:
    path, _, state = write_release(tmp_path, "convirt")
    told, error = r"layer4\.0\.conv3", CheckpointMismatch
    if change == "missing":
        del state["img_encoder.model.layer4.0.conv3.weight"]
    elif change == "unexpected":
        state["img_encoder.model.layer5.weight"] = torch.zeros(2)
        told = r"layer5\.weight"
    elif change == "no tower":
        state, told = {"encoder.weight": torch.zeros(2)}, "not one tower of BenchX"
    elif change == "two towers":
        state["img_encoder_q.model.conv1.weight"] = torch.zeros(2)
        told = "not one tower of BenchX"
    content: dict[str, object] = {"model": state}
    if change == "code":
        content, told, error = {"model": state, "hyper_parameters": Path("x")}, "more than tensors", CheckpointUnsafe
    torch.save(content, path)
    with pytest.raises(error, match=told):
        convert(path, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))
