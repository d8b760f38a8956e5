"""SWAN's two networks convert and compute what the original's code computes; what they mark lies where it is in the patient."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dicom_sr.roles import fill_roles
from models.brain import brain_mask
from models.dense.channels import normalised
from models.dense.options import Channel
from models.dense.resampling import new_shape, resized
from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.model import Model
from models.volume import Volume
from tests.unit.dicom_sr_objects.cases import agreement, masks_in_patient, phantom_case

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from torch.nn import functional as F  # noqa: E402

from models.export.checkpoint import Layout  # noqa: E402
from models.export.factorizer_network import FactorizerNet, FactorizerShape  # noqa: E402
from models.export.imported import Imported  # noqa: E402
from models.export.swan import convert, network_of, shape_of  # noqa: E402
from models.export.training_state import TrainingState  # noqa: E402
from tests.unit.models_image_text.released import randomised  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
RESIDUAL = FactorizerShape(width=(8, 16), heads=2)
SWIN = FactorizerShape(width=(8, 16), heads=2, window=(16, 16, 16), head_width=4, patch=4, shifts=(0, 1, 3), rounds=3)
RELEASED_WINDOW = (64, 64, 64)


def network(shape: FactorizerShape, seed: int = 3) -> FactorizerNet:
    made = FactorizerNet(shape)
    randomised(made, seed, 0.2)
    for key, value in made.state_dict().items():
        if key.endswith((".u0", ".v0")):
            value.uniform_(0, 1, generator=torch.Generator().manual_seed(seed))
    return made.eval()


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package with the classes that the training's settings name; gone when the file is read."""
    package = ModuleType("factorizer")
    for name in ("SegmentationFactorizer", "FactorizerSubblock", "SWMatricize", "NMF", "DeepSuprLoss"):
        setattr(package, name, type(name, (), {"__module__": "factorizer"}))
    monkeypatch.setitem(sys.modules, "factorizer", package)
    return package


def settings(package: ModuleType, shape: FactorizerShape, **changes: object) -> dict:
    """As PyTorch Lightning keeps them: lists of classes and options."""
    loss = package.DeepSuprLoss()
    loss.weights = {"first": 1.0}
    shifts = [each or None for each in shape.shifts]
    tensorize = [package.SWMatricize, {"head_dim": shape.head_width, "patch_size": shape.patch, "shifts": shifts}]
    nmf = {"tensorize": tensorize, "factorize": package.NMF, "rank": 1, "num_iters": shape.rounds, "solver": "hals"}
    options = {"spatial_size": list(shape.window), "nmf": [package.FactorizerSubblock, {**nmf, **changes}]}
    return {
        "network": [package.SegmentationFactorizer, options],
        "loss": loss,
        "scheduler_config": {"interval": "step"},
    }


def released(folder: Path, kind: str, fold: int, made: FactorizerNet, **beside: object) -> Path:
    """One file where it lies in the released folder."""
    place = folder / "logs" / f"fold{fold}" / kind / "version_0" / "checkpoints"
    place.mkdir(parents=True)
    state = {f"net.{key}": value for key, value in made.state_dict().items()}
    torch.save({"epoch": 1999, "state_dict": state, **beside}, place / "epoch=1999-step=99999.ckpt")
    return place / "epoch=1999-step=99999.ckpt"


@pytest.mark.parametrize(
    ("name", "shape", "keys", "millions"),
    [
        ("resunet", FactorizerShape(), 95, 28.88),
        ("swin-factorizer", FactorizerShape(window=RELEASED_WINDOW), 141, 5.62),
    ],
)
def test_the_released_layouts(name: str, shape: FactorizerShape, keys: int, millions: float) -> None:
    layout = Layout.load(f"deepisles-swan-{name}")
    with torch.device("meta"):
        made = FactorizerNet(shape)
    assert {f"net.{key}": tuple(value.shape) for key, value in made.state_dict().items()} == layout.shapes
    assert len(layout.shapes) == keys
    assert sum(math.prod(value.shape) for value in made.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert shape_of(made.state_dict()) == shape
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}:\S+", source) for source in layout.source.split())


def test_sizes_are_the_files_own() -> None:
    """The authors' table has 7.3 million parameters, which perceptrons four times as wide have, and not those of their file."""
    with torch.device("meta"):
        made = FactorizerNet(FactorizerShape(window=RELEASED_WINDOW, wider=4))
    assert sum(math.prod(value.shape) for value in made.parameters()) / 1e6 == pytest.approx(7.37, abs=0.01)
    assert shape_of(made.state_dict()).wider == 4


def two_levels_plainly(
    tensors: dict, image: torch.Tensor, block: Callable[[torch.Tensor, str], torch.Tensor]
) -> torch.Tensor:
    """Down, up and across, whatever the blocks are."""
    x = F.conv3d(image, tensors["stem.weight"], padding=1)
    first = block(x, "encoder.blocks.0.blocks.0")
    deep = block(F.conv3d(first, tensors["encoder.blocks.1.blocks.0.weight"], stride=2), "encoder.blocks.1.blocks.1")
    up = "decoder.blocks.0.upsample"
    risen = F.conv_transpose3d(deep, tensors[f"{up}.weight"], tensors[f"{up}.bias"], stride=2)
    x = block(torch.cat([first, risen], 1), "decoder.blocks.0.blocks.0")
    return F.conv3d(x, tensors["heads.0.weight"], tensors["heads.0.bias"])


def residual_plainly(tensors: dict, image: torch.Tensor) -> torch.Tensor:
    def block(x: torch.Tensor, key: str) -> torch.Tensor:
        made = x
        for n in (1, 2):
            made = F.conv3d(made, tensors[f"{key}.conv{n}.weight"], tensors[f"{key}.conv{n}.bias"], padding=1)
            made = F.group_norm(made, 8, tensors[f"{key}.norm{n}.weight"], tensors[f"{key}.norm{n}.bias"])
            made = F.leaky_relu(made, 0.01) if n == 1 else made
        beside = tensors.get(f"{key}.shortcut.weight")
        return F.leaky_relu(made + (x if beside is None else F.conv3d(x, beside)), 0.01)

    return two_levels_plainly(tensors, image, block)


def factorised_plainly(tensors: dict, key: str, x: torch.Tensor, shape: FactorizerShape) -> torch.Tensor:
    """Patch by patch, head by head, rolled by rolled."""
    lin = f"{key}.in_proj.linear.weight"
    x = torch.einsum("oc,ncxyz->noxyz", tensors[lin][..., 0], x).relu()
    total = torch.zeros_like(x)
    for step in shape.shifts:
        turned = torch.roll(x, (step, step, step), (2, 3, 4))
        made = torch.zeros_like(turned)
        p, d = shape.patch, shape.head_width
        for head in range(x.shape[1] // d):
            for i in range(0, x.shape[2], p):
                for j in range(0, x.shape[3], p):
                    for k in range(0, x.shape[4], p):
                        here = (0, slice(head * d, head * d + d), slice(i, i + p), slice(j, j + p), slice(k, k + p))
                        matrix = turned[here].reshape(d, p**3).double()
                        u = tensors[f"{key}.factorize.init.u0"][:, 0].double()
                        v = tensors[f"{key}.factorize.init.v0"][:, 0].double()
                        for _ in range(shape.rounds):
                            u = ((matrix @ v + 1e-8) / (v @ v + 1e-8)).relu()
                            v = ((u @ matrix + 1e-8) / (u @ u + 1e-8)).relu()
                        made[here] = torch.outer(u, v).reshape(d, p, p, p).float()
        total += torch.roll(made, (-step, -step, -step), (2, 3, 4))
    out = tensors[f"{key}.out_proj.linear.weight"][..., 0]
    bias = tensors[f"{key}.out_proj.linear.bias"].reshape(1, -1, 1, 1, 1)
    return torch.einsum("oc,ncxyz->noxyz", out, total / len(shape.shifts)) + bias


def swin_plainly(tensors: dict, image: torch.Tensor, shape: FactorizerShape) -> torch.Tensor:
    def normed(x: torch.Tensor, key: str) -> torch.Tensor:
        mean, spread = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
        weight, bias = (tensors[f"{key}.norm.{part}"].reshape(1, -1, 1, 1, 1) for part in ("weight", "bias"))
        return (x - mean) / (spread + 1e-5).sqrt() * weight + bias

    def linear(x: torch.Tensor, key: str) -> torch.Tensor:
        made = torch.einsum("oc,ncxyz->noxyz", tensors[f"{key}.linear.weight"][..., 0], x)
        bias = tensors.get(f"{key}.linear.bias")
        return made if bias is None else made + bias.reshape(1, -1, 1, 1, 1)

    def block(x: torch.Tensor, key: str) -> torch.Tensor:
        if f"{key}.adapter.0.linear.weight" in tensors:
            x = linear(x, f"{key}.adapter.0")
        if f"{key}.pos_embed.pos" in tensors:
            x = x + tensors[f"{key}.pos_embed.pos"]
        x = x + factorised_plainly(tensors, f"{key}.blocks.nmf.fn.1", normed(x, f"{key}.blocks.nmf.fn.0"), shape)
        inner = F.gelu(linear(normed(x, f"{key}.blocks.mlp.fn.0"), f"{key}.blocks.mlp.fn.1.block.0"))
        return x + linear(inner, f"{key}.blocks.mlp.fn.1.block.3")

    return two_levels_plainly(tensors, image, block)


@pytest.mark.parametrize("shape", [RESIDUAL, SWIN], ids=["resunet", "swin-factorizer"])
def test_the_answer_is_the_originals(shape: FactorizerShape) -> None:
    made = network(shape)
    tensors = dict(made.state_dict())
    image = torch.randn(1, 3, 16, 16, 16, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        given = made(image)
        expected = swin_plainly(tensors, image, shape) if shape.window else residual_plainly(tensors, image)
    assert given.shape == (1, 1, 16, 16, 16)
    assert float(given.std()) > 0.05
    assert torch.allclose(given, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Imported, Path]:
    folder = tmp_path_factory.mktemp("released")
    released(folder, "resunet", 0, network(RESIDUAL))
    released(folder, "resunet", 4, network(RESIDUAL, 5))
    with pytest.MonkeyPatch.context() as patch:
        package = training.__wrapped__(patch)
        released(folder, "swin-factorizer", 0, network(SWIN), hyper_parameters=settings(package, SWIN))
    (folder / "out").mkdir()
    return convert(folder, folder / "out"), folder / "out"


def test_every_file_becomes_a_member_that_equals_it(imported: tuple[Imported, Path]) -> None:
    made, out = imported
    report = made.report()
    assert (report["missing"], report["unexpected"]) == (0, 0)
    assert made.card.options["members"] == ["main", "member_2", "member_3"]
    assert list(made.card.provenance["checkpoints_sha256"]) == ["resunet-0", "resunet-4", "swin-factorizer-0"]
    for graph in made.graphs:
        print(f"{graph.path.name}: {graph.differences} by {graph.exporter}")
        assert len(graph.differences) == 2 and max(graph.differences) < 1e-5
    model = Model(out)
    model.self_test()
    assert model.card.options["window"]["size"] == [16, 16, 16]
    image = torch.randn(1, 3, 16, 16, 16, generator=torch.Generator().manual_seed(8))
    for name, original in (("main", network(RESIDUAL)), ("member_3", network(SWIN))):
        with torch.no_grad():
            expected = original(image).numpy()
        given = model.session(name).run({"image": image.numpy()})["logits"]
        np.testing.assert_allclose(given, expected, atol=1e-4)


def known(shape: FactorizerShape) -> FactorizerNet:
    """Infarct where DWI and FLAIR together are brighter than ADC by more than what is usual: all else is switched off."""
    made = FactorizerNet(shape)
    skip = made.decoder.blocks[0].blocks[0]
    with torch.no_grad():
        for key, value in made.state_dict().items():
            if not key.endswith((".u0", ".v0")):
                value.zero_()
        made.stem.weight[0, :, 1, 1, 1] = torch.tensor([1.0, -1.0, 0.5])
        (skip.adapter[0].linear if shape.window else skip.shortcut).weight[0, 0] = 1.0
        made.heads[0].weight[0, 0], made.heads[0].bias[0] = 1.0, -4.0
    return made.eval()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ensemble of known networks, on a coarser grid than the released one, for the sake of time."""
    folder = tmp_path_factory.mktemp("known")
    released(folder, "resunet", 0, known(RESIDUAL))
    released(folder, "swin-factorizer", 0, known(SWIN))
    (folder / "out").mkdir()
    convert(folder, folder / "out")
    card = folder / "out" / "model.toml"
    text = card.read_text(encoding="utf-8")
    assert "spacing_mm = [2.0, 2.0, 2.0]" in text
    card.write_text(text.replace("spacing_mm = [2.0, 2.0, 2.0]", "spacing_mm = [4.0, 4.0, 4.0]"), encoding="utf-8")
    return folder / "out"


@pytest.mark.parametrize(
    "variant", [{"plane": "axial"}, {"plane": "oblique", "flipped": True, "shuffled": True}], ids=str
)
def test_what_it_has_learnt_lies_where_it_is_in_the_patient(learnt: Path, tmp_path: Path, variant: dict) -> None:
    model = Model(learnt)
    case = phantom_case(tmp_path / "study", **variant)
    roles = fill_roles(case.study, model.card.inputs[:2])
    inputs = {role: source.volume for role, source in roles.items()}
    assert case.result.segmentation is not None
    dwi, adc = inputs["dwi"], inputs["adc"]
    within = brain_mask(dwi.array_zyx, adc.array_zyx, dwi.spacing_mm_zyx)
    truth = (case.result.segmentation.mask_zyx > 0) & within
    # The infarct brighter than any noise, so that what so simple a rule marks is known to the voxel's edge.
    bright = np.where(truth, 2 * dwi.array_zyx[within].max(), dwi.array_zyx).astype(np.float32)
    inputs["dwi"] = Volume(bright, dwi.affine_lps)
    inputs["flair"] = elsewhere(inputs["dwi"])
    result = model.run(inputs, {})
    found = np.any(list(masks_in_patient(result, case.study, roles["dwi"]).values()), axis=0)
    print(f"Dice {agreement(found, truth):.3f} of {np.count_nonzero(truth)} voxels")
    assert agreement(found, truth) > 0.85
    for axis in range(3):
        assert np.count_nonzero(np.flip(found, axis) & truth) < 0.7 * np.count_nonzero(truth)


def elsewhere(volume: Volume) -> Volume:
    """The same image on another grid: the other way round along two axes."""
    turned = np.ascontiguousarray(volume.array_zyx[:, ::-1, ::-1])
    ends = [volume.array_zyx.shape[2] - 1, volume.array_zyx.shape[1] - 1, 0, 1]
    affine = volume.affine_lps @ np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:, 3] = volume.affine_lps @ ends
    return Volume(turned, affine)


def test_the_way_to_the_grid_and_back_is_the_originals() -> None:
    """Theirs: ``F.interpolate`` to 2 mm and back, without regard to corners."""
    image = torch.randn(1, 1, 13, 22, 19, generator=torch.Generator().manual_seed(2))
    shape = new_shape(image.shape[2:], (4.8, 1.8, 1.8), (2.0, 2.0, 2.0))
    theirs = F.interpolate(image, size=shape, mode="trilinear")
    assert np.abs(resized(image[0, 0].numpy(), shape, order=1, apart=None) - theirs[0, 0].numpy()).max() < 1e-5
    back = F.interpolate(theirs, size=image.shape[2:], mode="trilinear")
    ours = resized(theirs[0, 0].numpy(), image.shape[2:], order=1, apart=None)
    assert np.abs(ours - back[0, 0].numpy()).max() < 1e-5


def test_normalisation_is_the_originals(references: dict) -> None:
    """Theirs: MONAI's ``NormalizeIntensity(nonzero=True)``; the windows are held against MONAI's in test_references."""
    image = references["image"]
    made = normalised(image[None], [Channel(role="x", normalise="zscore_nonzero")], np.ones(image.shape, bool))[0]
    assert np.abs(made - references["zscore_nonzero"]).max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"solver": "mu"}, "solver 'mu'"), ({"rank": 2}, "rank 2"), ({"num_iters": "many"}, "'many' rounds")],
)
def test_what_solves_otherwise_is_refused(training: ModuleType, changes: dict, named: str) -> None:
    tensors = {f"net.{key}": value for key, value in FactorizerNet(SWIN).state_dict().items()}
    told = network_of(TrainingState(tensors, settings(training, SWIN)))
    assert (told.shape.shifts, told.shape.rounds) == (SWIN.shifts, SWIN.rounds)
    untold = network_of(TrainingState(tensors, {}))
    assert (untold.shape.shifts, untold.shape.rounds) == ((0, 1, 2, 3), 5)
    with pytest.raises(CheckpointMismatch, match=named):
        network_of(TrainingState(tensors, settings(training, SWIN, **changes)))


def test_other_files_are_refused(tmp_path: Path, training: ModuleType) -> None:
    with pytest.raises(CheckpointMismatch, match="does not hold"):
        convert(tmp_path, tmp_path)
    tensors = {f"net.{key}": value for key, value in FactorizerNet(RESIDUAL).state_dict().items()}
    with pytest.raises(CheckpointMismatch, match=r"missing: heads\.1\.bias"):
        network_of(TrainingState({key: value for key, value in tensors.items() if key != "net.heads.1.bias"}, {}))
    with pytest.raises(CheckpointMismatch, match=r"unexpected: more\.weight"):
        network_of(TrainingState({**tensors, "net.more.weight": torch.zeros(1)}, {}))
    with pytest.raises(CheckpointMismatch, match=r"it has loss\.weight"):
        network_of(TrainingState({**tensors, "loss.weight": torch.zeros(1)}, {}))


class Malicious:
    """Runs a command when a pickle of it is read as such."""

    def __reduce__(self) -> tuple:
        import os

        return os.system, ("touch /tmp/never",)


def test_a_file_that_names_what_training_does_not_is_refused(tmp_path: Path) -> None:
    released(tmp_path, "resunet", 0, network(RESIDUAL), hyper_parameters={"network": Malicious()})
    with pytest.raises(CheckpointUnsafe, match=r"posix\.system"):
        convert(tmp_path, tmp_path)
