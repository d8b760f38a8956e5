"""Basic Application Level Confidentiality Profile (PS3.15 E.2) with Clean Structured Content (E.3.4), for research exports.

UIDs are replaced by others that are the same in every object, so that references stay whole; dates go; every private
attribute goes. An object about which there is doubt is refused.
"""

from __future__ import annotations

import copy
from io import BytesIO
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from dicom_sr.anonymous.admission import check_admissible
from dicom_sr.anonymous.attribute_table import CONTENT_SEQUENCE, Action, attribute_table
from dicom_sr.anonymous.pseudonyms import Pseudonyms
from dicom_sr.anonymous.residue import check_residue, identifying_words, uids_of
from dicom_sr.anonymous.structured_content import (
    DUMMY_DATE,
    DUMMY_DATETIME,
    DUMMY_TIME,
    REMOVED,
    clean_content_item,
)
from dicom_sr.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

METHOD = "PS3.15 E.2 Basic Profile"
_DUMMIES: dict[str, Any] = {
    "DA": DUMMY_DATE,
    "TM": DUMMY_TIME,
    "DT": DUMMY_DATETIME,
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "UR": "http://removed.invalid",
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), REMOVED),
    **dict.fromkeys(("FD", "FL", "SS", "US", "SL", "UL", "SV", "UV"), 0),
    **dict.fromkeys(("OB", "UN", "OW"), b"\0\0"),
}
# Coding Scheme UID, Context UID, Mapping Resource UID: they name vocabularies.
_VOCABULARY = frozenset({0x0008010C, 0x00080117, 0x00080118})
# Curves and overlays go as a whole: the profile takes their data, and the rest would describe nothing. So do the lengths
# of groups, which are not true any more.
_REPEATING_MASK, _REPEATING = 0xFF00, frozenset({0x5000, 0x6000})
_MOMENTS = frozenset({"DA", "DT", "TM"})


class Anonymiser:
    """Makes anonymous copies.

    Parameters
    ----------
    key : bytes
        The site's; see :class:`Pseudonyms`.
    """

    def __init__(self, key: bytes) -> None:
        self._pseudonyms = Pseudonyms(key)

    def anonymise(self, original: Dataset) -> Dataset:
        """An anonymous copy, with file meta information of its own.

        Parameters
        ----------
        original : Dataset
            With ``file_meta``; not changed.

        Raises
        ------
        MayShowIdentity, NotAnonymisable
            It may not be exported at all.
        IdentityRemains
            Something was left that names somebody.
        """
        return self.anonymise_in_place(copy.deepcopy(original))

    def anonymise_in_place(self, dataset: Dataset) -> Dataset:
        """As :meth:`anonymise`, for a data set that nobody else needs; after an error it is of no use."""
        check_admissible(dataset)
        transfer_syntax_uid = str(dataset.file_meta.TransferSyntaxUID)
        words, uids = identifying_words(dataset), uids_of(dataset)
        pseudonym = self._patient(dataset)
        self._clean(dataset)
        dataset.PatientID = pseudonym
        dataset.PatientName = pseudonym.replace("-", "^", 1)
        _mark(dataset)
        check_residue(dataset, words, uids)
        dataset.file_meta = _meta(dataset, transfer_syntax_uid)
        return dataset

    def _patient(self, dataset: Dataset) -> str:
        values = (
            dataset.get(each, "") for each in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
        )
        return self._pseudonyms.patient(*(str(value).strip() for value in values))

    def _clean(self, dataset: Dataset) -> None:
        table = attribute_table()
        for tag in list(dataset.keys()):
            if tag.is_private or tag.element == 0 or tag.group & _REPEATING_MASK in _REPEATING:
                del dataset[tag]
                continue
            element = dataset[tag]
            action = table.action(tag)
            if action is Action.REMOVE or (element.VR == "UN" and action is None):
                del dataset[tag]
            elif element.VR == "SQ":
                self._clean_sequence(element, action)
            else:
                self._clean_value(element, action)

    def _clean_sequence(self, element: DataElement, action: Action | None) -> None:
        if action is Action.EMPTY:
            element.value = DicomSequence([])
            return
        for item in element.value:
            if int(element.tag) == CONTENT_SEQUENCE:
                clean_content_item(item)
            self._clean(item)
            if action is Action.DUMMY:
                _blank(item)

    def _clean_value(self, element: DataElement, action: Action | None) -> None:
        if element.VR == "UI":
            if action is not None or int(element.tag) not in _VOCABULARY:
                element.value = self._new_uids(element.value)
        elif action is Action.EMPTY:
            element.value = None if element.VR not in ("PN", "CS", "LO", "SH") else ""
        elif action is Action.DUMMY or element.VR in _MOMENTS or (element.VR == "PN" and action is None):
            _make_dummy(element)

    def _new_uids(self, value: Any) -> Any:
        if isinstance(value, MultiValue | list):
            return [UID(self._pseudonyms.uid(str(each))) for each in value]
        return UID(self._pseudonyms.uid(str(value))) if value else value


def encoded(dataset: Dataset) -> bytes:
    """A data set as a Part 10 file; the same data set gives the same bytes."""
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _make_dummy(element: DataElement) -> None:
    if element.value in (None, "", b"") or (isinstance(element.value, MultiValue | list) and not element.value):
        return  # there is nothing, and nothing is made up
    element.value = _DUMMIES.get(element.VR)


def _blank(item: Dataset) -> None:
    """What is left of an item whose sequence is about a person."""
    for element in item:
        if element.VR not in ("SQ", "UI"):
            _make_dummy(element)


def _mark(dataset: Dataset) -> None:
    """PS3.15 E.1.1 step 9, and PS3.3 C.7.1.1 and C.12.1.1.8."""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    # Both for every object: these are attributes of the patient, the same over a study.
    codes = [
        ("113100", "Basic Application Confidentiality Profile"),
        ("113104", "Clean Structured Content Option"),
    ]
    items = []
    for value, meaning in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = DicomSequence(items)
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def _meta(dataset: Dataset, transfer_syntax_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta
