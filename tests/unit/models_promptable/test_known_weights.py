"""Self-made weights in MedSAM's and SAM-Med3D's layouts: what is bright is the mask, and it lies in the DICOM SEG where it was.

Every patch's brightness goes, part by part, through the image encoder in channels of its own, and the decoder's upscaling puts
each part back where it was taken. All else is switched off. LiteMedSAM and MedSAM2 have MedSAM's decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.model import Model
from models.prompts import boxes_of
from models.volume import Volume
from tests.unit.dicom_sr_objects.cases import agreement, masks_in_patient, phantom_case

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export import medsam, sam_med3d  # noqa: E402
from models.export.sam3d_network import Sam3d  # noqa: E402
from models.export.sam_network import Sam, SamShape  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("older_exporter")]
PLANE = SamShape(image_size=128, width=48, depth=2, heads=3, window=5, global_blocks=(1,), decoder_mlp=64)
CUBE = SamShape(64, 16, 72, 1, 3, 3, (0,), 384, 8, 64)
PARTS = 4
"""Parts of a patch along each axis; the decoder gives one value for each."""
CONSTANT = 30.0
"""Of two opposite channels besides, so that norms divide by these and not by what the parts happen to be."""


def known(network: torch.nn.Module, axes: int, cut: float, gain: float) -> dict[str, Any]:
    """Weights that mark what is brighter than ``cut`` to the network."""
    tensors = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    for key in tensors:
        if "norm" in key and key.endswith("weight"):
            tensors[key] += 1
    patch = tensors["image_encoder.patch_embed.proj.weight"]
    bias = tensors["image_encoder.patch_embed.proj.bias"]
    side = patch.shape[-1] // PARTS
    parts = list(product(range(PARTS), repeat=axes))
    for channel, part in enumerate(parts):
        here = tuple(slice(n * side, (n + 1) * side) for n in part)
        patch[(channel, slice(None), *here)] = gain / (patch.shape[1] * side**axes)
        bias[channel] = -gain * cut
    last = len(parts)
    bias[last : last + 2] = torch.tensor([CONSTANT, -CONSTANT])
    middle = (1,) * axes
    for channel in range(last + 2):
        tensors["image_encoder.neck.0.weight"][(channel, channel, *(0,) * axes)] = 1
        tensors["image_encoder.neck.2.weight"][(channel, channel, *middle)] = 1
    for norm in ("image_encoder.neck.1", "image_encoder.neck.3", "mask_decoder.output_upscaling.1"):
        tensors[f"{norm}.weight"] += 1
    first, second = (tensors[f"mask_decoder.output_upscaling.{n}.weight"] for n in (0, 3))
    inner = list(product(range(2), repeat=axes))
    for channel, part in enumerate(parts):
        outer, within = tuple(n // 2 for n in part), inner.index(tuple(n % 2 for n in part))
        first[(channel, within, *outer)] = 1
        first[(channel, len(inner) + within, *outer)] = -1
    first[last, 2 * len(inner)] = first[last + 1, 2 * len(inner) + 1] = 1
    for number, place in enumerate(inner):
        second[(number, 0, *place)] = second[(len(inner) + number, 1, *place)] = 50
    tensors["mask_decoder.output_hypernetworks_mlps.0.layers.2.bias"][:2] = torch.tensor([4.0, -4.0])
    return tensors


@pytest.mark.parametrize(
    ("convert", "network", "tensors", "least"),
    [
        # MedSAM sees the darkest as 0 and the brightest as 1; SAM-Med3D in deviations from the mean.
        (medsam.convert, Sam(PLANE), {"axes": 2, "cut": 0.5, "gain": 2.0}, 0.85),
        (sam_med3d.convert, Sam3d(CUBE), {"axes": 3, "cut": 2.0, "gain": 0.5}, 0.75),
    ],
    ids=["medsam", "sam-med3d"],
)
def test_a_known_mask_lies_in_place(
    tmp_path: Path, convert: Callable, network: torch.nn.Module, tensors: dict, least: float
) -> None:
    (tmp_path / "model").mkdir()
    torch.save(known(network, **tensors), tmp_path / "known.pth")
    report = convert(tmp_path / "known.pth", tmp_path / "model").report()
    assert (report["missing"], report["unexpected"], report["keys"]) == (0, 0, len(network.state_dict()))
    model = Model(tmp_path / "model")
    case = phantom_case(tmp_path / "study", plane="oblique", flipped=True, shuffled=True)
    assert case.result.segmentation is not None
    truth, volume = case.result.segmentation.mask_zyx, case.source.volume
    shown = Volume(np.where(truth > 0, 1000.0, 100.0).astype(np.float32), volume.affine_lps)
    result = model.segment({"image": shown}, boxes_of(truth), {})
    assert result.segmentation is not None
    mask = np.any(list(masks_in_patient(result, case.study, case.source).values()), axis=0)
    print("agreement (Dice) of the known mask:", agreement(mask, truth > 0))
    assert agreement(mask, truth > 0) > least
    for axis in range(3):
        assert np.count_nonzero(np.flip(mask, axis) & (truth > 0)) < 0.7 * np.count_nonzero(truth)
