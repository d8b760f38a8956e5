"""Whether the images of one study belong to one patient. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """Identifying attributes of one instance, as received."""

    patient_id: str
    issuer: str = ""
    name: str = ""
    birth_date: str = ""


def contradiction(identities: Iterable[PatientIdentity]) -> str | None:
    """Say how identities contradict each other, without repeating any of them.

    Two patients are assumed when Patient IDs differ; when equal IDs have different issuers; when birth dates differ;
    and, where no ID is given at all, when names differ. An absent value contradicts nothing. A name alone never does
    beside equal IDs: spelling and script vary from modality to modality.

    Returns
    -------
    str or None
        What differs and in how many variants; None when all may be one patient.
    """
    seen = list(dict.fromkeys(identities))
    checks = [
        ("Patient IDs", {each.patient_id.strip() for each in seen}),
        ("issuers of the Patient ID", {each.issuer.strip() for each in seen}),
        ("birth dates", {each.birth_date.strip() for each in seen}),
    ]
    if not any(each.patient_id.strip() for each in seen):
        checks.append(("patient names", {_plain_name(each.name) for each in seen}))
    for what, values in checks:
        if len(given := values - {""}) > 1:
            return f"{len(given)} different {what} in one study"
    return None


def corrections(patient: PatientIdentity, holds: Mapping[str, str]) -> dict[str, str]:
    """What has to stand instead of an identity, given what holds: DICOM keyword → value; empty where nothing differs.

    Another number brings every attribute along. With the same number a name counts as another one only where both sides
    fill the same component group, and fill it differently; what an image leaves empty is left empty.
    """
    holds = {keyword: value for keyword, value in holds.items() if value}
    merged = holds.get("PatientID", patient.patient_id).strip() != patient.patient_id.strip()
    other_date = (
        bool(patient.birth_date.strip())
        and holds.get("PatientBirthDate", patient.birth_date).strip() != patient.birth_date.strip()
    )
    if not (merged or other_date or _other_name(patient.name, holds.get("PatientName", ""))):
        return {}
    if not patient.issuer.strip():
        holds.pop("IssuerOfPatientID", None)
    return holds if merged else {keyword: value for keyword, value in holds.items() if keyword not in _NUMBER}


_NUMBER = ("PatientID", "IssuerOfPatientID")


def _other_name(one: str, other: str) -> bool:
    pairs = zip(one.split("="), other.split("="), strict=False)
    shared = [(_level(first), _level(second)) for first, second in pairs]
    return any(first != second for first, second in shared if first and second)


def _level(group: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", group).replace("^", " ").casefold().split())


def _plain_name(name: str) -> str:
    """First component group, without case, padding and trailing carets."""
    return name.split("=")[0].strip().rstrip("^ ").casefold()
