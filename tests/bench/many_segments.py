"""A CT of a size that hurts, with 1, 10 or 100 ellipsoids in it, and what dcmqi needs to know about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_sr.frames import SourceFrame
from dicom_sr.identity import OFFLINE
from dicom_sr.profile import Profile
from dicom_sr.rendering import RenderContext
from dicom_sr.series import Kind, LoadedStudy, SeriesVolume, load_study
from models.results import CodedTerm, Laterality, Outcome, Region, Segmentation, StudyResult
from models.volume import Volume
from tests.generators.results import MODEL

SPACING_MM = (1.0, 0.7, 0.7)
CATEGORY = CodedTerm("49755003", "SCT", "Morphologically Abnormal Structure")
ORGAN = CodedTerm("10200004", "SCT", "Liver")
Mask = npt.NDArray[np.uint8]


def make_mask(shape_zyx: tuple[int, int, int], count: int) -> Mask:
    """Ellipsoids of 1 … ``count``, in a row where they are ten, on a lattice where they are more."""
    where = np.random.default_rng(3)
    scale = np.array(shape_zyx) / (300, 512, 512)
    mask = np.zeros(shape_zyx, np.uint8)
    for n in range(count):
        if count == 1:
            centre, radii = (150.0, 256.0, 200.0), (70.0, 90.0, 110.0)
        elif count <= 10:
            centre = (where.uniform(60, 240), 100.0 + n % 5 * 75, 150.0 + n // 5 * 200)
            radii = (where.uniform(25, 60), 35.0, 60.0)
        else:
            centre = (where.uniform(25, 275), 60.0 + n % 10 * 42, 60.0 + n // 10 * 42)
            radii = (where.uniform(8, 25), 18.0, 18.0)
        _fill(mask, n + 1, np.array(centre) * scale, np.array(radii) * scale)
    return mask


def _fill(mask: Mask, label: int, centre: npt.NDArray[np.float64], radii: npt.NDArray[np.float64]) -> None:
    low = np.maximum(np.floor(centre - radii), 0).astype(int)
    high = np.minimum(np.ceil(centre + radii) + 1, mask.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    z, y, x = np.ogrid[box]
    inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip((z, y, x), centre, radii, strict=True)) < 1
    mask[box][inside] = label


def write_series(folder: Path, shape_zyx: tuple[int, int, int]) -> None:
    """One CT image for each slice, pixels and all."""
    folder.mkdir(parents=True)
    for k in range(shape_zyx[0]):
        image = _header(k)
        image.Rows, image.Columns = shape_zyx[1:]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 1
        image.RescaleSlope, image.RescaleIntercept = "1", "-1024"
        image.PixelData = bytes(2 * shape_zyx[1] * shape_zyx[2])
        image["PixelData"].VR = "OW"
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.save_as(folder / f"{k:05d}.dcm", enforce_file_format=True)


def _header(k: int) -> Dataset:
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, f"2.25.{10**30 + k}"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = "2.25.1000", "2.25.2000", "2.25.3000"
    image.Modality, image.Manufacturer, image.PatientID, image.PatientName = "CT", "bench", "P", "Bench^CT"
    image.PatientBirthDate, image.PatientSex, image.ReferringPhysicianName = "19600101", "O", ""
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20260101", "120000", "1", "A"
    image.SeriesNumber, image.InstanceNumber, image.BodyPartExamined = 1, k + 1, "ABDOMEN"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImagePositionPatient, image.ImageOrientationPatient = [-150, -150, k], [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
    return image


def load(folder: Path, mask: Mask) -> tuple[LoadedStudy, SeriesVolume, StudyResult]:
    """The series as a source without its voxels, which no segmentation needs, and the mask as a result."""
    study = load_study([folder], pixels=False)
    return study, _source(study.headers), result_of(mask)


def load_plainly(folder: Path, mask: Mask) -> tuple[LoadedStudy, SeriesVolume, StudyResult]:
    """The same without the digests the node takes of all its inputs, as a converter would read them."""
    headers = tuple(dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir()))
    source = _source(headers)
    by_uid = {str(header.SOPInstanceUID): header for header in headers}
    study = LoadedStudy(str(headers[0].StudyInstanceUID), headers, {}, (source,), (), by_uid)
    return study, source, result_of(mask)


def _source(images: Sequence[Dataset]) -> SeriesVolume:
    headers = sorted(images, key=lambda header: float(header.ImagePositionPatient[2]))
    affine = np.diag([SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])
    affine[:3, 3] = [float(v) for v in headers[0].ImagePositionPatient]
    frames = tuple(
        SourceFrame(h.SOPClassUID, h.SOPInstanceUID, None, tuple(float(v) for v in h.ImagePositionPatient))
        for h in headers
    )
    return SeriesVolume(
        volume=Volume(np.zeros((len(frames), 1, 1), np.float32), affine),
        series_uid=str(headers[0].SeriesInstanceUID),
        frames=frames,
        header=headers[0],
        kind=Kind.OTHER,
    )


def result_of(mask: Mask) -> StudyResult:
    """Every label of the mask as a region under its own number."""
    voxels_of = np.sum([np.bincount(plane.reshape(-1), minlength=256) for plane in mask], axis=0)
    regions = tuple(
        Region(
            n,
            f"Organ {n}",
            CATEGORY,
            ORGAN,
            ORGAN,
            Laterality.UNKNOWN,
            float(voxels * np.prod(SPACING_MM)) / 1000,
            (),
            0,
        )
        for n, voxels in enumerate(voxels_of.tolist())
        if n and voxels
    )
    return StudyResult(
        outcome=Outcome.FOUND,
        title="Organs",
        finding=ORGAN,
        site=ORGAN,
        model=MODEL,
        segmentation=Segmentation("ct", mask, regions),
        total_ml=sum(region.volume_ml for region in regions),
    )


def context(**profile: object) -> RenderContext:
    """For a destination that wants the segmentation alone."""
    return RenderContext(OFFLINE, "0" * 64, Profile(objects=("seg",), **profile), 1, None)  # type: ignore[arg-type]


def write_dcmqi_input(folder: Path, mask: Mask) -> tuple[Path, Path]:
    """The mask as an image and its segments as dcmqi's JSON."""
    import SimpleITK as sitk  # not needed by the process that is measured

    image = sitk.GetImageFromArray(mask)
    image.SetOrigin((-150, -150, 0))
    image.SetSpacing(SPACING_MM[::-1])
    sitk.WriteImage(image, str(folder / "mask.nrrd"), useCompression=False)
    described = {
        "ContentCreatorName": "Bench",
        "ClinicalTrialSeriesID": "1",
        "ClinicalTrialTimePointID": "1",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "BodyPartExamined": "ABDOMEN",
        "segmentAttributes": [[_attributes(n) for n in range(1, int(mask.max()) + 1)]],
    }
    (folder / "segments.json").write_text(json.dumps(described))
    return folder / "mask.nrrd", folder / "segments.json"


def _attributes(number: int) -> dict[str, object]:
    def code(words: Sequence[str]) -> dict[str, str]:
        return dict(zip(("CodeValue", "CodingSchemeDesignator", "CodeMeaning"), words, strict=True))

    return {
        "labelID": number,
        "SegmentDescription": f"Segment {number}",
        "SegmentLabel": f"Segment {number}",
        "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": "bench",
        "SegmentedPropertyCategoryCodeSequence": code(("123037004", "SCT", "Anatomical Structure")),
        "SegmentedPropertyTypeCodeSequence": code(("10200004", "SCT", "Liver")),
        "recommendedDisplayRGBValue": [100, 100, 100],
    }
