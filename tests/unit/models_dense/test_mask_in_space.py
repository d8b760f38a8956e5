"""DICOM images in, labels for every voxel, a DICOM SEG out: each label lies where its brightness lies in the patient."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from dicom_sr.check import check
from dicom_sr.document import render
from models.model import Model
from tests.unit.dicom_sr_objects.cases import context, phantom_case
from tests.unit.models_dense.conftest import brightness_graph, write_model


@pytest.mark.parametrize(
    "variant",
    [{"plane": "axial"}, {"plane": "oblique", "flipped": True, "shuffled": True}, {"plane": "sagittal"}],
    ids=str,
)
def test_labels_come_back_in_place(tmp_path: Path, variant: dict) -> None:
    case = phantom_case(tmp_path / "study", **variant)
    assert case.result.segmentation is not None
    truth = case.result.segmentation.mask_zyx
    volume = case.source.volume
    # The two lesions of the phantom as two structures of different brightness.
    painted = np.select([truth == 1, truth > 1], [400.0, 800.0], 100.0).astype(np.float32)
    (tmp_path / "model").mkdir()
    brightness_graph(tmp_path / "model" / "main.onnx", (250, 600))
    model = Model(write_model(tmp_path / "model", labels=("First", "Second"), roles=("dwi",)))
    result = model.run({"dwi": type(volume)(painted, volume.affine_lps)}, {})
    assert result.segmentation is not None
    objects = render(result, case.study, context(objects=("seg",)), case.source)
    check(objects, case.study, result, case.source)
    seg = hd.seg.segread(BytesIO(objects[0].encoded))
    assert {each.SegmentLabel for each in seg.SegmentSequence} == {"First", "Second"}
    for item in seg.SegmentSequence:
        read = seg.get_volume(segment_numbers=[item.SegmentNumber], combine_segments=True, relabel=False)
        points = read.map_indices_to_reference(np.argwhere(read.array > 0))
        back = (np.linalg.inv(volume.affine_lps) @ np.c_[points, np.ones(len(points))].T)[:3].round().astype(int)
        mask = np.zeros(truth.shape, bool)
        mask[back[2], back[1], back[0]] = True
        assert np.array_equal(mask, truth == 1 if item.SegmentLabel == "First" else truth > 1)
