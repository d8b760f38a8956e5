"""Worklist files as `wlmscpfs` and Orthanc's worklist plug-in serve them, one for each scheduled step."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from tests.network import uid


def worklist_file(
    folder: Path, name: str, starts: datetime, *, charset: str | list[str] = "ISO_IR 192", **changes: Any
) -> Path:
    """Write one entry; ``changes`` are attributes of it, or of its step where the standard has them there."""
    entry, step = Dataset(), Dataset()
    entry.SpecificCharacterSet = charset
    entry.AccessionNumber = f"ACC-{name}"
    entry.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    entry.PatientID = f"P-{name}"
    entry.PatientBirthDate = "19600102"
    entry.PatientSex = "M"
    entry.ReferringPhysicianName = ""
    entry.StudyInstanceUID = uid("ordered", name)
    entry.RequestedProcedureID = f"RP-{name}"
    entry.RequestedProcedureDescription = "頭部MRI"
    entry.RequestedProcedurePriority = "STAT"
    entry.ReasonForTheRequestedProcedure = "右片麻痺"
    entry.RequestedProcedureCodeSequence = DicomSequence([_code("7000000100000000", "JJ1017-16M", "MRI 頭部")])
    step.Modality = "MR"
    step.ScheduledStationAETitle = "MR1"
    step.ScheduledStationName = "MR1"
    step.ScheduledProcedureStepStartDate = f"{starts:%Y%m%d}"
    step.ScheduledProcedureStepStartTime = f"{starts:%H%M%S}"
    step.ScheduledPerformingPhysicianName = "Suzuki^Hanako=鈴木^花子"
    step.ScheduledProcedureStepDescription = "DWI"
    step.ScheduledProcedureStepID = f"SPS-{name}"
    step.ScheduledProcedureStepLocation = "1"
    for keyword, value in changes.items():
        setattr(step if keyword in step else entry, keyword, value)
    entry.ScheduledProcedureStepSequence = DicomSequence([step])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.276.0.7230010.3.1.0.1")
    meta.MediaStorageSOPInstanceUID = UID(uid("entry", name))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    entry.file_meta = meta
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.wl"
    entry.save_as(path, enforce_file_format=True)
    return path


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
