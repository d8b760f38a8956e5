"""Colour photographs of the fundus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, OphthalmicPhotography8BitImageStorage

from dicom_sr.uids import result_uid


def write_photograph(
    path: Path,
    colours: npt.NDArray[np.uint8],
    *,
    photometric: str = "RGB",
    planar: int = 0,
    study: str = "study",
    **attributes: object,
) -> Path:
    """Write ``colours`` (rows, columns, 3), red, green, blue, as one photograph; further attributes by keyword."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = OphthalmicPhotography8BitImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = result_uid(study, "photograph")
    image.StudyInstanceUID, image.SeriesInstanceUID = result_uid(study, "study"), result_uid(study, "photograph", 1)
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Test^Photograph", "P1", "", ""
    image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20240102", "101112", "A1", "1"
    image.ReferringPhysicianName, image.Modality, image.ImageLaterality = "", "OP", "L"
    image.Manufacturer, image.SeriesNumber, image.InstanceNumber = "Test", 1, 1
    image.Rows, image.Columns = colours.shape[:2]
    image.SamplesPerPixel, image.PlanarConfiguration, image.PhotometricInterpretation = 3, planar, photometric
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    stored = _as_ybr(colours) if photometric == "YBR_FULL" else colours
    stored = np.moveaxis(stored, -1, 0) if planar else stored
    image.PixelData = stored.tobytes() + b"\0" * (stored.size % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def _as_ybr(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """PS3.3 C.7.6.3.1.2, YBR_FULL."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    made = colours.astype(np.float64) @ matrix.T + [0, 128, 128]
    return np.clip(np.round(made), 0, 255).astype(np.uint8)
