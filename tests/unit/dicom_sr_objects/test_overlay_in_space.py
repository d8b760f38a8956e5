"""Each voxel of the mask comes back at the same place in the patient, as another program reads it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_sr.check import check
from dicom_sr.write import write_objects
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import Case, phantom_case
from tests.unit.dicom_sr_objects.pixel_cases import FORMS, in_order, with_pixels

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


@pytest.mark.peer
@pytest.mark.parametrize("variant", [v if v in FAST else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS])
def test_dcmqi_puts_every_voxel_where_the_phantom_has_it(variant: str, tmp_path: Path) -> None:
    case = phantom_case(tmp_path / "study", **VARIANTS[variant])
    images = read_with_dcmqi(case, tmp_path / "out")
    assert case.result.segmentation is not None
    for region in case.result.segmentation.regions:
        assert_same_places(images[str(region.number)], lambda values: values > 0, positions_of(case, region.number))


@pytest.mark.peer
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", ["oblique flipped shuffled", "enhanced coronal flipped shuffled"])
def test_dcmqi_reads_every_form_alike(variant: str, form: str, tmp_path: Path) -> None:
    case = phantom_case(tmp_path / "study", **VARIANTS[variant])
    case = replace(case, result=with_pixels(case))
    images = read_with_dcmqi(case, tmp_path / "out", **FORMS[form])
    wanted = case.result.segmentation
    assert wanted is not None
    assert wanted.probability_zyx is not None
    for region in wanted.regions:
        if form.startswith("labelmap"):  # one image of labels
            assert_same_places(images["1"], lambda v, n=region.number: v == n, positions_of(case, region.number))
            continue
        image = images[str(region.number)]
        assert_same_places(image, lambda values: values > 0, positions_of(case, region.number))
        if form.startswith("fractional"):
            stored = sitk.GetArrayFromImage(image)
            expected = wanted.probability_zyx[wanted.mask_zyx == region.number] * 255
            np.testing.assert_allclose(np.sort(stored[stored > 0]), np.sort(expected), atol=0.501)


@pytest.mark.peer
def test_dcmqi_reads_each_lesion_of_its_own(tmp_path: Path) -> None:
    case = phantom_case(tmp_path / "study", **VARIANTS["oblique flipped shuffled"])
    assert case.result.segmentation is not None
    for region in case.result.segmentation.regions:
        out = tmp_path / str(region.number)
        images = read_with_dcmqi(case, out, role=f"seg-{region.number}", per_lesion=True)
        assert_same_places(images["1"], lambda values: values > 0, positions_of(case, region.number))


def read_with_dcmqi(case: Case, out: Path, role: str = "seg", **profile: object) -> dict[str, sitk.Image]:
    """Images segimage2itkimage makes, by name."""
    objects = case.rendered(objects=("seg",), **profile)
    check(objects, case.study, case.result, case.source)
    out.mkdir()
    seg = next(f for f in write_objects(objects, out) if f.role == role)
    done = subprocess.run(
        [require("segimage2itkimage"), "--inputDICOM", seg.path, "--outputDirectory", out, "-t", "nrrd"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {path.stem: sitk.ReadImage(str(path)) for path in out.glob("*.nrrd")}


def assert_same_places(image: sitk.Image, chosen: Callable[[np.ndarray], np.ndarray], expected: np.ndarray) -> None:
    indices = np.argwhere(chosen(sitk.GetArrayFromImage(image)))[:, ::-1]
    points = np.array([image.TransformIndexToPhysicalPoint([int(n) for n in index]) for index in indices])
    assert points.shape == expected.shape
    np.testing.assert_allclose(in_order(points), expected, atol=0.011)
