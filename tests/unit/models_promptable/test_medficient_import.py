"""MedficientSAM's layouts convert, compute what the original's code computes, and put a known mask in its place."""

from __future__ import annotations

import functools
import math
import re
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from dicom_sr.check import check
from dicom_sr.document import render
from models.adapters.promptable import PromptableAdapter
from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.model import Model
from models.pillow import opencv_linear
from models.prompts import BoxPrompt, boxes_of
from models.volume import Volume
from tests.unit.dicom_sr_objects.cases import context, phantom_case

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from torch.nn import functional as F  # noqa: E402

from models.export import medficient_sam  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.efficientvit_network import L0, L1, L2, EfficientSam, EfficientShape  # noqa: E402
from tests.unit.models_image_text.released import randomised  # noqa: E402

Tensors = dict[str, torch.Tensor]
SMALL = EfficientShape(64, (4, 6, 8, 10, 32), (1, 2, 1, 2, 1), 2, 64, 32)
SEEN = EfficientShape(256, (4, 4, 4, 4, 32), (1, 1, 1, 1, 1), 1, 64, 32)


def saved(sam: EfficientSam, path: Path) -> Path:
    """As Lightning's trainer leaves it: names below ``model.``, the optimiser's settings beside."""
    settings = {
        "optimizer": functools.partial(torch.optim.AdamW, lr=2e-6),
        "scheduler": functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=345000),
        "scheduler_interval": "step",
    }
    content = {
        "state_dict": {f"model.{key}": value for key, value in sam.state_dict().items()},
        "hyper_parameters": settings,
        "epoch": 2,
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 2e-6, "params": [0]}]}],
        "callbacks": {"ModelCheckpoint{'monitor': 'val/acc'}": {"best_model_score": torch.tensor(0.9)}},
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "shape", "keys", "millions"), [("l0", L0, 409, 34.79), ("l1", L1, 515, 47.65), ("l2", L2, 645, 61.33)]
)
def test_the_released_layouts(name: str, shape: EfficientShape, keys: int, millions: float) -> None:
    layout = Layout.load(f"medficientsam-{name}")
    with torch.device("meta"):
        sam = EfficientSam(shape)
    assert {key: tuple(value.shape) for key, value in sam.state_dict().items()} == layout.shapes
    assert len(layout.shapes) == keys
    # README.md and notebooks/flop_counter.ipynb of the original.
    assert sum(math.prod(value.shape) for value in sam.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert medficient_sam.shape_of(sam.state_dict(), 512) == shape
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}:\S+", source) for source in layout.source.split())


def plainly(tensors: Tensors, image: torch.Tensor, grid: int) -> torch.Tensor:
    """The image encoder in the original's order, from the tensors by their published names."""

    def layer(x: torch.Tensor, key: str, stride: int = 1, gelu: bool = False) -> torch.Tensor:
        weight, bias = tensors[f"{key}.conv.weight"], tensors.get(f"{key}.conv.bias")
        groups = x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, 1, groups)
        if f"{key}.norm.weight" in tensors:
            mean, var, scale, shift = (
                tensors[f"{key}.norm.{n}"] for n in ("running_mean", "running_var", "weight", "bias")
            )
            x = F.batch_norm(x, mean, var, scale, shift, eps=1e-6)
        return F.gelu(x, approximate="tanh") if gelu else x

    def block(x: torch.Tensor, key: str, stride: int) -> torch.Tensor:
        if f"{key}.conv1.conv.weight" in tensors:
            y = layer(layer(x, f"{key}.conv1", gelu=True), f"{key}.conv2")
        elif f"{key}.spatial_conv.conv.weight" in tensors:
            y = layer(layer(x, f"{key}.spatial_conv", stride, gelu=True), f"{key}.point_conv")
        else:
            y = layer(x, f"{key}.inverted_conv", gelu=True)
            y = layer(layer(y, f"{key}.depth_conv", stride, gelu=True), f"{key}.point_conv")
        return x + y if stride == 1 else y

    def attention(x: torch.Tensor, key: str) -> torch.Tensor:
        n, width, rows, columns = x.shape
        qkv = F.conv2d(x, tensors[f"{key}.qkv.conv.weight"])
        wide = F.conv2d(qkv, tensors[f"{key}.aggreg.0.0.weight"], padding=2, groups=3 * width)
        wide = F.conv2d(wide, tensors[f"{key}.aggreg.0.1.weight"], groups=3 * width // 32)
        every = torch.cat([qkv, wide], 1).reshape(n, -1, 96, rows * columns)
        q, k, v = F.relu(every[:, :, :32]), F.relu(every[:, :, 32:64]), every[:, :, 64:]
        v = F.pad(v, (0, 0, 0, 1), value=1)
        made = v @ k.transpose(-1, -2) @ q
        made = made[:, :, :-1] / (made[:, :, -1:] + 1e-15)
        return x + layer(made.reshape(n, -1, rows, columns), f"{key}.proj")

    x, made = image, []
    for stage in range(5):
        key = f"image_encoder.backbone.stages.{stage}.op_list."
        count = len({name[len(key) :].split(".")[0] for name in tensors if name.startswith(key)})
        for number in range(count):
            if f"{key}{number}.context_module.main.qkv.conv.weight" in tensors:
                x = attention(x, f"{key}{number}.context_module.main")
                x = block(x, f"{key}{number}.local_module.main", 1)
            elif stage == number == 0:
                x = layer(x, f"{key}0", 2, gelu=True)
            else:
                x = block(x, f"{key}{number}.main", 1 if number else 2)
        made.append(x)
    neck = "image_encoder.neck."
    x = sum(
        F.interpolate(layer(each, f"{neck}input_ops.{n}.op_list.0"), (grid, grid), mode="bicubic")
        for n, each in enumerate((made[4], made[3], made[2]))
    )
    number = 0
    while f"{neck}middle.op_list.{number}.main.point_conv.conv.weight" in tensors:
        x = block(x, f"{neck}middle.op_list.{number}.main", 1)
        number += 1
    x = layer(x, f"{neck}output_ops.0.op_list.0")
    scale, shift = tensors["image_encoder.norm.weight"], tensors["image_encoder.norm.bias"]
    return F.layer_norm(x.permute(0, 2, 3, 1), scale.shape, scale, shift, 1e-6).permute(0, 3, 1, 2)


def test_the_encoder_is_the_originals() -> None:
    sam = randomised(EfficientSam(SMALL), 3)
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        given, expected = sam.image_encoder(image), plainly(dict(sam.state_dict()), image, SMALL.grid)
    assert given.shape == (2, 64, 8, 8)
    assert torch.allclose(given, expected, atol=1e-4, rtol=1e-4)


def test_a_corner_is_where_its_share_of_the_image_says() -> None:
    """``src/models/onnx``: corners as shares of the longer side, without half a pixel; logits enlarged to the image."""
    sam = randomised(EfficientSam(SMALL), 4)
    decoder = medficient_sam.CornerDecoder(sam)  # type: ignore[arg-type]
    seen: list[torch.Tensor] = []
    sam.prompt_encoder.pe_layer.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    embedding = torch.randn(1, 64, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        masks, scores = decoder(embedding, torch.tensor([[[16.0, 8.0, 48.0, 64.0]]]))
        low, _ = decoder.decoder(embedding, torch.tensor([[[15.5, 7.5, 47.5, 63.5]]]))
    assert torch.allclose(seen[0], torch.tensor([[[0.25, 0.125], [0.75, 1.0]]]))
    assert torch.allclose(masks, F.interpolate(low, (64, 64), mode="bilinear"), atol=1e-6)
    assert scores.shape == (1, 1)
    assert {m.eps for m in sam.modules() if isinstance(m, torch.nn.LayerNorm | torch.nn.BatchNorm2d)} == {1e-6}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[EfficientSam, Model]:
    folder = tmp_path_factory.mktemp("medficient")
    sam = randomised(EfficientSam(SMALL), 5)
    report = medficient_sam.convert_sized(saved(sam, folder / "best.ckpt"), folder, 64).report()  # type: ignore[arg-type]
    differences = [each for graph in report["graphs"].values() for each in graph["relative_differences"]]
    print("medficientsam", report["keys"], report["graphs"])
    assert (report["missing"], report["unexpected"], len(differences)) == (0, 0, 5)
    assert max(differences) < 2e-5
    return sam, Model(folder)  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(60, 90), (80, 50), (64, 64)], ids=str)
def test_masks_are_those_of_the_original(made: tuple[EfficientSam, Model], shape: tuple[int, int]) -> None:
    sam, model = made
    model.verify()
    model.self_test()
    adapter = model._adapter
    assert isinstance(adapter, PromptableAdapter)
    grey = np.random.default_rng(6).integers(0, 256, shape).astype(np.uint8)
    # cpp/src/main.cpp, written out; OpenCV's own numbers stand behind opencv_linear.
    high, wide = (int(64 / max(shape) * each + 0.5) for each in shape)
    small = opencv_linear(grey, (high, wide)) if shape != (64, 64) else grey.astype(np.float32)
    image = np.zeros((1, 3, 64, 64), np.float32)
    image[:, :, :high, :wide] = (small - small.min()) / max(float(small.max() - small.min()), 1e-8)
    assert np.abs(adapter.options.image.image_of(grey) - image).max() < 1e-6
    boxes = [BoxPrompt(1, 0, 10, 12, 40, 38), BoxPrompt(2, 0, 5, 3, 22, 44)]
    given = adapter.masks(adapter.embedding(grey), boxes, shape)
    corners = torch.tensor([[b.left, b.top, b.right, b.bottom] for b in boxes])[:, None] / max(shape)
    with torch.no_grad():
        embedding = sam.image_encoder(torch.from_numpy(image))
        logits, _ = medficient_sam.CornerDecoder(sam)(embedding, corners * 64)
        expected = F.interpolate(logits[:, :, :high, :wide], shape, mode="bilinear")[:, 0].sigmoid().numpy()
    assert np.abs(given - expected).max() < 1e-4
    assert ((given > 0.5) == (expected > 0.5)).mean() > 0.999
    assert np.ptp(expected) > 0.05


def known_weights() -> Tensors:
    """What is bright is the thing: brightness goes through the third stage to the embedding, and from there to the mask."""
    tensors = {key: torch.zeros_like(value) for key, value in EfficientSam(SEEN).state_dict().items()}
    for key in tensors:
        if key.endswith("running_var") or ("norm" in key and key.endswith("weight")):
            tensors[key] += 1
    stages = "image_encoder.backbone.stages."
    # Each halving takes the mean of the two rows and columns it makes one of.
    tensors[f"{stages}0.op_list.0.conv.weight"][0, 0, 1:, 1:] = 1
    for stage in (1, 2):
        tensors[f"{stages}{stage}.op_list.0.main.spatial_conv.conv.weight"][0, 0, 1:, 1:] = 0.25
        tensors[f"{stages}{stage}.op_list.0.main.point_conv.conv.weight"][0, 0] = 1
    bright = "image_encoder.neck.input_ops.2.op_list.0"
    tensors[f"{bright}.conv.weight"][0, 0] = 5
    tensors[f"{bright}.norm.bias"][0] = -9
    out = "image_encoder.neck.output_ops.0.op_list.0.conv"
    tensors[f"{out}.weight"][0, 0] = 1
    # Two constant channels besides, so that no normalisation divides by next to nothing.
    tensors[f"{out}.bias"][1:3] = torch.tensor([8.0, -8.0])
    first, norm, second = (f"mask_decoder.output_upscaling.{n}" for n in (0, 1, 3))
    tensors[f"{first}.weight"][0, 0] = 1
    tensors[f"{first}.weight"][0, 1] = -1
    tensors[f"{first}.bias"][2:4] = torch.tensor([2.0, -2.0])
    tensors[f"{norm}.weight"][:] = 1
    tensors[f"{second}.weight"][0, 0] = 1
    tensors[f"{second}.weight"][1, 1] = 1
    tensors["mask_decoder.output_hypernetworks_mlps.0.layers.2.bias"][:2] = torch.tensor([4.0, -4.0])
    return tensors


@pytest.mark.slow
def test_a_known_mask_lies_in_place(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    torch.save(known_weights(), tmp_path / "model" / "known.pth")
    medficient_sam.convert_sized(tmp_path / "model" / "known.pth", tmp_path / "model", 256)
    model = Model(tmp_path / "model")
    case = phantom_case(tmp_path / "study", plane="oblique", flipped=True, shuffled=True)
    assert case.result.segmentation is not None
    truth, volume = case.result.segmentation.mask_zyx, case.source.volume
    shown = Volume(np.where(truth > 0, 1000.0, 100.0).astype(np.float32), volume.affine_lps)
    result = model.segment({"image": shown}, boxes_of(truth), {})
    assert result.segmentation is not None
    (rendered,) = render(result, case.study, context(objects=("seg",)), case.source)
    check([rendered], case.study, result, case.source)
    seg = hd.seg.segread(BytesIO(rendered.encoded))
    read = seg.get_volume(combine_segments=True, relabel=False)
    points = read.map_indices_to_reference(np.argwhere(read.array > 0))
    back = (np.linalg.inv(volume.affine_lps) @ np.c_[points, np.ones(len(points))].T)[:3].round().astype(int)
    mask = np.zeros(truth.shape, bool)
    mask[back[2], back[1], back[0]] = True
    agreement = 2 * np.count_nonzero(mask & (truth > 0)) / (np.count_nonzero(mask) + np.count_nonzero(truth))
    print("agreement (Dice) of the known mask:", agreement)
    assert agreement > 0.85


@pytest.mark.parametrize("change", ["missing", "unexpected", "another shape", "another network", "a pickled module"])
def test_other_files_are_refused(tmp_path: Path, change: str) -> None:
    tensors = dict(EfficientSam(SMALL).state_dict())
    key = "image_encoder.backbone.stages.4.op_list.1.context_module.main.aggreg.0.1.weight"
    kind, told = CheckpointMismatch, re.escape(key)
    if change == "missing":
        del tensors[key]
    elif change == "unexpected":
        tensors["text_encoder.weight"], told = torch.zeros(2), "text_encoder"
    elif change == "another shape":
        tensors[key] = torch.zeros(3)
    elif change == "another network":
        tensors, told = {"image_encoder.pos_embed": torch.zeros(2)}, "not a checkpoint of MedficientSAM"
    torch.save(torch.nn.Linear(2, 2) if change == "a pickled module" else tensors, tmp_path / "x.pth")
    if change == "a pickled module":
        kind, told = CheckpointUnsafe, "more than tensors"
    with pytest.raises(kind, match=told):
        medficient_sam.convert_sized(tmp_path / "x.pth", tmp_path, 64)
    assert not list(tmp_path.glob("*.onnx"))
