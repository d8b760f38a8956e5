"""Self-made weights in the released layouts, through their converters: what they mark lies in the DICOM SEG where it was painted.

TotalSegmentator (nnU-Net v2), VISTA3D, BraTS SegResNet, and of DeepISLES SEALS (nnU-Net v1) and NVAUTO. The networks are
switched off but for the way of the brightness through them, so that the answer is known; the images are DICOM series in an
orientation that none was trained in.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dicom_sr.roles import fill_roles
from dicom_sr.series import load_study
from models.brain import brain_mask
from models.model import Model
from models.volume import Volume
from tests.generators.volumes import write_series
from tests.unit.dicom_sr_objects.cases import agreement, masks_in_patient, phantom_case

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from torch.nn import functional as F  # noqa: E402

from models.export import brats_segresnet, nnunet, nnunet_v1, nvauto, vista3d  # noqa: E402
from models.export.imported import CARDS_FOLDER  # noqa: E402
from models.export.nnunet_network import NnUNet  # noqa: E402
from models.export.nnunet_plans import read_plans  # noqa: E402
from models.export.segresnet_network import SegResNet, SegResNetShape  # noqa: E402
from models.export.vista3d_network import Vista3d, Vista3dShape  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("older_exporter")]
Image = npt.NDArray[np.float64]
SIDE = 16
"""Voxels along each side of the network's grid, all of which one window sees."""


def affine(step: float) -> npt.NDArray[np.float64]:
    """Sagittal slices twice as thick as their voxels are wide, columns towards the front: no axis where a network has it."""
    made = np.array([[0, 0, 2 * step, 0], [-step, 0, 0, 0], [0, -step, 0, 0], [0, 0, 0, 1.0]])
    made[:3, 3] = (-10, 20, 30)
    return made


def boxes(*values: float, background: float) -> Image:
    """Up to three boxes, none the mirror image of another, on the native grid (8, 16, 16)."""
    image = np.full((SIDE // 2, SIDE, SIDE), background)
    places = ((slice(1, 3), slice(2, 8), slice(3, 9)), (slice(4, 7), slice(9, 14), slice(2, 6)))
    for value, place in zip(values, (*places, (slice(4, 7), slice(3, 8), slice(10, 15))), strict=False):
        image[place] = value
    return image


def switched_off(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its tensors, all zero but the weights of norms."""
    state = network.state_dict()
    for key, value in state.items():
        value.fill_(1.0 if key.endswith("weight") and value.ndim == 1 else 0.0)
    return state


def require_in_place(model: Model, folder: Path, grid: Volume, painted: dict[str, npt.NDArray[np.bool_]]) -> None:
    """What the model marks in the study lies in the DICOM SEG where it was painted."""
    study = load_study([folder])
    roles = fill_roles(study, model.card.inputs)
    result = model.run({role: source.volume for role, source in roles.items()}, {})
    source = roles[model.card.inputs[0].role]
    found = masks_in_patient(result, study, source, grid)
    assert set(found) == set(painted)
    for label, truth in painted.items():
        print(f"{label}: Dice {agreement(found[label], truth):.3f}")
        assert agreement(found[label], truth) > 0.85, label


def midway(network: torch.nn.Module, image: Image, values: list[float]) -> list[float]:
    """Between what the first output says of each of ``values`` and of the next one."""
    with torch.no_grad():
        made = network(torch.from_numpy(image.astype(np.float32))[None, None])[0, 0].numpy()
    said = [float(np.median(made[image == value])) for value in values]
    assert said == sorted(said)
    return [(low + high) / 2 for low, high in pairwise(said)]


def test_totalsegmentator_s_organs_are_where_they_are(tmp_path: Path) -> None:
    source = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (source / "fold_0").mkdir(parents=True)
    shutil.copy(CARDS_FOLDER / "nnunet" / "totalsegmentator-organs.toml", source / "card.toml")
    names = [label["name"] for label in tomllib.loads((source / "card.toml").read_text(encoding="utf-8"))["labels"]]
    labels = {"background": 0, **{name.lower().replace(" ", "_"): n for n, name in enumerate(names, start=1)}}
    (source / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels}))
    configuration = {
        "patch_size": [SIDE] * 3,
        "spacing": [1.5] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 4,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_kernel_sizes": [[3, 3, 3]] * 2,
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
    }
    ct = {"0": {"mean": 0.0, "std": 1.0, "percentile_00_5": -1000.0, "percentile_99_5": 1000.0}}
    plans = {"transpose_forward": [0, 1, 2], "foreground_intensity_properties_per_channel": ct}
    (source / "plans.json").write_text(json.dumps({**plans, "configurations": {"3d_fullres": configuration}}))
    image = boxes(200, 500, 900, background=-100)
    network = NnUNet(read_plans(source, "3d_fullres").shape).eval()
    state = switched_off(network)
    state["encoder.stages.0.0.convs.0.conv.weight"][0, 0, 1, 1, 1] = 1
    state["decoder.stages.0.convs.0.conv.weight"][0, 4, 1, 1, 1] = 1  # the first channel of what lies beside
    weight, bias = (state[f"decoder.seg_layers.0.{part}"] for part in ("weight", "bias"))
    weight[0, 0] = 1
    steps = midway(network, np.repeat(image, 2, 0), [-100, 200, 500, 900])
    bias.fill_(-1e4)
    weight[0, 0], bias[0] = 0, 0
    for number, step in enumerate(steps, start=1):
        weight[number, 0], bias[number] = number, bias[number - 1] - step
    torch.save({"network_weights": state}, source / "fold_0" / "checkpoint_final.pth")
    (tmp_path / "out").mkdir()
    report = nnunet.convert(source, tmp_path / "out").report()
    assert (report["missing"], report["unexpected"], report["keys"]) == (0, 0, len(state))
    write_series(tmp_path / "study", image, affine(1.5), modality="CT")
    painted = {"Spleen": image == 200, "Kidney right": image == 500, "Kidney left": image == 900}
    require_in_place(Model(tmp_path / "out"), tmp_path / "study", Volume(image, affine(1.5)), painted)


def test_vista3d_s_classes_are_where_they_are(tmp_path: Path) -> None:
    network = Vista3d(Vista3dShape(4, (1, 1), 140)).eval()
    state = switched_off(network)
    state["image_encoder.encoder.conv_init.weight"][0, 0, 1, 1, 1] = 1
    head = "image_encoder.up_layers_auto.0.head"
    state[f"{head}.weight"][0, 0] = 1
    state[f"{head}.bias"][1] = -1e4  # minus one after two leaky steps
    # The perceptron maps three patterns to three classes: bright, brighter, never.
    patterns = torch.eye(4)[:3]
    first, second = vista3d.class_ids()[:2]
    embeddings = state["class_head.class_embeddings.weight"]
    embeddings[:] = patterns[2]
    embeddings[first], embeddings[second] = patterns[0], patterns[1]
    state["class_head.mlp.0.weight"][:] = torch.eye(4)
    inner = F.gelu(F.instance_norm(patterns[:, None])[:, 0])
    steps = (0.25, 0.7)
    wanted = torch.tensor([[1.0, steps[0], 0, 0], [2.0, sum(steps), 0, 0], [0, 5.0, 0, 0]])
    state["class_head.mlp.3.weight"][:] = (torch.linalg.pinv(inner) @ wanted).T
    torch.save({**state, "point_head.mask_tokens.weight": torch.zeros(1, 4)}, tmp_path / "model.pt")
    (tmp_path / "out").mkdir()
    vista3d.convert(tmp_path / "model.pt", tmp_path / "out")
    shrunk(tmp_path / "out", "size = [128, 128, 128]")
    image = boxes(0, 900, background=-1000)
    write_series(tmp_path / "study", image, affine(1.5), modality="CT")
    model = Model(tmp_path / "out")
    names = [label.name for label in model.card.labels]
    painted = {names[0]: image == 0, names[1]: image == 900}
    require_in_place(model, tmp_path / "study", Volume(image, affine(1.5)), painted)


def test_the_parts_of_a_glioma_are_where_they_are(tmp_path: Path) -> None:
    whole, core, enhancing = (np.zeros((SIDE // 2, SIDE, SIDE), bool) for _ in range(3))
    whole[1:7, 2:11, 3:12] = True
    core[2:6, 3:9, 4:10] = True
    enhancing[3:6, 3:7, 4:8] = True
    network = SegResNet(SegResNetShape(4, 3, 8, (1, 1), (1,))).eval()
    state = switched_off(network)
    for channel in range(4):
        state["convInit.conv.weight"][channel, channel, 1, 1, 1] = 1
    # Tumour core by T2, whole tumour by FLAIR, enhancing part by T1 with contrast, each from halfway on after the norm.
    for output, (channel, where) in enumerate(((2, core), (3, whole), (0, enhancing))):
        share = where.mean()
        state["conv_final.2.conv.weight"][output, channel] = 1
        state["conv_final.2.conv.bias"][output] = -(((1 - share) / share) ** 0.5 - (share / (1 - share)) ** 0.5) / 2
    torch.save(state, tmp_path / "model.pt")
    (tmp_path / "out").mkdir()
    brats_segresnet.convert(tmp_path / "model.pt", tmp_path / "out")
    shrunk(tmp_path / "out", "size = [240, 240, 160]", ('co_register = "rigid"', 'co_register = "refuse"'))
    series = (("T1 post", enhancing), ("T1", ~whole), ("T2", core), ("FLAIR", whole))
    for number, (name, where) in enumerate(series, start=1):
        image = np.where(where, 900.0 + number, 100.0)
        write_series(tmp_path / "study", image, affine(1.0), series=number, SeriesDescription=name)
    model = Model(tmp_path / "out")
    names = [label.name for label in model.card.labels]
    painted = dict(zip(names, (core & ~enhancing, whole & ~core, enhancing), strict=True))
    require_in_place(model, tmp_path / "study", Volume(whole, affine(1.0)), painted)


class Bright(torch.nn.Module):
    """Infarct where DWI (second) is brighter than ADC (first) by more than is usual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(2, 2, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[0.0, 0.0], [-1.0, 1.0]]).reshape(2, 2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, -4.0]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(image)


def nvauto_released(folder: Path) -> None:
    (folder / "ts").mkdir(parents=True)
    torch.jit.trace(Bright(), torch.zeros(1, 2, 32, 32, 32)).save(str(folder / "ts" / "model0.ts"))


def seals_released(folder: Path) -> None:
    (folder / "fold_0").mkdir(parents=True)
    shutil.copy(CARDS_FOLDER / "nnunet" / "deepisles-seals.toml", folder / "card.toml")
    stage = {"patch_size": [32, 48, 48], "current_spacing": [5.0, 5.0, 5.0], "pool_op_kernel_sizes": [[2, 2, 2]]}
    plans = {
        "num_classes": 1,
        "modalities": {"0": "dwi", "1": "adc"},
        "normalization_schemes": {"0": "nonCT", "1": "nonCT"},
        "use_mask_for_norm": {"0": True, "1": True},
        "transpose_forward": [0, 1, 2],
        "plans_per_stage": {"0": stage},
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    tensors = {}
    for name, wide in (("context.0.blocks.0", 2), ("context.1.0.blocks.0", 4), ("context.1.1.blocks.0", 4)):
        tensors |= block(f"conv_blocks_{name}", wide)
    for half, wide in ((0, 8), (1, 4)):
        tensors |= block(f"conv_blocks_localization.0.{half}.blocks.0", wide)
    tensors["tu.0.weight"] = torch.zeros(4, 4, 2, 2, 2)
    # DWI less ADC, after a norm at each step; the infarct is far above all else, and a norm is not far from where it was.
    tensors["conv_blocks_context.0.blocks.0.conv.weight"][0, :, 1, 1, 1] = torch.tensor([1.0, -1.0])
    tensors["conv_blocks_localization.0.0.blocks.0.conv.weight"][0, 4, 1, 1, 1] = 1
    tensors["conv_blocks_localization.0.1.blocks.0.conv.weight"][0, 0, 1, 1, 1] = 1
    # A second channel that is the same everywhere: a norm makes it its bias.
    tensors["conv_blocks_localization.0.1.blocks.0.instnorm.bias"][1] = 1
    tensors["seg_outputs.0.weight"] = torch.zeros(2, 4, 1, 1, 1)
    tensors["seg_outputs.0.weight"][1, :2, 0, 0, 0] = torch.tensor([1.0, -3.0])
    torch.save({"state_dict": tensors}, folder / "fold_0" / "model_final_checkpoint.model")


def block(name: str, wide: int) -> dict[str, torch.Tensor]:
    """A convolution of nnU-Net v1 with its norm, switched off."""
    return {
        f"{name}.conv.weight": torch.zeros(4, wide, 3, 3, 3),
        f"{name}.conv.bias": torch.zeros(4),
        f"{name}.instnorm.weight": torch.ones(4),
        f"{name}.instnorm.bias": torch.zeros(4),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("released", "convert", "changes"),
    [
        (nvauto_released, nvauto.convert, (("spacing_mm = [1.0, 1.0, 1.0]", "spacing_mm = [4.0, 4.0, 4.0]"),)),
        (seals_released, nnunet_v1.convert, ()),
    ],
    ids=["nvauto", "seals"],
)
def test_an_infarct_is_where_it_is(tmp_path: Path, released: Callable, convert: Callable, changes: tuple) -> None:
    released(tmp_path / "released")
    (tmp_path / "out").mkdir()
    convert(tmp_path / "released", tmp_path / "out")
    card = tmp_path / "out" / "model.toml"
    text = card.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    card.write_text(text, encoding="utf-8")
    model = Model(tmp_path / "out")
    case = phantom_case(tmp_path / "study", plane="oblique", flipped=True, shuffled=True)
    roles = fill_roles(case.study, model.card.inputs)
    inputs = {role: source.volume for role, source in roles.items()}
    dwi, adc = inputs["dwi"], inputs["adc"]
    within = brain_mask(dwi.array_zyx, adc.array_zyx, dwi.spacing_mm_zyx)
    assert case.result.segmentation is not None
    truth = (case.result.segmentation.mask_zyx > 0) & within
    bright = np.where(truth, 3 * dwi.array_zyx[within].max(), dwi.array_zyx).astype(np.float32)
    result = model.run({**inputs, "dwi": Volume(bright, dwi.affine_lps)}, {})
    found = np.any(list(masks_in_patient(result, case.study, roles["dwi"]).values()), axis=0)
    print(f"Dice {agreement(found, truth):.3f} of {np.count_nonzero(truth)} voxels")
    assert agreement(found, truth) > 0.85


def shrunk(folder: Path, window: str, *changes: tuple[str, str]) -> None:
    """The card with a window as large as the image."""
    card = folder / "model.toml"
    text = card.read_text(encoding="utf-8")
    for old, new in ((window, f"size = [{SIDE}, {SIDE}, {SIDE}]"), *changes):
        assert old in text
        text = text.replace(old, new)
    card.write_text(text, encoding="utf-8")
