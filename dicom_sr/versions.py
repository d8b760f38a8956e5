"""What a set of objects says about the set whose place it takes (PS3.3 C.17.2, Predecessor Documents Sequence)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_sr.provenance import shortened
from dicom_sr.rendering import EarlierObject, RenderedObject
from dicom_sr.structured_report import hierarchy
from models.results import Replaced

_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_TOLD = ("text", "status")


def name_predecessors(
    objects: Sequence[RenderedObject], replaces: Replaced | None, earlier: Sequence[EarlierObject]
) -> None:
    """Have every report name the documents it takes the place of, and every series say so.

    A report names that of the same role; one without names the texts and status objects, which said the same then. Only
    reports have predecessors in the standard: of a segmentation the series description tells, and its report.
    """
    for rendered in objects:
        dataset = rendered.dataset
        if replaces is not None:
            dataset.SeriesDescription = shortened(f"{dataset.SeriesDescription}, replaces {replaces.moment[-5:]}")
        if dataset.Modality != "SR":
            continue
        documents = [each for each in earlier if _is_report(each)]
        chosen = [each for each in documents if each.role == rendered.role]
        chosen = chosen or [each for each in documents if each.role.partition("-")[0] in _TOLD]
        if chosen:
            study_uid = str(dataset.StudyInstanceUID)
            dataset.PredecessorDocumentsSequence = hierarchy([header_of(each, study_uid) for each in chosen])


def header_of(earlier: EarlierObject, study_uid: str) -> Dataset:
    """The UIDs of an earlier object as evidence and the check need them."""
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = earlier.sop_class_uid, earlier.sop_instance_uid
    header.SeriesInstanceUID, header.StudyInstanceUID = earlier.series_uid, study_uid
    return header


def _is_report(earlier: EarlierObject) -> bool:
    return earlier.sop_class_uid.startswith(_REPORTS) and earlier.sop_class_uid != str(
        KeyObjectSelectionDocumentStorage
    )
