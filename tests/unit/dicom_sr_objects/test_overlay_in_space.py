"""Each voxel of the mask comes back at the same place in the patient, as another program reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_sr.check import check
from dicom_sr.write import write_objects
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import Case, phantom_case

VARIANTS = {
    "axial": {"plane": "axial"},
    "sagittal": {"plane": "sagittal"},
    "coronal": {"plane": "coronal"},
    "oblique": {"plane": "oblique"},
    "axial flipped": {"plane": "axial", "flipped": True},
    "coronal flipped": {"plane": "coronal", "flipped": True},
    "sagittal shuffled": {"plane": "sagittal", "shuffled": True},
    "oblique flipped shuffled": {"plane": "oblique", "flipped": True, "shuffled": True},
    "enhanced axial": {"plane": "axial", "enhanced": True},
    "enhanced coronal flipped shuffled": {"plane": "coronal", "enhanced": True, "flipped": True, "shuffled": True},
}
FAST = ("axial", "sagittal", "oblique flipped shuffled", "enhanced coronal flipped shuffled")


def positions_of(case: Case, number: int) -> np.ndarray:
    """Patient coordinates of a region's voxels, from the phantom's own affine; rounded to 10 µm and sorted."""
    assert case.phantom is not None and case.result.segmentation is not None
    indices = np.argwhere(case.result.segmentation.mask_zyx == number)[:, ::-1]
    homogeneous = np.c_[indices, np.ones(len(indices))]
    return in_order((homogeneous @ case.phantom.affine.T)[:, :3])


def in_order(points: np.ndarray) -> np.ndarray:
    rounded = np.round(points, 2) + 0.0
    return rounded[np.lexsort(rounded.T)]


@pytest.mark.peer
@pytest.mark.parametrize("variant", [v if v in FAST else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS])
def test_dcmqi_puts_every_voxel_where_the_phantom_has_it(variant: str, tmp_path: Path) -> None:
    case = phantom_case(tmp_path / "study", **VARIANTS[variant])
    objects = case.rendered()
    check(objects, case.study, case.result, case.source)
    out = tmp_path / "out"
    out.mkdir()
    seg = next(f for f in write_objects(objects, out) if f.role == "seg")
    done = subprocess.run(
        [require("segimage2itkimage"), "--inputDICOM", seg.path, "--outputDirectory", out, "-t", "nrrd"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert case.result.segmentation is not None
    for region in case.result.segmentation.regions:
        image = sitk.ReadImage(str(out / f"{region.number}.nrrd"))
        indices = np.argwhere(sitk.GetArrayFromImage(image) > 0)[:, ::-1]
        points = np.array([image.TransformIndexToPhysicalPoint([int(n) for n in index]) for index in indices])
        expected = positions_of(case, region.number)
        assert points.shape == expected.shape
        np.testing.assert_allclose(in_order(points), expected, atol=0.011)
