"""Attribute matching of C-FIND (PS3.4 C.2.2.2), as far as the test PACS needs it. Pure."""

from __future__ import annotations

import re
from fnmatch import translate

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

# PS3.4 C.2.2.2.4: wildcards apply to these representations only.
_WILD = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_RANGE = frozenset({"DA", "TM", "DT"})
_NOT_MATCHED = frozenset({"QueryRetrieveLevel", "SpecificCharacterSet", "TimezoneOffsetFromUTC"})


def matches(query: Dataset, header: Dataset) -> bool:
    """Whether an instance fits every key of the query that has a value."""
    return all(
        _matches_element(element, header.get(element.tag))
        for element in query
        if element.keyword not in _NOT_MATCHED and element.VR != "SQ" and not element.is_empty
    )


def response_to(query: Dataset, header: Dataset, retrieve_ae_title: str) -> Dataset:
    """Identifier of a pending response: the keys asked for, empty where the instance has none (PS3.4 C.4.1.1.3)."""
    response = Dataset()
    if "SpecificCharacterSet" in header:
        response.SpecificCharacterSet = header.SpecificCharacterSet
    for element in query:
        found = header.get(element.tag)
        if isinstance(found, DataElement):
            response.add(found)
        else:
            response.add_new(element.tag, element.VR, [] if element.VR == "SQ" else None)
    response.QueryRetrieveLevel = query.QueryRetrieveLevel
    response.RetrieveAETitle = retrieve_ae_title
    return response


def _matches_element(wanted: DataElement, found: DataElement | None) -> bool:
    values = _values(found) if found is not None else []
    if wanted.VR == "UI":
        return bool(set(_values(wanted)) & set(values))
    text = _values(wanted)[0]
    if wanted.VR in _RANGE and "-" in text:
        first, _, last = text.partition("-")
        return any((not first or value >= first) and (not last or value <= last) for value in values)
    if wanted.VR in _WILD and ("*" in text or "?" in text):
        # fnmatch knows brackets as well, DICOM does not.
        pattern = re.compile(translate(text.replace("[", "[[]")), re.IGNORECASE if wanted.VR == "PN" else 0)
        return text == "*" or any(pattern.match(value) for value in values)
    if wanted.VR == "PN":
        return any(value.upper() == text.upper() for value in values)
    return text in values


def _values(element: DataElement) -> list[str]:
    value = element.value
    items = value if isinstance(value, MultiValue | list) else [value]
    return [str(item) for item in items if item is not None]
