"""Attributes in the DICOM JSON model (PS3.18 annex F), from the index where it has them, else from the file."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from node.archive.headers import UNREADABLE
from node.image_tags import LISTED_TAGS
from node.web.dicomweb.holdings import Holding
from node.web.dicomweb.kept import Kept
from node.web.dicomweb.pixel_source import read_dataset
from node.web.dicomweb.raw_values import plain_element

Attributes = dict[str, Any]
"""Eight hexadecimal digits of a tag, upper case → ``{"vr": …, "Value": […]}``."""

CREATOR_TAG, STATE, ROLE = "00730010", "00731001", "00731002"
"""Private elements of this node in listings of its own objects: where the object is on its way, and what it is."""
CREATOR = "AINODE 1.0"
_NUMBERS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
_INTEGERS = _NUMBERS - {"DS", "FD", "FL"}
_LONGEST_INLINE = 1024
"""Bytes of a binary value that are given in line; what is longer is bulk data."""
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})

BulkData = Callable[[str], str]
"""Path of an element within its instance, e.g. ``0040A730/0/00420011`` → URL of its value."""


def tag_of(keyword: str) -> str:
    """Tag of a keyword of PS3.6, as the JSON model writes it."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"{tag:08X}"


def element(vr: str, *values: Any) -> dict[str, Any]:
    """An element; without Value where there are none."""
    kept = [value for value in values if value not in (None, "")]
    return {"vr": vr, "Value": kept} if kept else {"vr": vr}


def text_element(keyword: str, text: str) -> dict[str, Any]:
    """An element from text as DICOM writes it: several values stand between backslashes."""
    vr = dictionary_VR(tag_of(keyword))
    values = [value.strip() for value in text.split("\\")] if text else []
    if vr == "PN":
        return element(vr, *(name for name in map(_name, values) if name))
    if vr in _NUMBERS:
        return element(vr, *(number for number in (_number(value, vr) for value in values) if number is not None))
    return element(vr, *values)


def from_index(holding: Holding, keywords: Iterable[str]) -> Attributes | None:
    """Attributes of a received instance from its row; None where the row does not have them all.

    A row of an instance that came before listings were indexed has not.
    """
    headers = holding.columns.get("headers") or {}
    listed = headers.get("listed")
    if listed is None:
        return None
    found: Attributes = {}
    for keyword in keywords:
        if (text := _indexed(holding, headers, keyword)) is None:
            return None
        found[tag_of(keyword)] = text_element(keyword, text)
    return found


class HeaderReader:
    """Attributes from files, remembered while they are asked for. Safe to share between threads."""

    def __init__(self) -> None:
        self._kept: Kept[Attributes] = Kept(4096)

    def header(self, holding: Holding) -> Attributes:
        """Every attribute of an instance but long binary ones."""
        return self._kept.get(holding.path, lambda: to_json(read_dataset(holding.path)))

    def of(self, holding: Holding, keywords: Iterable[str]) -> Attributes:
        """Some attributes, from the index or the file; empty where the instance lacks one."""
        wanted = list(keywords)
        found = from_index(holding, wanted)
        if found is not None:
            return found
        header = self.header(holding)
        return {tag: header.get(tag, {"vr": dictionary_VR(tag)}) for tag in map(tag_of, wanted)}


def to_json(dataset: Dataset, bulk_data: BulkData | None = None, path: str = "") -> Attributes:
    """A data set in the JSON model.

    Parameters
    ----------
    bulk_data : callable or None
        Where long binary values are; None leaves them out.
    path : str
        Of the data set within its instance; empty for the whole.

    Notes
    -----
    A value that cannot be read, or has no form in JSON (not a number), is left out: the element then has no Value.
    """
    made: Attributes = {}
    for tag in sorted(dataset.keys()):
        if tag.group == 0x0002 or tag.element == 0:
            continue
        key = f"{tag:08X}"
        raw = dataset.get_item(tag)
        if isinstance(raw, RawDataElement):
            if bulk_data is not None and raw.VR in _BINARY and raw.length > _LONGEST_INLINE:
                made[key] = {"vr": str(raw.VR), "BulkDataURI": bulk_data(path + key)}
                continue
            if (plain := plain_element(raw, tag)) is not None:
                made[key] = plain
                continue
        try:
            made[key] = _converted(dataset[tag], bulk_data, path + key)
        except UNREADABLE:
            made[key] = {"vr": str(raw.VR or "UN") if raw is not None else "UN"}
    return made


def encoded(attributes: Attributes) -> bytes:
    """One data set as JSON text."""
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def _converted(found: DataElement, bulk_data: BulkData | None, path: str) -> dict[str, Any]:
    vr, value = str(found.VR), found.value
    if vr == "SQ":
        items = [to_json(item, bulk_data, f"{path}/{at}/") for at, item in enumerate(value)]
        return {"vr": vr, "Value": items} if items else {"vr": vr}
    if value is None or found.is_empty:
        return {"vr": vr}
    if vr in _BINARY:
        return _binary(vr, value, bulk_data, path)
    several = list(value) if found.VM > 1 else [value]
    if vr == "PN":
        return element(vr, *(name for name in (_name(str(each)) for each in several) if name))
    if vr == "AT":
        return element(vr, *(f"{int(each):08X}" for each in several))
    if vr in _NUMBERS:
        numbers = [_number(each, vr) for each in several]
        # Places count, as those of a position do: a value without a form is null, not left out.
        return {"vr": vr, "Value": numbers} if any(each is not None for each in numbers) else {"vr": vr}
    texts = [str(each) for each in several]
    return {"vr": vr, "Value": [each or None for each in texts]} if any(texts) else {"vr": vr}


def _binary(vr: str, value: Any, bulk_data: BulkData | None, path: str) -> dict[str, Any]:
    content = bytes(value)
    if len(content) <= _LONGEST_INLINE:
        return {"vr": vr, "InlineBinary": base64.b64encode(content).decode("ascii")} if content else {"vr": vr}
    return {"vr": vr, "BulkDataURI": bulk_data(path)} if bulk_data is not None else {"vr": vr}


def _name(text: str) -> dict[str, str]:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: value for group, value in groups if value}


def _number(value: Any, vr: str) -> int | float | None:
    try:
        number = float(value)
        if not math.isfinite(number):
            return None
        return int(value) if vr in _INTEGERS else number
    except (TypeError, ValueError, ArithmeticError):
        return None


def _indexed(holding: Holding, headers: Mapping[str, Any], keyword: str) -> str | None:
    """Text of an attribute that the index has; None where it has no place for it."""
    if keyword in _COLUMNS:
        return str(holding.columns.get(_COLUMNS[keyword]) or "")
    if keyword in _HEADERS:
        return str(headers.get(_HEADERS[keyword]) or "")
    if keyword in _TAGS:
        return "\\".join((headers.get("tags") or {}).get(keyword, []))
    return str(headers["listed"].get(keyword, "")) if keyword in LISTED_TAGS else None


_COLUMNS = {
    "PatientName": "patient_name",
    "PatientID": "patient_id",
    "IssuerOfPatientID": "issuer_of_patient_id",
    "PatientBirthDate": "patient_birth_date",
    "AccessionNumber": "accession_number",
    "Modality": "modality",
    "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "SOPInstanceUID": "sop_instance_uid",
    "SOPClassUID": "sop_class_uid",
}
_HEADERS = {
    "StudyDescription": "study_description",
    "SeriesDescription": "series_description",
    "BodyPartExamined": "body_part",
    "Rows": "rows",
    "Columns": "columns",
}
_TAGS = frozenset({"PatientSex"})
