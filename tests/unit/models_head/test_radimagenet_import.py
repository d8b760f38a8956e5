"""RadImageNet's three backbones convert from their published keys and equal torch; both preprocessings are the originals'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.embedding import Embedder
from models.errors import CardInvalid, CheckpointMismatch
from models.model import Model
from models.projection_input import network_image
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.checkpoint import Layout  # noqa: E402
from models.export.densenet_network import DenseNet, DenseNetShape  # noqa: E402
from models.export.inception_network import InceptionV3  # noqa: E402
from models.export.radimagenet import Backbone, backbone_of, convert  # noqa: E402
from models.export.resnet_network import ResNet  # noqa: E402

pytestmark = pytest.mark.slow


def backbone(name: str, *, full: bool = False) -> Backbone:
    if name == "resnet50":
        network = ResNet() if full else ResNet((1, 1, 1, 1), 8)
        network.fc = torch.nn.Identity()
    elif name == "densenet121":
        network = DenseNet(DenseNetShape(3, 1) if full else DenseNetShape(3, 1, 4, (2, 1), 8))
        network.classifier = torch.nn.Identity()
    else:
        network = InceptionV3() if full else InceptionV3(2)
    return Backbone(name, network)


def spread(network: torch.nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)


@pytest.mark.parametrize(("name", "count"), [("resnet50", 318), ("densenet121", 725), ("inceptionv3", 564)])
def test_the_published_layouts(name: str, count: int) -> None:
    layout = Layout.load(f"radimagenet-{name}")
    with torch.device("meta"):
        state = backbone(name, full=True).published()
    assert {key: tuple(value.shape) for key, value in state.items()} == layout.shapes
    assert len(layout.shapes) == count
    assert backbone_of(state).name == name


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "inceptionv3"])
def test_embeddings_equal_torch(tmp_path: Path, name: str) -> None:
    torch.manual_seed(3)
    network = backbone(name).eval()
    spread(network)
    torch.save(network.published(), tmp_path / "small.pt")
    imported = convert(tmp_path / "small.pt", tmp_path)
    report = imported.report()
    print("relative differences between torch and ONNX Runtime:", report["graphs"])
    assert (report["model"], report["missing"], report["unexpected"]) == (f"radimagenet-{name}", 0, 0)
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    assert len(differences) == 3
    assert max(differences) < 1e-4
    model = Model(tmp_path)
    model.self_test()
    grey = np.random.default_rng(1).integers(0, 256, (1, 300, 260)).astype(np.float32)
    volume = Volume(grey, np.eye(4), facts={"maximum_value": 255})
    made = Embedder(model).embedding(volume)
    with torch.no_grad():
        image = torch.from_numpy(grey[None].repeat(3, axis=1))
        small = torch.nn.functional.interpolate((image - 127.5) * 2 / 255, (224, 224), mode="bilinear")
        expected = network(small)[0].numpy()
    assert np.abs(made - expected).max() < 1e-4 * max(np.abs(expected).max(), 1e-3)
    with pytest.raises(CardInvalid, match="train a head"):
        model.run({"image": volume}, {})
    with pytest.raises(CardInvalid, match="no preprocessing"):
        Embedder(model).embedding(volume, "caffe")
    keras = network_image(volume, Embedder(model).options.images["keras"])[0]
    read = np.asarray(Image.fromarray(grey[0].astype(np.uint8)).resize((224, 224), Image.Resampling.NEAREST), float)
    for channel, mean in enumerate((103.939, 116.779, 123.68)):
        assert np.abs(keras[channel] - (read - mean) / 255).max() < 1e-6


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    tensors = backbone("resnet50").published()
    del tensors["backbone.7.0.conv3.weight"]
    torch.save(tensors, tmp_path / "changed.pt")
    with pytest.raises(CheckpointMismatch, match=r"layer4\.0\.conv3"):
        convert(tmp_path / "changed.pt", tmp_path)
    tensors = {**backbone("resnet50").published(), "backbone.9.weight": torch.zeros(2)}
    torch.save(tensors, tmp_path / "more.pt")
    with pytest.raises(CheckpointMismatch, match=r"unexpected: backbone\.9\.weight"):
        convert(tmp_path / "more.pt", tmp_path)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointMismatch, match="not a RadImageNet backbone"):
        convert(tmp_path / "other.pt", tmp_path)
