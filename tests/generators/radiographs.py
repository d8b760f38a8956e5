"""Radiographs of any view, photometric interpretation and purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from dicom_sr.uids import result_uid

MODALITY_CLASSES = {"CR": ComputedRadiographyImageStorage, "DX": DigitalXRayImageStorageForPresentation}


def write_radiograph(
    path: Path,
    values: npt.NDArray[np.uint16],
    *,
    modality: str = "DX",
    view: str = "PA",
    photometric: str = "MONOCHROME2",
    study: str = "study",
    instance: str = "image",
    bits: int = 12,
    **attributes: object,
) -> Path:
    """Write stored ``values`` (rows, columns) as one radiograph; further attributes by keyword."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MODALITY_CLASSES[modality]
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = result_uid(study, instance)
    image.StudyInstanceUID, image.SeriesInstanceUID = result_uid(study, "study"), result_uid(study, instance, 1)
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Test^Radiograph", "R1", "", ""
    image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20240102", "101112", "A1", "1"
    image.ReferringPhysicianName, image.Modality, image.BodyPartExamined = "", modality, "CHEST"
    image.Manufacturer, image.SeriesNumber, image.InstanceNumber = "Test", 1, 1
    image.ViewPosition, image.PhotometricInterpretation = view, photometric
    image.ImagerPixelSpacing = [0.2, 0.2]
    image.Rows, image.Columns = values.shape
    image.SamplesPerPixel, image.BitsAllocated, image.BitsStored, image.HighBit = 1, 16, bits, bits - 1
    image.PixelRepresentation = 0
    if modality == "DX":
        image.PresentationIntentType = "FOR PRESENTATION"
        image.ImageLaterality, image.PresentationLUTShape = "U", "IDENTITY"
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    image.PixelData = values.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path
