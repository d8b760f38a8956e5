"""What a set of objects says about the set whose place it takes (PS3.3 C.17.2, Predecessor Documents Sequence)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_sr.provenance import LONG_STRING, shortened
from dicom_sr.rendering import EarlierObject, RenderedObject
from dicom_sr.structured_report import hierarchy
from models.history import changed_shortly
from models.results import Replaced

_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_TOLD = ("text", "status")
_UNREVIEWED = "not reviewed"


def name_predecessors(
    objects: Sequence[RenderedObject],
    replaces: Replaced | None,
    earlier: Sequence[EarlierObject],
    total_ml: float | None = None,
) -> None:
    """Have every report name the documents it takes the place of, and every series say so, with both total volumes.

    Parameters
    ----------
    total_ml : float or None
        Total volume of now; None where there is none.

    Notes
    -----

    A report names that of the same role; one without names the texts and status objects, which said the same then. Only
    reports have predecessors in the standard: of a segmentation the series description tells, and its report.
    """
    for rendered in objects:
        dataset = rendered.dataset
        if replaces is not None:
            dataset.SeriesDescription = _described(str(dataset.SeriesDescription), replaces, total_ml)
        if dataset.Modality != "SR":
            continue
        documents = [each for each in earlier if _is_report(each)]
        chosen = [each for each in documents if each.role == rendered.role]
        chosen = chosen or [each for each in documents if each.role.partition("-")[0] in _TOLD]
        if chosen:
            study_uid = str(dataset.StudyInstanceUID)
            dataset.PredecessorDocumentsSequence = hierarchy([header_of(each, study_uid) for each in chosen])


def _described(series: str, replaces: Replaced, total_ml: float | None) -> str:
    """``AI: segmentation, 12 -> 14 mL, replaces 03:12``.

    Where that gets too long the model's name gives way, and then the volumes; that nobody has reviewed it never does.
    """
    volumes, when = changed_shortly(total_ml, replaces), f"replaces {replaces.moment[-5:]}"
    kind = series if _UNREVIEWED in series else series.partition(",")[0]
    ways = [(series, volumes, when), (kind, volumes, when), (series, when)]
    joined = [", ".join(part for part in way if part) for way in ways]
    return shortened(next((text for text in joined if len(text) <= LONG_STRING), joined[-1]))


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
