"""torchxrayvision's layout converts and equals torch; its pickled files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.checkpoint import Layout  # noqa: E402
from models.export.densenet_network import DenseNet, DenseNetShape  # noqa: E402
from models.export.torchxrayvision import convert, shape_of  # noqa: E402
from models.projection_input import network_image  # noqa: E402

pytestmark = pytest.mark.slow
SMALL = DenseNetShape(growth=4, blocks=(2, 1, 1, 2), first=8)


def small_network() -> DenseNet:
    torch.manual_seed(2)
    network = DenseNet(SMALL).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network


def test_the_released_layout_has_727_keys() -> None:
    layout = Layout.load("torchxrayvision")
    with torch.device("meta"):
        state = DenseNet(DenseNetShape()).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == layout.shapes
    assert len(layout.shapes) == 727
    assert shape_of(state) == DenseNetShape()


def test_the_folder_runs_as_a_model(tmp_path: Path) -> None:
    network = small_network()
    torch.save(network.state_dict(), tmp_path / "small.pt")
    imported = convert(tmp_path / "small.pt", tmp_path)
    report = imported.report()
    assert (report["missing"], report["unexpected"]) == (0, 0)
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    print("relative differences between torch and ONNX Runtime:", differences)
    assert len(differences) == 3
    assert max(differences) < 1e-4
    model = Model(tmp_path)
    model.self_test()
    image = np.random.default_rng(0).integers(0, 4096, (1, 300, 260)).astype(np.float32)
    volume = Volume(image, np.eye(4), facts={"maximum_value": 4095})
    result = model.run({"image": volume}, {})
    assert len(result.findings) == 18
    adapted = network_image(volume, model._adapter.options.image)  # type: ignore[union-attr]
    with torch.no_grad():
        scores = torch.sigmoid(network(torch.from_numpy(adapted)))[0].numpy()
    first = result.findings[0]
    point = 0.07422872
    expected = scores[0] / (2 * point) if scores[0] < point else 1 - (1 - scores[0]) / (2 * (1 - point))
    assert first.probability == pytest.approx(expected, abs=1e-5)
    assert first.present == (scores[0] >= point)


def test_published_files_are_refused_because_they_run_code(tmp_path: Path) -> None:
    torch.save(small_network(), tmp_path / "module.pt")
    with pytest.raises(CheckpointUnsafe, match="more than tensors"):
        convert(tmp_path / "module.pt", tmp_path)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    tensors = dict(small_network().state_dict())
    del tensors["features.norm5.weight"]
    torch.save(tensors, tmp_path / "changed.pt")
    with pytest.raises(CheckpointMismatch, match=r"norm5\.weight"):
        convert(tmp_path / "changed.pt", tmp_path)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet.pt")
    with pytest.raises(CheckpointMismatch, match="not a DenseNet"):
        convert(tmp_path / "resnet.pt", tmp_path)
