"""MONAI's BraTS bundle converts and equals torch; its four series are told apart in a real study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_sr.roles import fill_roles
from dicom_sr.series import load_study
from models.dense.segmenter import DenseSegmenter
from models.errors import CheckpointMismatch
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.brats_segresnet import convert, shape_of  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.segresnet_network import SegResNet, SegResNetShape  # noqa: E402

pytestmark = pytest.mark.slow
ROLES = ("t1c", "t1", "t2", "flair")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SegResNet]:
    folder = tmp_path_factory.mktemp("brats")
    torch.manual_seed(4)
    network = SegResNet(SegResNetShape(4, 3, 8, (1, 1), (1,))).eval()
    torch.save(network.state_dict(), folder / "model.pt")
    made = convert(folder / "model.pt", folder)
    report = made.report()
    print("relative differences between torch and ONNX Runtime:", report["graphs"])
    assert (report["missing"], report["unexpected"]) == (0, 0)
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    assert len(differences) == 2
    assert max(differences) < 1e-4
    return folder, network


def test_the_released_layout() -> None:
    layout = Layout.load("brats-segresnet")
    with torch.device("meta"):
        state = SegResNet(SegResNetShape()).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == layout.shapes
    assert len(layout.shapes) == 83
    assert shape_of(state) == SegResNetShape()


def test_four_series_become_one_label_map(imported: tuple[Path, SegResNet]) -> None:
    folder, network = imported
    text = (folder / "model.toml").read_text(encoding="utf-8")
    small = text.replace("size = [240, 240, 160]", "size = [16, 16, 16]").replace('"rigid"', '"refuse"')
    (folder / "model.toml").write_text(small, encoding="utf-8")
    model = Model(folder)
    assert model.self_test()["main"] < 1e-3
    rng = np.random.default_rng(5)
    # LPS is the volume's own orientation here, so that the network sees x, y, z of it.
    inputs = {role: Volume(rng.normal(100, 30, (16, 16, 16)).astype(np.float32), np.eye(4)) for role in ROLES}
    labels = DenseSegmenter(model).labels(inputs)
    image = np.stack([inputs[role].array_zyx.transpose(2, 1, 0) for role in ROLES])
    image = np.stack([(each - each.mean()) / each.std() for each in image])
    with torch.no_grad():
        core, whole, enhancing = network(torch.from_numpy(image)[None])[0].numpy() > 0
    expected = np.where(enhancing, 3, np.where(core, 1, np.where(whole, 2, 0))).transpose(2, 1, 0)
    assert (labels == expected).mean() > 0.999
    assert len(np.unique(expected)) > 2


def test_the_series_of_a_real_study_are_told_apart(imported: tuple[Path, SegResNet], shared_data: Path) -> None:
    study = load_study([shared_data / "mr_brain_glioma_PGBM006"])
    roles = fill_roles(study, Model(imported[0]).card.inputs)
    described = {role: str(source.header.SeriesDescription) for role, source in roles.items()}
    assert described == {"t1c": "T1post", "t1": "T1pre_reg", "t2": "T2_reg", "flair": "FLAIR_reg"}


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointMismatch, match="not a SegResNet"):
        convert(tmp_path / "other.pt", tmp_path)
    state = SegResNet(SegResNetShape(4, 3, 8, (1, 1), (1,))).state_dict()
    torch.save({**state, "vae_fc1.weight": torch.zeros(2, 2)}, tmp_path / "more.pt")
    with pytest.raises(CheckpointMismatch, match=r"unexpected: vae_fc1\.weight"):
        convert(tmp_path / "more.pt", tmp_path)
    del state["conv_final.2.conv.bias"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(CheckpointMismatch, match=r"missing: conv_final\.2\.conv\.bias"):
        convert(tmp_path / "less.pt", tmp_path)
