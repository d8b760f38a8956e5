"""Segmentations of every type as dcmjs reads them: the voxels of the result, at its places in the patient."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_sr.write import write_objects
from tests.browser.viewers import run_script
from tests.unit.dicom_sr_objects.cases import Case, phantom_case
from tests.unit.dicom_sr_objects.pixel_cases import FORMS, holed

pytestmark = pytest.mark.peer

STUDIES: dict[str, dict[str, object]] = {
    "axial": {"plane": "axial"},
    "enhanced oblique": {"plane": "oblique", "enhanced": True, "shuffled": True, "flipped": True},
}


@pytest.mark.parametrize("name", STUDIES)
def test_every_type_has_the_same_voxels_in_the_patient(name: str, tmp_path: Path) -> None:
    case = holed(phantom_case(tmp_path / "study", **STUDIES[name]))
    segmentation = case.result.segmentation
    assert segmentation is not None and segmentation.probability_zyx is not None
    mask = segmentation.mask_zyx
    files = {}
    for form, profile in FORMS.items():
        folder = tmp_path / form.replace(" ", "-")
        folder.mkdir()
        (written,) = write_objects(case.rendered(objects=("seg",), **profile), folder)
        files[form] = str(written.path)
    seen = run_script("segments.mjs", tmp_path, {"files": files})
    assert {form: read["type"] for form, read in seen.items()} == {form: form.split()[0].upper() for form in FORMS}
    for form, read in seen.items():
        values, labels = in_the_grid(read, case)
        assert np.array_equal(labels, mask), form
        if read["type"] == "FRACTIONAL":
            likely = np.where(mask > 0, segmentation.probability_zyx, 0.0)
            assert np.abs(values / 255.0 - likely).max() <= 0.5 / 255.0 + 1e-6, form


def in_the_grid(read: dict[str, Any], case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Pixel values and segment numbers on the grid of the source, each pixel where its plane puts it in the patient."""
    affine = case.source.volume.affine_lps
    values = np.zeros(case.source.volume.array_zyx.shape)
    labels = np.zeros(values.shape, int)
    row, column = np.mgrid[: read["rows"], : read["columns"]]
    for frame in read["frames"]:
        along_row, along_column = np.array(frame["orientation"][:3]), np.array(frame["orientation"][3:])
        between_rows, between_columns = frame["spacing"]
        places = (
            np.array(frame["position"])
            + column[..., None] * between_columns * along_row
            + row[..., None] * between_rows * along_column
        )
        ijk = (places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        x, y, z = np.moveaxis(np.rint(ijk).astype(int), -1, 0)
        assert np.abs(ijk - np.rint(ijk)).max() < 0.02
        pixels = np.frombuffer(base64.b64decode(frame["pixels"]), np.uint8).reshape(row.shape)
        inside = pixels > 0
        values[z[inside], y[inside], x[inside]] = pixels[inside]
        labels[z[inside], y[inside], x[inside]] = pixels[inside] if read["type"] == "LABELMAP" else frame["segment"]
    return values, labels
