"""Do all images of a study belong to one patient?

Decided from Patient ID, Issuer of Patient ID, name and birth date:

* different Patient IDs, or equal ones of different issuers: two patients;
* different birth dates: two patients, whatever the ID says (numbers are reused and mistyped);
* different names without an equal birth date to vouch for them: two patients. Names agree when any component group
  (alphabetic, ideographic, phonetic) that both fill agrees after case, spacing and delimiters are levelled, so that a
  name written once in Latin and once in Latin and kanji is one name;
* an attribute that is empty on either side says nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pydicom.dataset import Dataset

from dicom_sr.errors import MixedPatients
from dicom_sr.pixels import READ_ERRORS

_NAMED_INSTANCES = 6


@dataclass(frozen=True, slots=True)
class _Identity:
    patient_id: str
    issuer: str
    birth_date: str
    names: tuple[str, ...]


def require_one_patient(headers: Sequence[Dataset]) -> None:
    """Raise unless all headers belong to one patient.

    Raises
    ------
    MixedPatients
        ``detail`` counts the instances of each identity and names some of their UIDs; never a name or an ID.
    """
    found: dict[_Identity, list[str]] = {}
    for header in headers:
        found.setdefault(_identity(header), []).append(str(header.get("SOPInstanceUID", "")))
    differing = sorted({fact for a, b in combinations(found, 2) for fact in _differences(a, b)})
    if differing:
        groups = sorted(found.values(), key=len, reverse=True)
        raise MixedPatients(
            f"{len(groups)} patient identities in {len(headers)} images; they differ in {', '.join(differing)}",
            attributes=differing,
            instances=[len(group) for group in groups],
            sop_instance_uids=[sorted(group)[:_NAMED_INSTANCES] for group in groups],
        )


def _identity(header: Dataset) -> _Identity:
    return _Identity(
        patient_id=_level(_value(header, "PatientID")),
        issuer=_level(_value(header, "IssuerOfPatientID")),
        birth_date=_date(_value(header, "PatientBirthDate")),
        names=tuple(_level(group.replace("^", " ")) for group in _value(header, "PatientName").split("=")),
    )


def _value(header: Dataset, keyword: str) -> str:
    try:
        return str(header.get(keyword, "") or "")
    except READ_ERRORS:
        return ""


def _date(text: str) -> str:
    digits = re.sub(r"\D", "", text)
    return digits if len(digits) == 8 and digits.strip("0") else ""


def _level(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _differences(a: _Identity, b: _Identity) -> list[str]:
    """Attributes that make two identities two patients."""
    found = []
    if a.patient_id and b.patient_id:
        if a.patient_id != b.patient_id:
            found.append("Patient ID")
        elif a.issuer and b.issuer and a.issuer != b.issuer:
            found.append("Issuer of Patient ID")
    if a.birth_date and b.birth_date:
        if a.birth_date != b.birth_date:
            found.append("Patient's Birth Date")
    elif _other_name(a.names, b.names):
        found.append("Patient's Name")
    return found


def _other_name(a: Sequence[str], b: Sequence[str]) -> bool:
    shared = [(x, y) for x, y in zip(a, b, strict=False) if x and y]
    return bool(shared) and all(x != y for x, y in shared)
