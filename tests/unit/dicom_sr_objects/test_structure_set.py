"""RT structure sets: outlines in patient space that fill to the mask, whatever the plane, with holes."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_sr.check import check
from dicom_sr.rendering import RenderedObject
from tests.generators.results import found
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import Case, phantom_case
from tests.unit.dicom_sr_objects.pixel_cases import holed, places

VARIANTS = {
    "oblique": {"plane": "oblique", "flipped": True, "shuffled": True},
    "coronal": {"plane": "coronal", "flipped": True},
    "sagittal": {"plane": "sagittal"},
    "enhanced": {"plane": "oblique", "enhanced": True, "shuffled": True},
}


def structure_set(case: Case) -> RenderedObject:
    objects = case.rendered(objects=("rtstruct",))
    check(objects, case.study, case.result, case.source)
    (rendered,) = objects
    return rendered


def winding(points: npt.NDArray[np.float64], ring: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How often a closed ring goes round each point, from the sum of angles; all in the plane, shape (n, 2)."""
    away = ring[None] - points[:, None]
    angle = np.arctan2(away[..., 1], away[..., 0])
    turned = np.diff(np.concatenate([angle, angle[:, :1]], axis=1), axis=1)
    return np.rint(((turned + np.pi) % (2 * np.pi) - np.pi).sum(axis=1) / (2 * np.pi))


@pytest.mark.parametrize("variant", VARIANTS)
def test_contours_go_round_the_voxels_of_the_phantom(variant: str, tmp_path: Path) -> None:
    """Independent of images and affines of the node: voxel centres from the phantom, inside or not by winding number."""
    case = holed(phantom_case(tmp_path, **VARIANTS[variant]))
    assert case.phantom is not None
    assert case.result.segmentation is not None
    made = dcmread(BytesIO(structure_set(case).encoded))
    affine, mask = case.phantom.affine, case.result.segmentation.mask_zyx
    indices = np.argwhere(np.ones(mask.shape))[:, ::-1]
    centres = (np.c_[indices, np.ones(len(indices))] @ affine.T)[:, :3]
    across, down, normal = (affine[:3, n] / np.linalg.norm(affine[:3, n]) for n in (0, 1, 2))
    for entry in made.ROIContourSequence:
        times = np.zeros(len(centres))
        for contour in entry.ContourSequence:
            ring = np.array([float(v) for v in contour.ContourData]).reshape(-1, 3)
            assert np.ptp(ring @ normal) < 1e-3
            here = abs(centres @ normal - (ring @ normal).mean()) < 1e-2
            plane = np.column_stack([across, down])
            times[here] += winding(centres[here] @ plane, ring @ plane)
        inside = np.abs(times) == 1
        assert set(np.abs(times)) <= {0, 1}
        assert np.array_equal(inside.reshape(mask.shape), mask == entry.ReferencedROINumber)


def test_regions_are_named_coded_and_not_approved(case: Case) -> None:
    made = dcmread(BytesIO(structure_set(case).encoded))
    assert case.result.segmentation is not None
    regions = case.result.segmentation.regions
    assert [entry.ROIName for entry in made.StructureSetROISequence] == [region.label for region in regions]
    codes = [entry.RTROIIdentificationCodeSequence[0].CodeValue for entry in made.RTROIObservationsSequence]
    assert codes == [region.finding.value for region in regions]
    assert (made.ApprovalStatus, made.StructureSetLabel) == ("UNAPPROVED", "AI, not reviewed")
    study = made.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert study.ReferencedSOPInstanceUID == made.StudyInstanceUID
    images = study.RTReferencedSeriesSequence[0].ContourImageSequence
    assert [image.ReferencedSOPInstanceUID for image in images] == [f.sop_instance_uid for f in case.source.frames]


def test_enhanced_images_are_named_by_frame(enhanced: Case) -> None:
    made = dcmread(BytesIO(structure_set(enhanced).encoded))
    numbers = {
        contour.ContourImageSequence[0].ReferencedFrameNumber
        for entry in made.ROIContourSequence
        for contour in entry.ContourSequence
    }
    assert enhanced.result.segmentation is not None
    occupied = np.flatnonzero(enhanced.result.segmentation.mask_zyx.any(axis=(1, 2)))
    assert numbers == {enhanced.source.frames[k].frame_number for k in occupied}


def test_an_outline_too_long_for_a_decimal_string_makes_the_file_implicit(enhanced: Case) -> None:
    case, shape = enhanced, enhanced.source.volume.array_zyx.shape
    mask = np.zeros(shape, np.uint8)
    mask[2, 1:-1, 1:-1] = 1
    mask[2, 2:-2:2, 2:-2:2] = 0  # hundreds of holes in one ring
    long = Case(case.files, case.study, case.source, found(mask, case.source.volume.voxel_ml))
    rendered = structure_set(long)
    assert rendered.transfer_syntax == ImplicitVRLittleEndian
    made = dcmread(BytesIO(rendered.encoded))
    assert made.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert structure_set(case).transfer_syntax == ExplicitVRLittleEndian


@pytest.mark.peer
def test_plastimatch_fills_the_contours_to_the_mask(case: Case, tmp_path: Path) -> None:
    case = holed(case)
    assert case.result.segmentation is not None
    path, grid = tmp_path / "rtstruct.dcm", tmp_path / "grid.mha"
    path.write_bytes(structure_set(case).encoded)
    affine, mask = case.source.volume.affine_lps, case.result.segmentation.mask_zyx
    image = sitk.GetImageFromArray(np.zeros(mask.shape, np.int16))
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetSpacing(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    sitk.WriteImage(image, str(grid))
    tool = require("plastimatch")
    command = [tool, "convert", "--input", path, "--fixed", grid, "--output-prefix", tmp_path / "filled"]
    done = subprocess.run([*map(str, command), "--prefix-format", "nrrd"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for region in case.result.segmentation.regions:
        filled = sitk.ReadImage(str(tmp_path / "filled" / f"{region.label}.nrrd"))
        theirs = sitk.GetArrayFromImage(filled)
        np.testing.assert_allclose(places(theirs, affine), places(mask == region.number, affine), atol=0.011)
