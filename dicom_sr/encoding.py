"""Objects as bytes: Part 10, Explicit VR Little Endian, always the same bytes for the same data set."""

from __future__ import annotations

from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_sr.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def encode(dataset: Dataset) -> bytes:
    """Whole file of an object (PS3.10 7.1).

    The meta information names this implementation, not the toolkit's, so that an update of the toolkit does not change
    bytes that have to stay the same.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = b"\x00" * 128
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
