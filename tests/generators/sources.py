"""Real images without the mistakes of their headers, so that a judge's complaint is about results alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

_REFERENCES = (
    *("ReferencedImageSequence", "SourceImageSequence", "ReferencedStudySequence", "ReferencedPatientSequence"),
    *("ReferencedPerformedProcedureStepSequence", "ReferencedImageEvidenceSequence", "DerivationImageSequence"),
    *("SourceImageEvidenceSequence", "ReferencedInstanceSequence", "ReferencedRawDataSequence"),
)
"""To objects that are not there."""

_LOCAL_CODES = ("ProcedureCodeSequence", "RequestedProcedureCodeSequence", "PerformedProtocolCodeSequence")
_STUDY = {"StudyDate": "20260110", "StudyTime": "101500", "StudyID": "S1", "AccessionNumber": "A1"}
_REQUEST = ("RequestAttributesSequence", "RequestingPhysician", "RequestedProcedureDescription")


def repaired_copy(files: Sequence[Path], out: Path, name: str) -> list[Path]:
    """Copies of one study's files in ``out``, with pixel data as they are.

    Parameters
    ----------
    name : str
        Patient's Name of the copies, written in Unicode.
    """
    out.mkdir(parents=True)
    written = []
    for n, path in enumerate(sorted(files), start=1):
        dataset = dcmread(path)
        _repair(dataset, n, name)
        syntax = dataset.file_meta.TransferSyntaxUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        if syntax == ImplicitVRLittleEndian:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        written.append(out / f"{n:04}.dcm")
        dataset.save_as(written[-1], enforce_file_format=True)
    return written


def _repair(dataset: Dataset, n: int, name: str) -> None:
    dataset.remove_private_tags()
    for element in list(dataset):
        if element.VR == "PN" or (element.tag.group == 0x0010 and element.keyword not in ("PatientID", "PatientSex")):
            del dataset[element.tag]
    _strip(dataset)
    for keyword, value in _STUDY.items():
        if not dataset.get(keyword):
            setattr(dataset, keyword, value)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientBirthDate = name, "19600229"
    dataset.PatientSex = dataset.get("PatientSex") or "O"
    dataset.PatientID = dataset.get("PatientID") or "P1"
    dataset.ReferringPhysicianName = ""
    dataset.BodyPartExamined = dataset.get("BodyPartExamined") or "HEAD"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if not _is_valid(dataset.get(keyword)):
            setattr(dataset, keyword, _uid(name, keyword))
    if not _is_valid(dataset.get("SOPInstanceUID")):
        dataset.SOPInstanceUID = _uid(name, str(n))


def _is_valid(uid: object) -> bool:
    return bool(uid) and UID(str(uid)).is_valid


def _strip(dataset: Dataset) -> None:
    for keyword in (*_REFERENCES, *_LOCAL_CODES, *_REQUEST):
        dataset.pop(keyword, None)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _strip(item)


def _uid(*parts: str) -> str:
    return f"2.25.{int(hashlib.sha256('/'.join(parts).encode()).hexdigest()[:30], 16)}"
