"""nnU-Net v2's results folders convert and equal torch, in both spellings of the plans; what is not known is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.card_text import toml_text  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.nnunet import convert  # noqa: E402
from models.export.nnunet_network import NnUNet, NnUNetShape  # noqa: E402
from models.export.nnunet_plans import read_plans  # noqa: E402
from tests.unit.models_dense.conftest import BRAIN, STRUCTURE, term  # noqa: E402

pytestmark = pytest.mark.slow
NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
FULL = {"features": (32, 64, 128, 256, 320, 320), "kernels": ((3, 3, 3),) * 6}
STRIDES = ((1, 1, 1), *((2, 2, 2),) * 5)


@pytest.mark.parametrize(
    ("layout", "kind", "encoder", "decoder", "count"),
    [("nnunet", "plain", (2,) * 6, (2,) * 5, 292), ("nnunet-resenc", "residual", (1, 3, 4, 6, 6, 6), (1,) * 5, 956)],
)
def test_the_released_layout(layout: str, kind: Any, encoder: tuple, decoder: tuple, count: int) -> None:
    released = Layout.load(layout)
    with torch.device("meta"):
        shape = NnUNetShape(kind, 1, 25, strides=STRIDES, encoder_blocks=encoder, decoder_blocks=decoder, **FULL)
        state = NnUNet(shape).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == released.shapes
    assert len(released.shapes) == count


def old_plans() -> dict[str, Any]:
    """A thick-slice, two-channel configuration as versions before 2.3 wrote it; the network inherits it."""
    base = {
        "patch_size": [4, 16, 16],
        "spacing": [4.0, 1.0, 1.0],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, True],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": [2, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3]],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2]],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
    }
    ct = {"0": {"mean": 40.0, "std": 100.0, "percentile_00_5": -500.0, "percentile_99_5": 300.0}}
    return {
        "transpose_forward": [0, 2, 1],
        "foreground_intensity_properties_per_channel": ct,
        "configurations": {"base": base, "3d_fullres": {"inherits_from": "base"}},
    }


def new_plans() -> dict[str, Any]:
    """A residual encoder as version 2.3 and later write it."""
    network = {
        "features_per_stage": [4, 6],
        "n_stages": 2,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 2,
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_blocks_per_stage": [1, 2],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "nonlin": "torch.nn.LeakyReLU",
    }
    name = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    chosen = {
        "patch_size": [8, 8, 8],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "architecture": {"network_class_name": name, "arch_kwargs": network},
    }
    return {"transpose_forward": [0, 1, 2], "configurations": {"3d_fullres": chosen}}


def card(modalities: tuple[str, ...], labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id": "site-structures",
        "version": "1",
        "title": "Structures",
        "name": "Structures",
        "manufacturer": "Site",
        "family": "feed_forward",
        "licence": "site's",
        "intended_use": "test",
        "finding": STRUCTURE,
        "site": BRAIN,
        "inputs": [{"role": f"r{n}", "kind": "image", "modality": each} for n, each in enumerate(modalities)],
        "labels": [
            {"value": n, "name": name, "finding": term(name), "category": STRUCTURE, "site": BRAIN}
            for n, name in enumerate(labels, start=1)
        ],
        "options": {"orientation": "RAS"},
    }


def results_folder(
    folder: Path, plans: dict, dataset: dict, description: dict, *, folds: int
) -> tuple[Path, list[NnUNet]]:
    """What training leaves, with random weights, its log of NumPy numbers, and a card."""
    folder = folder / NAME
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "card.toml").write_text(toml_text(description), encoding="utf-8")
    shape = read_plans(folder, "3d_fullres").shape
    networks = []
    for fold in range(folds):
        torch.manual_seed(fold)
        network = NnUNet(shape).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.InstanceNorm3d):
                torch.nn.init.normal_(module.weight, 1.0, 0.3)
                torch.nn.init.normal_(module.bias, 0.0, 0.3)
        networks.append(network)
        (folder / f"fold_{fold}").mkdir()
        torch.save(
            {
                "network_weights": network.state_dict(),
                "logging": {"mean_fg_dice": [np.float32(0.5), np.float64(0.6)]},
                "_best_ema": np.float64(0.7),
                "init_args": {"configuration": "3d_fullres", "fold": fold, "device": torch.device("cpu")},
                "trainer_name": "nnUNetTrainer",
                "inference_allowed_mirroring_axes": (0, 1, 2),
            },
            folder / f"fold_{fold}" / "checkpoint_final.pth",
        )
    return folder, networks


def test_folds_become_an_ensemble_that_equals_torch(tmp_path: Path) -> None:
    dataset = {"channel_names": {"0": "CT", "1": "MRI"}, "labels": {"background": 0, "left_thing": 1, "right_thing": 2}}
    source, networks = results_folder(
        tmp_path, old_plans(), dataset, card(("CT", "MR"), ("Left thing", "Right thing")), folds=2
    )
    out = tmp_path / "out"
    out.mkdir()
    imported = convert(source, out)
    report = imported.report()
    print("relative differences between torch and ONNX Runtime:", report["graphs"])
    assert set(report["graphs"]) == {"main.onnx", "member_2.onnx"}
    keys = len(networks[0].state_dict())
    assert (report["missing"], report["unexpected"], report["keys"]) == (0, 0, keys)
    for graph in report["graphs"].values():
        assert len(graph["relative_differences"]) == 2
        assert max(graph["relative_differences"]) < 1e-4
    model = Model(out)
    model.self_test()
    # One window exactly, already at the spacing: the labels are those of the mean of the two networks.
    rng = np.random.default_rng(1)
    arrays = [rng.normal(50, 200, (4, 16, 16)).astype(np.float32) for _ in range(2)]
    affine = np.diag([-1.0, -1.0, 4.0, 1.0])
    result = model.run({f"r{n}": Volume(each, affine) for n, each in enumerate(arrays)}, {})
    image = np.stack([(np.clip(arrays[0], -500, 300) - 40) / 100, (arrays[1] - arrays[1].mean()) / arrays[1].std()])
    with torch.no_grad():
        swapped = torch.from_numpy(image.transpose(0, 1, 3, 2)[None].astype(np.float32).copy())
        logits = sum(network(swapped) for network in networks)[0].numpy().transpose(0, 1, 3, 2)
    assert result.segmentation is not None
    names = {region.number: region.label for region in result.segmentation.regions}
    made = np.vectorize(lambda n: {"": 0, "Left thing": 1, "Right thing": 2}[names.get(n, "")])(
        result.segmentation.mask_zyx
    )
    assert (made == logits.argmax(0)).mean() > 0.999


def test_regions_and_a_residual_encoder(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    dataset = {"channel_names": {"0": "T1"}, "labels": labels, "regions_class_order": [1, 2]}
    source, networks = results_folder(tmp_path, new_plans(), dataset, card(("MR",), ("Whole", "Core")), folds=1)
    out = tmp_path / "out"
    out.mkdir()
    imported = convert(source, out)
    assert max(imported.graphs[0].differences) < 1e-4
    options = imported.card.options
    assert options["activation"] == "sigmoid"
    assert options["paint"] == [{"output": 0, "label": 1}, {"output": 1, "label": 2}]
    image = np.random.default_rng(2).normal(0, 1, (8, 8, 8)).astype(np.float32)
    result = Model(out).run({"r0": Volume(image, np.diag([-1.0, -1.0, 1.0, 1.0]))}, {})
    with torch.no_grad():
        logits = networks[0](torch.from_numpy((image - image.mean()) / image.std())[None, None])[0].numpy()
    expected = np.where(logits[1] > 0, 2, np.where(logits[0] > 0, 1, 0))
    assert result.segmentation is not None
    assert ((result.segmentation.mask_zyx > 0) == (expected > 0)).mean() > 0.995


def refused(tmp_path: Path, words: str, **changed: Any) -> None:
    dataset = changed.get("dataset", {"channel_names": {"0": "T1"}, "labels": {"background": 0, "thing": 1}})
    plans = changed.get("plans", new_plans())
    description = changed.get("card", card(("MR",), ("Thing",)))
    try:
        source, _ = results_folder(tmp_path, plans, dataset, description, folds=1)
    except CheckpointMismatch as error:
        assert words in str(error)
        return
    with pytest.raises(CheckpointMismatch, match=words):
        convert(source, tmp_path)


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    for number, (words, change) in enumerate(
        (
            ("must name the labels thing", {"card": card(("MR",), ("Other",))}),
            ("is CT, trained on T1", {"card": card(("CT",), ("Thing",))}),
            ("names 2 inputs", {"card": card(("MR", "MR"), ("Thing",))}),
            ("options.orientation is missing", {"card": {**card(("MR",), ("Thing",)), "options": {}}}),
            ("normalisation MyOwn", {"plans": _with(new_plans(), "normalization_schemes", ["MyOwn"])}),
            ("cascades are not read", {"plans": _with(new_plans(), "previous_stage", "3d_lowres")}),
            ("resampling fast", {"plans": _with(new_plans(), "resampling_fn_data", "fast")}),
            ("KeyError", {"plans": {"configurations": {"3d_fullres": {}}}}),
        )
    ):
        refused(tmp_path / str(number), words, **change)


def _with(plans: dict, key: str, value: Any) -> dict:
    plans["configurations"]["3d_fullres"][key] = value
    return plans


def test_other_weights_and_files_that_run_code_are_refused(tmp_path: Path) -> None:
    dataset = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "thing": 1}}
    source, networks = results_folder(tmp_path, new_plans(), dataset, card(("MR",), ("Thing",)), folds=1)
    file = source / "fold_0" / "checkpoint_final.pth"
    state = dict(networks[0].state_dict())
    del state["encoder.stem.convs.0.norm.weight"]
    torch.save({"network_weights": state}, file)
    with pytest.raises(CheckpointMismatch, match=r"stem\.convs\.0\.norm\.weight"):
        convert(source, tmp_path)
    torch.save({"network_weights": networks[0]}, file)
    with pytest.raises(CheckpointUnsafe):
        convert(source, tmp_path)
    file.unlink()
    with pytest.raises(CheckpointMismatch, match="checkpoint_final"):
        convert(source, tmp_path)
