"""Looks for what is left of an identity, after everything that should have gone is gone."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_sr.errors import IdentityRemains

_WHOSE = frozenset(
    {
        "PatientID",
        "OtherPatientIDs",
        "AccessionNumber",
        "PatientBirthDate",
        "PatientAddress",
        "PatientTelephoneNumbers",
        "InstitutionName",
        "InstitutionAddress",
        "RequestingService",
        "AdmissionID",
    }
)
_TEXT = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "UR"})
_OF_CODES = frozenset({"CodeMeaning", "CodeValue", "LongCodeValue", "CodingSchemeDesignator"})
_SHORTEST_WORD = 3
_SHORTEST_VALUE = 4


def identifying_words(dataset: Dataset) -> frozenset[str]:
    """Words of the original that must not stand in an export: parts of names, identifiers, places; case folded."""
    found: set[str] = set()
    for element in _elements(dataset):
        values = [str(each).strip() for each in _values(element)]
        if element.VR == "PN":
            parts = [part.strip(" ,.") for value in values for part in value.replace("=", "^").split("^")]
            found.update(part.casefold() for part in parts if len(part) >= _SHORTEST_WORD)
        elif element.keyword in _WHOSE:
            found.update(value.casefold() for value in values if len(value) >= _SHORTEST_VALUE)
    return frozenset(found)


def check_residue(dataset: Dataset, words: frozenset[str], original_uids: frozenset[str]) -> None:
    """Refuse an object in which something of the original's identity stands still.

    Parameters
    ----------
    words : frozenset of str
        From :func:`identifying_words`.
    original_uids : frozenset of str
        UIDs that name something of the original.

    Raises
    ------
    IdentityRemains
        Naming the attribute, never its value.
    """
    for element in _elements(dataset):
        if element.VR == "UI" and original_uids.intersection(str(each) for each in _values(element)):
            raise IdentityRemains(f"{element.name} still has a UID of the original")
        if element.VR not in _TEXT or element.keyword in _OF_CODES:
            continue
        if any(word in str(value).casefold() for value in _values(element) for word in words):
            raise IdentityRemains(f"{element.name} still has a word that names the patient, a person or the place")
        if element.tag.is_private:
            raise IdentityRemains("a private attribute is left")


def uids_of(dataset: Dataset) -> frozenset[str]:
    """Every UID in a data set that is not one of the standard."""
    found = {str(each) for element in _elements(dataset) if element.VR == "UI" for each in _values(element)}
    return frozenset(each for each in found if each and not each.startswith("1.2.840.10008."))


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)
        else:
            yield element


def _values(element: DataElement) -> list[object]:
    if element.value is None:
        return []
    return list(element.value) if isinstance(element.value, MultiValue | list) else [element.value]
