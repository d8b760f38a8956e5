"""Small DICOM instances for store tests."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from node.archive.part10 import file_meta_bytes
from node.archive.spool import Part, Spool


def dataset(*, study: str = "1.2.3", series: str = "1.2.3.4", sop: str = "1.2.3.4.5", **values: Any) -> Dataset:
    """A header with some pixels."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = MRImageStorage, sop
    made.StudyInstanceUID, made.SeriesInstanceUID = study, series
    made.Modality = "MR"
    made.PatientID, made.PatientName, made.AccessionNumber = "P1", "Yamada^Tarou=山田^太郎", "A1"
    made.Rows = made.Columns = 4
    made.BitsAllocated, made.PixelRepresentation = 16, 0
    made.PixelData = bytes(32)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def dataset_bytes(made: Dataset) -> bytes:
    """Explicit VR little endian, as it travels."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, made)
    return stream.getvalue()


def file_bytes(made: Dataset, **titles: str) -> BytesIO:
    """A whole file."""
    meta = file_meta_bytes(
        sop_class_uid=made.SOPClassUID,
        sop_instance_uid=made.SOPInstanceUID,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **titles,
    )
    return BytesIO(meta + dataset_bytes(made))


def part_with(spool: Spool, made: Dataset, *, sending: str = "SCANNER", receiving: str = "AINODE") -> Part:
    """A part that has received the whole instance."""
    part = spool.begin()
    part.write(
        file_meta_bytes(
            sop_class_uid=made.SOPClassUID,
            sop_instance_uid=made.SOPInstanceUID,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            sending_ae_title=sending,
            receiving_ae_title=receiving,
        )
    )
    part.write_dataset(dataset_bytes(made))
    part.flush()
    return part


def stored(spool: Spool, made: Dataset) -> str:
    """Receive an instance and return its path in the spool."""
    part = part_with(spool, made)
    return part.commit(made.StudyInstanceUID, made.SOPInstanceUID, part.hash.hexdigest())


def spool_files(spool: Spool) -> list[str]:
    """Relative path of every stored file; within a study in the order of arrival."""
    return [
        file for study in spool.studies() for file in spool.by_age(f"{study}/{name}" for name in spool.names(study))
    ]
