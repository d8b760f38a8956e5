"""Whether the images of one study belong to one patient. Pure."""

from __future__ import annotations

from collections.abc import Iterable
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


def _plain_name(name: str) -> str:
    """First component group, without case, padding and trailing carets."""
    return name.split("=")[0].strip().rstrip("^ ").casefold()
