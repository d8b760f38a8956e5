"""nnU-Net v1's results folders convert and equal torch; their pickles are not read."""

from __future__ import annotations

import json
import pickle
import tomllib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from torch import nn  # noqa: E402

from models.card import CARD_FILE, Card  # noqa: E402
from models.export.card_text import toml_text  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.nnunet_network import NnUNet  # noqa: E402
from models.export.nnunet_v1 import convert, network_of, renamed, shape_of  # noqa: E402
from tests.unit.models_dense.conftest import BRAIN, STRUCTURE, term  # noqa: E402

SEALS = Path(__file__).resolve().parents[3] / "models" / "export" / "cards" / "nnunet" / "deepisles-seals.toml"


class _Block(nn.Module):
    """One convolution of version 1: its norm is called ``instnorm``."""

    def __init__(self, wide: int, out: int, kernel: tuple[int, ...], stride: tuple[int, ...] = (1, 1, 1)) -> None:
        super().__init__()
        self.conv = nn.Conv3d(wide, out, kernel, stride, tuple(k // 2 for k in kernel))
        self.instnorm = nn.InstanceNorm3d(out, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.leaky_relu(self.instnorm(self.conv(x)), 0.01)


class _Blocks(nn.Module):
    def __init__(self, *blocks: _Block) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class Original(nn.Module):
    """Generic_UNet as version 1 builds it: two stages of a decoder whose kernels are those of the stage below."""

    def __init__(self) -> None:
        super().__init__()
        features, kernels = (4, 6, 8), ((1, 3, 3), (3, 3, 3), (3, 3, 3))
        strides = ((1, 2, 2), (2, 2, 2))
        self.conv_blocks_context = nn.ModuleList()
        wide = 2
        for n in range(2):
            first = _Block(wide, features[n], kernels[n], strides[n - 1] if n else (1, 1, 1))
            self.conv_blocks_context.append(_Blocks(first, _Block(features[n], features[n], kernels[n])))
            wide = features[n]
        lowest = (_Blocks(_Block(wide, 8, kernels[2], strides[1])), _Blocks(_Block(8, 8, kernels[2])))
        self.conv_blocks_context.append(nn.Sequential(*lowest))
        self.conv_blocks_localization, self.tu, self.seg_outputs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for u in range(2):
            out, kernel = features[1 - u], kernels[2 - u]
            halves = (_Blocks(_Block(2 * out, out, kernel)), _Blocks(_Block(out, out, kernel)))
            self.conv_blocks_localization.append(nn.Sequential(*halves))
            self.tu.append(nn.ConvTranspose3d(features[2 - u], out, strides[1 - u], strides[1 - u], bias=False))
            self.seg_outputs.append(nn.Conv3d(out, 2, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = []
        for stage in self.conv_blocks_context:
            x = stage(x)
            maps.append(x)
        for u in range(2):
            x = self.conv_blocks_localization[u](torch.cat([self.tu[u](x), maps[1 - u]], 1))
        return self.seg_outputs[1](x)


def original(seed: int) -> Original:
    torch.manual_seed(seed)
    made = Original().eval()
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(torch.randn_like(value) * 0.4)
    return made


SEED = 4  # with these weights about half of a noise image is labelled
PLANS: dict[str, Any] = {
    "num_classes": 1,
    "modalities": {0: "dwi", 1: "adc"},
    "normalization_schemes": OrderedDict({0: "nonCT", 1: "CT"}),
    "use_mask_for_norm": OrderedDict({0: True, 1: False}),
    "transpose_forward": [0, 1, 2],
    "dataset_properties": {
        "intensityproperties": {
            1: {"mean": 800.0, "sd": 300.0, "percentile_00_5": 0.0, "percentile_99_5": np.float64(3000.0)}
        }
    },
    "plans_per_stage": {
        0: {"patch_size": np.array([8, 16, 16]), "current_spacing": np.array([8.0, 4.0, 4.0])},
        1: {
            "patch_size": np.array([8, 32, 32]),
            "current_spacing": np.array([4.0, 2.0, 2.0]),
            "pool_op_kernel_sizes": [[1, 2, 2], [2, 2, 2]],
        },
    },
}


def as_json(plans: dict[str, Any]) -> str:
    """What docs/models.md tells people to do with the pickle."""
    return json.dumps(plans, default=lambda each: each.tolist() if hasattr(each, "tolist") else str(each))


def results(folder: Path, folds: int = 1, plans: dict[str, Any] | None = None) -> Path:
    """A results folder as version 1 leaves it, with the pickle in place, the plans as JSON and a card."""
    folder.mkdir()
    for fold in range(folds):
        (folder / f"fold_{fold}").mkdir()
        content = {
            "epoch": 1000,
            "state_dict": OrderedDict(original(fold + SEED).state_dict()),
            "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 0.01}]},
            "plot_stuff": ([np.float64(0.5)], [0.4], [], [np.float64(0.7)]),
            "best_stuff": (None, np.float64(0.3), None),
        }
        torch.save(content, folder / f"fold_{fold}" / "model_final_checkpoint.model")
    (folder / "plans.pkl").write_bytes(pickle.dumps(PLANS))
    (folder / "plans.json").write_text(as_json(plans or PLANS))
    card = {
        "id": "known",
        "version": "1.0.0",
        "title": "Known",
        "name": "Known",
        "manufacturer": "Test",
        "family": "feed_forward",
        "licence": "Apache-2.0",
        "intended_use": "test",
        "finding": STRUCTURE,
        "site": BRAIN,
        "inputs": [{"role": role, "kind": "image", "modality": "MR"} for role in ("dwi", "adc")],
        "labels": [{"value": 1, "name": "A", "finding": term("A"), "category": STRUCTURE, "site": BRAIN}],
        "options": {"orientation": "LPS", "image_spline": 1},
    }
    card["inputs"][1]["same_grid_as"] = "dwi"
    (folder / "card.toml").write_text(toml_text(card), encoding="utf-8")
    return folder


def test_the_released_layout() -> None:
    """At the sizes version 1 plans for a window of 128 voxels; those of SEALS stand in its plans."""
    layout = Layout.load("nnunet-v1")
    own = renamed({key: torch.empty(shape, device="meta") for key, shape in layout.shapes.items()})
    assert len(layout.shapes) == len(own) == 98
    shape = shape_of(own)
    assert shape.features == (32, 64, 128, 256, 320, 320) and (shape.channels, shape.classes) == (2, 2)
    assert shape.strides == ((1, 1, 1), *((2, 2, 2),) * 5) and shape.encoder_blocks == (2,) * 6
    with torch.device("meta"):
        wanted = {key: tuple(value.shape) for key, value in NnUNet(shape).state_dict().items()}
    given = {key: tuple(value.shape) for key, value in own.items()}
    assert given.items() <= wanted.items()


def test_the_network_is_the_original_s() -> None:
    theirs = original(3)
    ours = network_of(theirs.state_dict()).eval()
    assert ours.shape.kernels[0] == (1, 3, 3) and ours.shape.decoder_kernels == ((3, 3, 3), (3, 3, 3))
    image = torch.randn(2, 2, 4, 16, 16)
    with torch.no_grad():
        assert torch.allclose(ours(image), theirs(image), atol=1e-5)


@pytest.mark.parametrize("change", ["unknown", "missing", "shape"])
def test_another_layout_is_refused(change: str) -> None:
    state = dict(original(0).state_dict())
    if change == "unknown":
        state["conv_blocks_context.0.blocks.0.se.weight"] = torch.zeros(1)
    elif change == "missing":
        del state["conv_blocks_context.1.blocks.1.instnorm.bias"]
    else:
        state["tu.1.weight"] = torch.zeros(6, 5, 1, 2, 2)
    with pytest.raises(CheckpointMismatch):
        network_of(state)


@pytest.mark.slow
def test_a_results_folder_becomes_a_model(tmp_path: Path) -> None:
    folder, out = results(tmp_path / "nnUNetTrainerV2__nnUNetPlansv2.1", folds=2), tmp_path / "out"
    out.mkdir()
    imported = convert(folder, out)
    graphs = imported.report()["graphs"]
    print("nnunet-v1", imported.keys, graphs)
    assert set(graphs) == {"main.onnx", "member_2.onnx"}
    assert all(max(each["relative_differences"]) < 1e-4 for each in graphs.values())
    options = Card.load(out).options
    assert options["combine"] == "mean_probability" and options["spacing_mm"] == [4.0, 2.0, 2.0]
    assert [each["normalise"] for each in options["channels"]] == ["zscore_mask", "clip_standardise"]
    assert options["window"]["size"] == [8, 32, 32] and options["image_spline"] == 1
    model = Model(out)
    model.self_test()
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    volumes = {role: Volume(rng.uniform(1, 900, (8, 32, 32)).astype(np.float32), affine) for role in ("dwi", "adc")}
    result = model.run(volumes, {})
    # One window, on the grid itself: the same arithmetic by hand, with the original's networks.
    dwi = volumes["dwi"].array_zyx
    image = np.stack(
        [(dwi - dwi.mean()) / max(dwi.std(), 1e-8), (np.clip(volumes["adc"].array_zyx, 0, 3000) - 800) / 300]
    )
    with torch.no_grad():
        answers = [torch.softmax(original(n + SEED)(torch.from_numpy(image[None]).float()), 1) for n in range(2)]
    wanted = (sum(answers) / 2)[0].argmax(0).numpy() > 0
    found = np.zeros_like(wanted) if result.segmentation is None else result.segmentation.mask_zyx > 0
    assert 0.05 < wanted.mean() < 0.95 and (found != wanted).mean() < 1e-3
    assert (out / CARD_FILE).exists()


def test_what_the_plans_deny_is_refused(tmp_path: Path) -> None:
    for number, (change, words) in enumerate(
        [
            ({"num_classes": 3}, "other channels or classes"),
            ({"normalization_schemes": {"0": "nonCT", "1": "CT2"}}, "normalisation CT2"),
            ({"plans_per_stage": {0: PLANS["plans_per_stage"][0]}}, "KeyError"),
            (
                {"plans_per_stage": {1: {**PLANS["plans_per_stage"][1], "pool_op_kernel_sizes": [[2, 2, 2]] * 2}}},
                "another configuration",
            ),
        ]
    ):
        folder = results(tmp_path / f"wrong{number}", plans={**PLANS, **change})
        with pytest.raises(CheckpointMismatch, match=words):
            convert(folder, tmp_path)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    folder = results(tmp_path / "folder")
    (folder / "plans.json").unlink()
    with pytest.raises(CheckpointMismatch, match=r"plans\.json cannot be read"):
        convert(folder, tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "run",))

    torch.save({"state_dict": {"a": Evil()}}, folder / "fold_0" / "model_final_checkpoint.model")
    with pytest.raises(CheckpointUnsafe):
        convert(folder, tmp_path)
    assert not (tmp_path / "run").exists()


def test_the_card_of_seals_is_complete() -> None:
    card = tomllib.loads(SEALS.read_text(encoding="utf-8"))
    assert [each["role"] for each in card["inputs"]] == ["dwi", "adc"] and card["options"]["orientation"] == "LPS"
    assert [each["name"] for each in card["labels"]] == ["Ischemic Stroke"] and card["clinical"] is False
