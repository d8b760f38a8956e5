"""MulModSeg's layouts convert for CT and MR, compute what the original's code computes, and put known labels in place."""

from __future__ import annotations

import itertools
import math
import re
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from dicom_sr.check import check
from dicom_sr.document import render
from models.dense.segmenter import DenseSegmenter
from models.errors import CheckpointMismatch
from models.model import Model
from models.volume import Volume
from tests.unit.dicom_sr_objects.cases import context, phantom_case

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from torch.nn import functional as F  # noqa: E402

from models.export.checkpoint import Layout  # noqa: E402
from models.export.mulmodseg import convert_for, shape_of  # noqa: E402
from models.export.mulmodseg_network import MulModSeg, MulModSegShape, UnetShape  # noqa: E402
from models.export.swin_unetr_network import SwinUnetrShape, _Block, _Stage  # noqa: E402
from tests.unit.models_image_text.released import randomised  # noqa: E402

SMALL = MulModSegShape(UnetShape(8))
SWIN = MulModSegShape(SwinUnetrShape(64, 16, (2, 1, 1, 1), (1, 2, 2, 2), 3))
MR, CT = 0, 1
SPLEEN, RIGHT_KIDNEY = 1, 2
Tensors = dict[str, torch.Tensor]


def network(shape: MulModSegShape) -> MulModSeg:
    made = MulModSeg(shape)
    fixed = {key: value.clone() for key, value in made.state_dict().items() if not value.is_floating_point()}
    randomised(made, 9, 0.12)
    made.load_state_dict(fixed, strict=False)
    made.organ_embedding.normal_(0, 1, generator=torch.Generator().manual_seed(2))
    return made.eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "shape", "keys", "millions"),
    [("unet", MulModSegShape(), 117, 19.42), ("swinunetr", MulModSegShape(SwinUnetrShape()), 170, 62.60)],
)
def test_the_layouts(name: str, shape: MulModSegShape, keys: int, millions: float) -> None:
    layout = Layout.load(f"mulmodseg-{name}")
    with torch.device("meta"):
        made = MulModSeg(shape)
    assert {key: tuple(value.shape) for key, value in made.state_dict().items()} == layout.shapes
    assert len(layout.shapes) == keys
    assert sum(math.prod(value.shape) for value in made.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert shape_of(made.state_dict()) == shape
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}:\S+", source) for source in layout.source.split())


def unet_plainly(tensors: Tensors, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The U-Net from the tensors by their published names, normalised by the batch as the original does."""

    def twice(x: torch.Tensor, key: str) -> torch.Tensor:
        for n in (0, 1):
            conv, norm = (f"backbone.{key}.ops.{n}.{part}" for part in ("conv1", "bn1"))
            x = F.conv3d(x, tensors[f"{conv}.weight"], tensors[f"{conv}.bias"], padding=1)
            x = F.relu(F.batch_norm(x, None, None, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"], True))
        return x

    x, beside = image, []
    for name in ("down_tr64", "down_tr128", "down_tr256"):
        beside.append(twice(x, name))
        x = F.max_pool3d(beside[-1], 2)
    deep = x = twice(x, "down_tr512")
    for name, each in zip(("up_tr256", "up_tr128", "up_tr64"), reversed(beside), strict=True):
        up = f"backbone.{name}.up_conv"
        x = F.conv_transpose3d(x, tensors[f"{up}.weight"], tensors[f"{up}.bias"], 2)
        x = twice(torch.cat([x, each], 1), name)
    return deep, x


def heads_plainly(tensors: Tensors, deep: torch.Tensor, last: torch.Tensor, modality: int) -> torch.Tensor:
    """One grouped convolution for all classes, as the original has it."""

    def conv(x: torch.Tensor, key: str) -> torch.Tensor:
        return F.conv3d(x, tensors[f"{key}.weight"], tensors[f"{key}.bias"])

    def normed(x: torch.Tensor, key: str) -> torch.Tensor:
        return F.relu(F.group_norm(x, 16, tensors[f"{key}.weight"], tensors[f"{key}.bias"]))

    words = F.relu(
        F.linear(tensors["organ_embedding"][modality], tensors["text_to_vision.weight"], tensors["text_to_vision.bias"])
    )
    seen = conv(normed(deep, "GAP.0").mean((2, 3, 4), keepdim=True), "GAP.3")
    joint = torch.cat([seen.expand(len(words), -1, 1, 1, 1), words[..., None, None, None]], 1)
    made = conv(joint, "controller").flatten(1)
    first, second, third, *shifts = made.split([64, 64, 8, 8, 8, 1], 1)
    x = conv(normed(last, "precls_conv.0"), "precls_conv.2").repeat(1, len(words), 1, 1, 1)
    n = len(words)
    x = F.relu(F.conv3d(x, first.reshape(n * 8, 8, 1, 1, 1), shifts[0].reshape(-1), groups=n))
    x = F.relu(F.conv3d(x, second.reshape(n * 8, 8, 1, 1, 1), shifts[1].reshape(-1), groups=n))
    return F.conv3d(x, third.reshape(n, 8, 1, 1, 1), shifts[2].reshape(-1), groups=n)


@pytest.mark.parametrize("modality", [MR, CT])
def test_the_answer_is_the_originals(modality: int) -> None:
    made = network(SMALL)
    tensors = dict(made.state_dict())
    image = torch.rand(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        given = made(image, modality)
        expected = heads_plainly(tensors, *unet_plainly(tensors, image), modality)
        other = made(image, 1 - modality)
    assert given.shape == (1, 14, 16, 24, 16)
    assert torch.allclose(given, expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(given, other, atol=1e-2)


@pytest.mark.parametrize(("side", "shifted"), [(4, False), (4, True), (8, True), (2, True)])
def test_places_attend_to_those_of_their_window(side: int, shifted: bool) -> None:
    """Written out place by place: padded to whole windows of three, rolled, and nothing across the border."""
    window, heads, width = 3, 2, 8
    block = _Block(width, heads, side, window, shifted=shifted)
    index = block.attn.relative_position_index.clone()
    randomised(block, 5, 0.4)
    block.attn.relative_position_index.copy_(index)
    x = torch.randn(1, side, side, side, width, generator=torch.Generator().manual_seed(6))
    reach = min(window, side)
    shift = window // 2 if shifted and side > window else 0
    padded = -(-side // reach) * reach
    normed = torch.zeros(padded, padded, padded, width)
    normed[:side, :side, :side] = F.layer_norm(x[0], (width,), block.norm1.weight, block.norm1.bias)
    q, k, v = block.attn.qkv(normed).reshape(-1, 3, heads, width // heads).unbind(1)
    places = list(itertools.product(range(padded), repeat=3))
    moved = [tuple((each - shift) % padded for each in place) for place in places]

    def region(at: tuple[int, ...]) -> tuple[int, ...]:
        """Which part of the rolled cube a place is in: what was beyond the border is apart."""
        if not shift:
            return (0, 0, 0)
        return tuple(0 if each < padded - reach else 1 if each < padded - shift else 2 for each in at)

    def number(at: tuple[int, ...]) -> int:
        a, b, c = (each % reach for each in at)
        return (a * reach + b) * reach + c

    made = torch.zeros(len(places), width)
    for row, at in enumerate(moved):
        mates = [
            n for n, other in enumerate(moved) if all(a // reach == b // reach for a, b in zip(at, other, strict=True))
        ]
        apart = torch.tensor([0.0 if region(moved[n]) == region(at) else -100.0 for n in mates])
        bias = block.attn.relative_position_bias_table[[int(index[number(at), number(moved[n])]) for n in mates]]
        scores = torch.einsum("hc,mhc->mh", q[row], k[mates]) * (width // heads) ** -0.5 + bias + apart[:, None]
        made[row] = torch.einsum("mh,mhc->hc", scores.softmax(0), v[mates]).flatten()
    mixed = x[0] + block.attn.proj(made).reshape(padded, padded, padded, width)[:side, :side, :side]
    inner = F.layer_norm(mixed, (width,), block.norm2.weight, block.norm2.bias)
    expected = mixed + block.mlp["linear2"](F.gelu(block.mlp["linear1"](inner)))
    assert torch.allclose(block(x)[0], expected, atol=1e-4)


def test_merging_takes_the_corners_as_released() -> None:
    """Two of them twice, in place of two that are never read."""
    stage = _Stage(0, SwinUnetrShape(8, 4, (0,), (1,), 3))
    x = torch.arange(8.0).reshape(1, 2, 2, 2, 1) * torch.tensor([1.0, 0, 0, 0])
    seen: list[torch.Tensor] = []
    stage.downsample["norm"].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    stage(x)
    # Place z, y, x has the number 4 z + 2 y + x.
    assert seen[0].flatten()[::4].tolist() == [0, 4, 2, 1, 5, 2, 1, 7]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "swinunetr"])
def test_a_checkpoint_becomes_a_model(tmp_path: Path, name: str) -> None:
    made = network(SMALL if name == "unet" else SWIN)
    beside = {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]}, "epoch": 5}
    torch.save({"net": made.state_dict(), **beside}, tmp_path / "epoch_5.pt")
    size = 32 if name == "unet" else 64
    report = convert_for("CT", tmp_path / "epoch_5.pt", tmp_path, size=size).report()
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    print("mulmodseg", name, report["keys"], differences)
    assert (report["missing"], report["unexpected"], len(differences)) == (0, 0, 2)
    assert max(differences) < 5e-5
    model = Model(tmp_path)
    model.self_test()
    assert [each.name for each in model.card.labels][::12] == ["Spleen", "Duodenum"]
    if name == "swinunetr":
        return
    array = np.random.default_rng(3).uniform(-300, 400, (size, size, size)).astype(np.float32)
    labels = DenseSegmenter(model).labels({"image": Volume(array, np.diag([-1.5, -1.5, 2.0, 1.0]))})
    image = np.clip((array.transpose(2, 1, 0) + 125) / 400, 0, 1)[None, None]
    with torch.no_grad():
        logits = made(torch.from_numpy(image), CT)[0].numpy()
    expected = logits.argmax(0).transpose(2, 1, 0)
    assert (labels == expected).mean() > 0.995
    assert len(np.unique(expected)) > 1


def known_weights() -> MulModSeg:
    """Brightness goes through the shortcut of the first level to the last features; classes are steps of it.

    In the words of MR the spleen and the right kidney have changed places.
    """
    made = MulModSeg(SMALL)
    tensors = {key: torch.zeros_like(value) for key, value in made.state_dict().items()}
    first = SMALL.backbone.outward
    for key, channel in (
        ("down_tr64.ops.0", 0),
        ("down_tr64.ops.1", 0),
        ("up_tr64.ops.0", first),
        ("up_tr64.ops.1", 0),
    ):
        inward = channel if key != "up_tr64.ops.0" else SMALL.backbone.outward * 2
        tensors[f"backbone.{key}.conv1.weight"][0, inward, 1, 1, 1] = 1
        tensors[f"backbone.{key}.bn1.weight"][0] = 1
        tensors[f"backbone.{key}.bn1.bias"][0] = 3  # nothing but the very darkest is cut off
    tensors["precls_conv.0.weight"] += 1
    tensors["precls_conv.0.bias"] += 3
    tensors["precls_conv.2.weight"][0, 0] = 1
    tensors["text_to_vision.weight"][:14, :14] = torch.eye(14)
    tensors["organ_embedding"][:, :14, :14] = torch.eye(14)
    tensors["organ_embedding"][MR][[SPLEEN, RIGHT_KIDNEY]] = tensors["organ_embedding"][MR][[RIGHT_KIDNEY, SPLEEN]]
    made.load_state_dict(tensors)
    return made.eval()  # type: ignore[no-any-return]


def with_steps(made: MulModSeg, values: np.ndarray, low: list[float], middle: float, high: float) -> MulModSeg:
    """Classes that win from midway between two brightnesses on.

    Parameters
    ----------
    values : numpy.ndarray
        Every value of the one window. Where it is does not matter: nothing here looks at its neighbours.
    low, middle, high : float
        Values of what is neither, of the spleen, of the right kidney.
    """
    window = torch.from_numpy(values.reshape(1, 1, 48, 40, 16).astype(np.float32))
    with torch.no_grad():
        _, last = made.backbone(window)
        seen = made.precls_conv(last)[0, 0]
        first, second, third = (
            max(float(seen[torch.isclose(window[0, 0], torch.tensor(each), atol=1e-4)].mean()) for each in group)
            for group in (low, [middle], [high])
        )
        assert first < second < third
        steps = ((first + second) / 2, (second + third) / 2)
        controller = made.controller
        for word, slope, offset in ((0, 0, 0), (1, 10, -10 * steps[0]), (2, 20, -10 * sum(steps))):
            # First, second and last weight of one channel; then the last shift.
            for row, value in ((0, 1.0), (64, 1.0), (128, slope), (152, offset)):
                controller.weight[row, 256 + word] = value
        for word in range(3, 14):
            controller.weight[152, 256 + word] = -1000
    return made


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_known_labels_lie_in_place(tmp_path: Path, modality: str) -> None:
    case = phantom_case(tmp_path / "study", flipped=True, shuffled=True)
    assert case.result.segmentation is not None
    truth, volume = case.result.segmentation.mask_zyx, case.source.volume
    painted = np.select([truth == 1, truth > 1], [100.0, 250.0], 0.0) + (50 if modality == "MR" else 0)
    image = np.clip((painted + 125) / 400, 0, 1) if modality == "CT" else (painted - painted.mean()) / painted.std()
    values = np.zeros(48 * 40 * 16)  # what the window has beyond the image is zero
    values[: image.size] = image.ravel()
    neither, spleen, kidney = (float(image[where].flat[0]) for where in (truth == 0, truth == 1, truth > 1))
    made = with_steps(known_weights(), values, [0.0, neither], spleen, kidney)
    folder = tmp_path / "model"
    folder.mkdir()
    torch.save({"net": made.state_dict()}, folder / "epoch_1.pt")
    convert_for(modality, folder / "epoch_1.pt", folder)  # type: ignore[arg-type]
    spacing = [round(each, 4) for each in volume.spacing_mm_zyx[::-1]]
    # The grid of the images, and one window over all of it.
    changes = {"spacing_mm = [1.5, 1.5, 2.0]": f"spacing_mm = {spacing}", "size = [96, 96, 96]": "size = [48, 40, 16]"}
    result = changed(folder, changes).run({"image": Volume(painted.astype(np.float32), volume.affine_lps)}, {})
    (rendered,) = render(result, case.study, context(objects=("seg",)), case.source)
    check([rendered], case.study, result, case.source)
    seg = hd.seg.segread(BytesIO(rendered.encoded))
    numbers = {str(item.SegmentLabel): item.SegmentNumber for item in seg.SegmentSequence}
    assert set(numbers) == {"Spleen", "Right kidney"}
    order = ("Spleen", "Right kidney") if modality == "CT" else ("Right kidney", "Spleen")
    for name, wanted in zip(order, (truth == 1, truth > 1), strict=True):
        read = seg.get_volume(segment_numbers=[numbers[name]], combine_segments=True, relabel=False)
        points = read.map_indices_to_reference(np.argwhere(read.array > 0))
        back = (np.linalg.inv(volume.affine_lps) @ np.c_[points, np.ones(len(points))].T)[:3].round().astype(int)
        mask = np.zeros(truth.shape, bool)
        mask[back[2], back[1], back[0]] = True
        assert np.array_equal(mask, wanted)


def changed(folder: Path, changes: dict[str, str]) -> Model:
    """The model with other lines in its card."""
    card = folder / "model.toml"
    text = card.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    card.write_text(text, encoding="utf-8")
    return Model(folder)


@pytest.mark.parametrize("change", ["missing", "unexpected", "another shape", "no words", "fewer classes", "another"])
def test_other_layouts_are_refused(tmp_path: Path, change: str) -> None:
    tensors = dict(MulModSeg(SMALL).state_dict())
    key = "backbone.up_tr128.ops.1.bn1.running_mean"
    told = re.escape(key)
    if change == "missing":
        del tensors[key]
    elif change == "unexpected":
        tensors["backbone.out_tr.final_conv.weight"], told = torch.zeros(2), "out_tr"
    elif change == "another shape":
        tensors[key] = torch.zeros(3)
    elif change == "no words":
        tensors["organ_embedding"], told = torch.zeros(14, 256), "not words of MR and of CT"
    elif change == "fewer classes":
        tensors["organ_embedding"], told = torch.zeros(2, 5, 512), "5 classes"
    else:
        tensors, told = {"fc.weight": torch.zeros(2)}, "not a checkpoint of MulModSeg"
    torch.save({"net": tensors}, tmp_path / "x.pt")
    with pytest.raises(CheckpointMismatch, match=told):
        convert_for("CT", tmp_path / "x.pt", tmp_path)
    assert not list(tmp_path.glob("*.onnx"))
