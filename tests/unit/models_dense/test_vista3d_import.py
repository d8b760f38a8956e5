"""VISTA3D's class branch converts with its prompts baked in and equals torch; the card's classes are the prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.dense.segmenter import DenseSegmenter
from models.errors import CheckpointMismatch
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.checkpoint import Layout  # noqa: E402
from models.export.vista3d import class_ids, convert, shape_of  # noqa: E402
from models.export.vista3d_network import UNUSED, Vista3d, Vista3dClasses, Vista3dShape  # noqa: E402

pytestmark = pytest.mark.slow
SMALL = Vista3dShape(4, (1, 1), 140)


def small_checkpoint() -> tuple[Vista3d, dict]:
    torch.manual_seed(8)
    network = Vista3d(SMALL).eval()
    torch.nn.init.normal_(network.class_head.class_embeddings.weight, 0, 1)
    return network, {**network.state_dict(), "point_head.mask_tokens.weight": torch.zeros(1, 4)}


def test_the_released_layout() -> None:
    layout = Layout.load("vista3d")
    used = {key: shape for key, shape in layout.shapes.items() if not key.startswith(UNUSED)}
    with torch.device("meta"):
        state = Vista3d(Vista3dShape()).state_dict()
        whole = {key: torch.empty(shape) for key, shape in layout.shapes.items()}
    assert {key: tuple(value.shape) for key, value in state.items()} == used
    assert (len(layout.shapes), len(used)) == (259, 122)
    assert shape_of(whole) == Vista3dShape()


def test_the_classes_of_the_card_are_baked_in(tmp_path: Path) -> None:
    network, tensors = small_checkpoint()
    torch.save(tensors, tmp_path / "model.pt")
    imported = convert(tmp_path / "model.pt", tmp_path)
    report = imported.report()
    print("relative differences between torch and ONNX Runtime:", report["graphs"])
    assert (report["missing"], report["unexpected"], report["keys"]) == (0, 0, len(tensors))
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    assert len(differences) == 2
    assert max(differences) < 1e-4
    card = tmp_path / "model.toml"
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace("size = [128, 128, 128]", "size = [8, 8, 8]"), encoding="utf-8")
    model = Model(tmp_path)
    model.self_test()
    assert len(model.card.labels) == len(class_ids())
    array = np.random.default_rng(3).uniform(-1200, 1300, (8, 8, 8)).astype(np.float32)
    labels = DenseSegmenter(model).labels({"image": Volume(array, np.diag([-1.5, -1.5, 1.5, 1.0]))})
    low, high = -963.8247715525971, 1053.678477684517
    image = np.clip((array - low) / (high - low), 0, 1).transpose(2, 1, 0)
    with torch.no_grad():
        logits = Vista3dClasses(network, class_ids())(torch.from_numpy(image.astype(np.float32))[None, None])[0].numpy()
    expected = logits.argmax(0).transpose(2, 1, 0)
    assert (labels == expected).mean() > 0.995
    assert (expected > 0).any()
    # Background is where no class is above zero.
    assert np.array_equal(expected == 0, (logits[1:] <= 0).all(0).transpose(2, 1, 0))


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    network, tensors = small_checkpoint()
    torch.save(network.state_dict(), tmp_path / "half.pt")
    with pytest.raises(CheckpointMismatch, match="clicks"):
        convert(tmp_path / "half.pt", tmp_path)
    torch.save({**tensors, "class_head.more.weight": torch.zeros(1)}, tmp_path / "more.pt")
    with pytest.raises(CheckpointMismatch, match="unexpected: class_head"):
        convert(tmp_path / "more.pt", tmp_path)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointMismatch, match="not VISTA3D"):
        convert(tmp_path / "other.pt", tmp_path)
