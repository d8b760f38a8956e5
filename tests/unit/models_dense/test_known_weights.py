"""Self-made weights in the released layouts, through their converters: what they mark lies in the DICOM SEG where it was painted.

TotalSegmentator (nnU-Net v2), VISTA3D and BraTS SegResNet. The networks are switched off but for the way of the brightness
through them, so that the answer is known; the images are DICOM series in an orientation that none was trained in.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pytest

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.roles import fill_roles
from dicom_sr.series import load_study
from models.model import Model
from tests.generators.volumes import write_series
from tests.unit.dicom_sr_objects.cases import context

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from torch.nn import functional as F  # noqa: E402

from models.export import brats_segresnet, nnunet, vista3d  # noqa: E402
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


def segments(model: Model, folder: Path, grid: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Label → mask on the native grid, by the places in the patient that the DICOM SEG of the study states."""
    study = load_study([folder])
    roles = fill_roles(study, model.card.inputs)
    result = model.run({role: source.volume for role, source in roles.items()}, {})
    source = roles[model.card.inputs[0].role]
    (rendered,) = render(result, study, context(objects=("seg",)), source)
    check([rendered], study, result, source)
    seg = hd.seg.segread(BytesIO(rendered.encoded))
    masks = {}
    for item in seg.SegmentSequence:
        read = seg.get_volume(segment_numbers=[item.SegmentNumber], combine_segments=True, relabel=False)
        points = read.map_indices_to_reference(np.argwhere(read.array > 0))
        x, y, z = (np.linalg.inv(grid) @ np.c_[points, np.ones(len(points))].T)[:3].round().astype(int)
        masks[str(item.SegmentLabel)] = np.zeros((SIDE // 2, SIDE, SIDE), bool)
        masks[str(item.SegmentLabel)][z, y, x] = True
    return masks


def require_in_place(found: dict[str, npt.NDArray[np.bool_]], painted: dict[str, npt.NDArray[np.bool_]]) -> None:
    assert set(found) == set(painted)
    for label, truth in painted.items():
        dice = 2 * (found[label] & truth).sum() / (found[label].sum() + truth.sum())
        print(f"{label}: Dice {dice:.3f}")
        assert dice > 0.85, label


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
    found = segments(Model(tmp_path / "out"), tmp_path / "study", affine(1.5))
    painted = {"Spleen": image == 200, "Kidney right": image == 500, "Kidney left": image == 900}
    require_in_place(found, painted)


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
    found = segments(model, tmp_path / "study", affine(1.5))
    names = [label.name for label in model.card.labels]
    require_in_place(found, {names[0]: image == 0, names[1]: image == 900})


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
    found = segments(model, tmp_path / "study", affine(1.0))
    names = [label.name for label in model.card.labels]
    require_in_place(found, dict(zip(names, (core & ~enhancing, whole & ~core, enhancing), strict=True)))


def shrunk(folder: Path, window: str, *changes: tuple[str, str]) -> None:
    """The card with a window as large as the image."""
    card = folder / "model.toml"
    text = card.read_text(encoding="utf-8")
    for old, new in ((window, f"size = [{SIDE}, {SIDE}, {SIDE}]"), *changes):
        assert old in text
        text = text.replace(old, new)
    card.write_text(text, encoding="utf-8")
