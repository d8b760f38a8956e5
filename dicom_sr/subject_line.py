"""Whose picture it is, as it is burned into pictures and printed in reports."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from dicom_sr.pictures.lettering import can_show
from dicom_sr.pictures.words import Words


def day(value: object) -> str:
    """A DICOM date as ISO 8601."""
    text = str(value or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 else text


def subject_line(attributes: Dataset, words: Words) -> str:
    """Patient ID, study date and accession number: what a picture cut off from its header needs, and no more."""
    parts = (
        (words.patient_id, str(attributes.get("PatientID", "") or "")),
        (words.study, day(attributes.get("StudyDate"))),
        (words.accession, str(attributes.get("AccessionNumber", "") or "")),
    )
    return ", ".join(f"{name} {value}" for name, value in parts if value)


def identifies(attributes: Dataset) -> bool:
    """Whether the line above names a patient and a date: the meaning of Burned In Annotation YES (PS3.3 C.7.6.1)."""
    return bool(attributes.get("PatientID")) and bool(attributes.get("StudyDate"))


def printed_name(attributes: Dataset) -> str:
    """The patient's name in those of its groups that the font can show; empty where it can show none."""
    name = attributes.get("PatientName", "")
    groups = name if isinstance(name, PersonName) else PersonName(str(name or ""))
    shown = dict.fromkeys(
        " ".join(part for part in group.split("^") if part)
        for group in (groups.ideographic, groups.alphabetic, groups.phonetic)
        if group and can_show(group.replace("^", " "))
    )
    return " / ".join(shown)
