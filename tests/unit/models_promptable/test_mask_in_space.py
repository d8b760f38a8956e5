"""DICOM images in, a prompted mask, a DICOM SEG out: every voxel lies where the bright thing lies in the patient."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from dicom_sr.check import check
from dicom_sr.document import render
from models.model import Model
from models.prompts import boxes_of
from tests.unit.dicom_sr_objects.cases import context, phantom_case


@pytest.mark.parametrize(
    "variant", [{"plane": "axial"}, {"plane": "oblique", "flipped": True, "shuffled": True}], ids=str
)
def test_prompted_mask_comes_back_in_place(tmp_path: Path, known: Model, variant: dict) -> None:
    case = phantom_case(tmp_path / "study", **variant)
    assert case.result.segmentation is not None
    truth = case.result.segmentation.mask_zyx
    volume = case.source.volume
    bright = np.where(truth > 0, 1000.0, 100.0).astype(np.float32)
    result = known.segment({"image": type(volume)(bright, volume.affine_lps)}, boxes_of(truth), {})
    assert result.segmentation is not None
    objects = render(result, case.study, context(objects=("seg",)), case.source)
    check(objects, case.study, result, case.source)
    seg = hd.seg.segread(BytesIO(objects[0].encoded))
    read = seg.get_volume(combine_segments=True, relabel=False)
    inside = np.argwhere(read.array > 0)
    points = read.map_indices_to_reference(inside)
    back = (np.linalg.inv(volume.affine_lps) @ np.c_[points, np.ones(len(points))].T)[:3].round().astype(int)
    mask = np.zeros(truth.shape, bool)
    mask[back[2], back[1], back[0]] = True
    assert np.array_equal(mask, result.segmentation.mask_zyx > 0)
    agreement = 2 * np.count_nonzero(mask & (truth > 0)) / (np.count_nonzero(mask) + np.count_nonzero(truth))
    assert agreement > 0.85
