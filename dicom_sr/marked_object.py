"""A marked test object: a Basic Text SR about nobody, for finding out what an archive does with what it stores.

The same node writes the same bytes every time, so that an archive never has more than one of it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, BasicTextSRStorage, ExplicitVRLittleEndian

from dicom_sr.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, NodeIdentity
from dicom_sr.provenance import add_equipment
from dicom_sr.uids import result_uid

PATIENT_NAME = "AINODE^TEST=試験^送信=しけん^そうしん"
TEXT = "TEST OBJECT of an AI node, about no patient. It may be deleted. 試験用オブジェクト。削除してかまいません。"
_ROLES = ("study", "series", "instance")
_DATE, _TIME = "20260101", "120000"


@dataclass(frozen=True, slots=True)
class MarkedObject:
    """The test object and its identifiers."""

    content: bytes
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str


def marked_object(identity: NodeIdentity) -> MarkedObject:
    """Write the test object of a node as a Part 10 file, explicit VR little endian, in Unicode (ISO_IR 192)."""
    study, series, instance = (result_uid(identity.device_uid, f"verify-peer/{role}", 0) for role in _ROLES)
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = BasicTextSRStorage, UID(instance)
    made.StudyDate, made.SeriesDate, made.ContentDate = _DATE, _DATE, _DATE
    made.StudyTime, made.SeriesTime, made.ContentTime = _TIME, _TIME, _TIME
    made.AccessionNumber, made.ReferringPhysicianName = "", ""
    made.Modality = "SR"
    made.StudyDescription = made.SeriesDescription = "AI NODE TEST - MAY BE DELETED"
    made.PatientName, made.PatientID = PATIENT_NAME, f"AINODE-TEST-{identity.serial_number[:8]}"
    made.PatientBirthDate, made.PatientSex = "", ""
    made.StudyInstanceUID, made.SeriesInstanceUID = UID(study), UID(series)
    made.StudyID, made.SeriesNumber, made.InstanceNumber = "TEST", 1, 1
    made.ReferencedPerformedProcedureStepSequence, made.PerformedProcedureCodeSequence = [], []
    add_equipment(made, identity)
    made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    made.ValueType, made.ContinuityOfContent = "CONTAINER", "SEPARATE"
    made.ConceptNameCodeSequence = [_code("121144", "Document Title")]
    made.ContentSequence = [_language(), _comment()]
    return MarkedObject(_part10(made), str(BasicTextSRStorage), instance, study, series)


def _comment() -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", TEXT
    item.ConceptNameCodeSequence = [_code("121106", "Comment")]
    return item


def _language() -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "HAS CONCEPT MOD", "CODE"
    item.ConceptNameCodeSequence = [_code("121049", "Language of Content Item and Descendants")]
    item.ConceptCodeSequence = [_code("en", "English", scheme="RFC5646")]
    return item


def _code(value: str, meaning: str, *, scheme: str = "DCM") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _part10(made: Dataset) -> bytes:
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        made.SOPClassUID,
        made.SOPInstanceUID,
    )
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    made.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
