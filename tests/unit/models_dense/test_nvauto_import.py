"""NVAUTO's TorchScript archives become an ensemble that equals them; what no network needs is refused before it is loaded."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.model import Model
from models.phantom import LesionSpec, make_phantom
from models.results import Outcome

torch = pytest.importorskip("torch", reason="conversion needs torch")

from torch import Tensor, nn  # noqa: E402

from models.export.imported import Imported  # noqa: E402
from models.export.nvauto import convert  # noqa: E402
from models.export.segresnet_network import SegResNet, SegResNetShape  # noqa: E402
from models.export.torchscript import load_torchscript  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
SHAPE = SegResNetShape(channels=2, outputs=2, first=8, down=(1, 1, 1), up=(1, 1))


class Bright(nn.Module):
    """Infarct where ADC (first) is below and DWI (second) above what is usual by more than a step each: the known answer."""

    def __init__(self) -> None:
        super().__init__()
        self.missing = nn.Conv3d(2, 2, 1)
        self.conv = nn.Conv3d(2, 2, 1)
        with torch.no_grad():
            self.missing.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1, 1))
            self.missing.bias.copy_(torch.tensor([0.35, 1.0]))
            self.conv.weight.copy_(torch.tensor([[0.0, 0.0], [-10.0, -10.0]]).reshape(2, 2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(torch.relu(self.missing(image)))


class Reader(nn.Module):
    """Answers with what lies in a file of the machine."""

    def forward(self, image: Tensor) -> Tensor:
        return image + torch.from_file("/etc/hostname", size=1, dtype=torch.uint8)


def archive(folder: Path, number: int, module: nn.Module, *, traced: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"model{number}.ts"
    with torch.no_grad():
        made = torch.jit.trace(module.eval(), torch.randn(1, 2, 32, 32, 32)) if traced else torch.jit.script(module)
    made.save(str(path))
    return path


def network(seed: int) -> SegResNet:
    torch.manual_seed(seed)
    return SegResNet(SHAPE).eval()


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it was released, with two members."""
    folder = tmp_path_factory.mktemp("released")
    for number in range(2):
        archive(folder / "NVAUTO" / "ts", number, network(number))
    return folder


@pytest.fixture(scope="module")
def imported(released: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Imported, Path]:
    out = tmp_path_factory.mktemp("out")
    return convert(released, out), out


def test_every_archive_becomes_a_member_that_equals_it(imported: tuple[Imported, Path], released: Path) -> None:
    made, out = imported
    assert made.card.options["members"] == ["main", "member_2"]
    for graph in made.graphs:
        assert len(graph.differences) == 2 and max(graph.differences) < 1e-4
        print(f"{graph.path.name}: {graph.differences}")
    model = Model(out)
    image = torch.randn(1, 2, 32, 32, 64)
    for number, name in enumerate(made.card.options["members"]):
        with torch.no_grad():
            expected = network(number)(image).numpy()
        given = model.session(name).run({"image": image.numpy()})["logits"]
        np.testing.assert_allclose(given, expected, atol=1e-4)
    model.self_test()


def test_what_it_has_learnt_lies_where_it_is_in_the_patient(tmp_path: Path) -> None:
    for number in range(2):
        archive(tmp_path / "in" / "ts", number, Bright(), traced=number == 0)
    (tmp_path / "out").mkdir()
    convert(tmp_path / "in", tmp_path / "out")
    lesions = [LesionSpec(30.0, "left")]
    head = make_phantom(4, shape_zyx=(20, 64, 64), spacing_mm_zyx=(7.0, 3.0, 3.0), lesions=lesions, noise=0.02)
    result = Model(tmp_path / "out").run({"dwi": head.dwi, "adc": head.adc}, {})
    assert result.outcome is Outcome.FOUND and result.segmentation is not None
    found, truth = result.segmentation.mask_zyx > 0, head.truth_zyx > 0
    # So simple a rule marks other bright tissue, too; about the infarct it marks the infarct and nothing else.
    about = ndimage.distance_transform_edt(~truth, sampling=(7.0, 3.0, 3.0)) < 15.0
    assert 2 * np.count_nonzero(found & truth) > 0.9 * (np.count_nonzero(found & about) + np.count_nonzero(truth))
    for axis in range(3):
        assert np.count_nonzero(np.flip(found, axis) & truth) < 0.6 * np.count_nonzero(truth)


def test_other_members_and_gaps_are_refused(tmp_path: Path) -> None:
    archive(tmp_path / "gap", 1, network(0))
    with pytest.raises(CheckpointMismatch, match="without a gap"):
        convert(tmp_path / "gap", tmp_path)
    archive(tmp_path / "other", 0, network(0))
    archive(tmp_path / "other", 1, SegResNet(SegResNetShape(channels=2, outputs=2, first=8, down=(1, 2, 1), up=(1, 1))))
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointMismatch, match="another network"):
        convert(tmp_path / "other", tmp_path / "out")
    archive(tmp_path / "three", 0, nn.Conv3d(2, 3, 1))
    with pytest.raises(CheckpointMismatch, match="background and infarct"):
        convert(tmp_path / "three", tmp_path / "out")


def test_an_archive_that_reads_files_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path, 0, Reader(), traced=False)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(CheckpointUnsafe, match=r"torch\.from_file"):
        load_torchscript(path)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("def f(x):\n  g = torch.from_file\n  return x\n", "torch.from_file"),
        ("def f(x):\n  return ops.evil.run(x)\n", "ops.evil.run"),
        ('def f(x):\n  a = "torch.relu("\n  return torch.save(x, "torch.add")\n', "torch.save"),
        ("def f(x):\n  return ops.prim.PythonOp(x)\n", "ops.prim.PythonOp"),
    ],
)
def test_what_it_names_is_read_as_text(tmp_path: Path, source: str, named: str) -> None:
    path = tmp_path / "model0.ts"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("model0/code/__torch__.py", source)
    with pytest.raises(CheckpointUnsafe, match=named):
        load_torchscript(path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.ts").write_text("no archive")
    with pytest.raises(CheckpointMismatch, match="no TorchScript archive"):
        load_torchscript(tmp_path / "text.ts")
    content = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, content)
    (tmp_path / "tensors.ts").write_bytes(content.getvalue())
    with pytest.raises(CheckpointMismatch, match="holds no TorchScript"):
        load_torchscript(tmp_path / "tensors.ts")
