"""A volume of any grid as a classic CT or MR series, one object a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dicom_sr.uids import result_uid

CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}


def write_series(
    folder: Path,
    array_zyx: npt.NDArray[np.floating],
    affine_lps: npt.NDArray[np.float64],
    *,
    modality: str = "MR",
    study: str = "volume",
    series: int = 1,
    **attributes: object,
) -> list[Path]:
    """Write whole numbers (z, y, x) whose (column, row, slice) the affine maps to mm; further attributes by keyword.

    A grid that is left-handed has its rows reversed: slices follow row direction × column direction.
    """
    affine = affine_lps.astype(float).copy()
    if np.linalg.det(affine[:3, :3]) < 0:
        array_zyx = array_zyx[:, ::-1]
        affine[:3, 3] += affine[:3, 1] * (array_zyx.shape[1] - 1)
        affine[:3, 1] *= -1
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / steps
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for z, plane in enumerate(array_zyx):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CLASSES[modality]
        uid = result_uid(study, f"image-{series}", z + 1)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid
        image.StudyInstanceUID, image.SeriesInstanceUID = (
            result_uid(study, "study"),
            result_uid(study, "series", series),
        )
        image.FrameOfReferenceUID = result_uid(study, "frame")
        image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Test^Volume", "V1", "", ""
        image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20240102", "101112", "A1", "1"
        image.ReferringPhysicianName, image.Modality, image.Manufacturer = "", modality, "Test"
        image.SeriesNumber, image.InstanceNumber, image.ImageType = series, z + 1, ["ORIGINAL", "PRIMARY", "OTHER"]
        image.PositionReferenceIndicator = ""
        image.ImageOrientationPatient = [*directions[:, 0], *directions[:, 1]]
        image.ImagePositionPatient = list(affine[:3, 3] + affine[:3, 2] * z)
        image.PixelSpacing = [steps[1], steps[0]]
        image.SliceThickness = steps[2]
        image.Rows, image.Columns = plane.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        if modality == "CT":
            image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, 0, "HU"
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        image.PixelData = np.round(plane).astype("<i2").tobytes()
        written.append(folder / f"{series}-{z + 1:03}.dcm")
        image.save_as(written[-1], enforce_file_format=True)
    return written
