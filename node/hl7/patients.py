"""What ADT messages say of patients (chapter 3): other demographics, or two numbers that are one patient. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from node.errors import Hl7Unusable
from node.hl7.message import Message, Segment

UPDATES = frozenset({"A08", "A31"})
MERGES = frozenset({"A18", "A34", "A36", "A40", "A47"})
_REPRESENTATIONS = ("A", "I", "P")  # table 0465, in the order of the component groups of VR PN (PS3.5 6.2.1)
_SEXES = frozenset({"M", "F", "O"})


@dataclass(frozen=True, slots=True)
class PatientChange:
    """What holds now.

    Attributes
    ----------
    kind : str
        ``merge``: images under ``patient_id`` belong to the patient of ``content``; ``update``: only ``content`` is new.
    patient_id, issuer : str
        As images may have it.
    content : dict
        DICOM attributes by keyword, those that were given.
    """

    kind: str
    patient_id: str
    issuer: str = ""
    content: dict[str, str] = field(default_factory=dict)


def changes(message: Message) -> list[PatientChange]:
    """Changes that an ADT message reports, none where its event changes no identity.

    Raises
    ------
    Hl7Unusable
        A segment or number that the event needs is missing.
    """
    event = message.kind[1]
    if event in UPDATES:
        return [_update(message.first("PID"))]
    if event in MERGES:
        found = [each for pid, mrg in _pairs(message) for each in _merges(pid, mrg)]
        if not found:
            raise Hl7Unusable("a merge without the number that is given up (MRG-1)", condition="101")
        return found
    return []


def demographics(pid: Segment) -> dict[str, str]:
    """Patient attributes of a PID segment, by DICOM keyword; what is absent or unfit is left out."""
    birth = pid.get(7)[:8]
    sex = pid.get(8).upper()
    values = {
        "PatientID": pid.get(3),
        "IssuerOfPatientID": pid.get(3, 4),
        "PatientName": person_name(pid, 5),
        "PatientBirthDate": birth if len(birth) == 8 and birth.isdigit() else "",
        "PatientSex": sex if sex in _SEXES else "",
    }
    return {keyword: value for keyword, value in values.items() if value}


def person_name(segment: Segment, number: int) -> str:
    """Repetitions of XPN as VR PN: alphabetic, ideographic and phonetic group."""
    groups: dict[str, str] = {}
    for value in segment.repetitions(number):
        family, given, middle, suffix, prefix = (segment.part(value, each) for each in range(1, 6))
        group = "^".join([family, given, middle, prefix, suffix]).rstrip("^")
        kind = segment.part(value, 8).upper()
        if kind not in _REPRESENTATIONS:
            # Nobody says which; kanji are recognised as not being Latin.
            kind = "A" if group.isascii() or ("A" in groups and "I" in groups) else "I"
        if group:
            groups.setdefault(kind, group)
    return "=".join(groups.get(kind, "") for kind in _REPRESENTATIONS).rstrip("=")


def _update(pid: Segment) -> PatientChange:
    content = demographics(pid)
    if not content.get("PatientID"):
        raise Hl7Unusable("a patient without number (PID-3)", condition="101")
    return PatientChange("update", content["PatientID"], content.get("IssuerOfPatientID", ""), content)


def _pairs(message: Message) -> Iterator[tuple[Segment, Segment]]:
    """A40 and A47 repeat PID and MRG (chapter 3.3.40)."""
    pid: Segment | None = None
    for segment in message.segments:
        if segment.name == "PID":
            pid = segment
        elif segment.name == "MRG" and pid is not None:
            yield pid, segment


def _merges(pid: Segment, mrg: Segment) -> Iterator[PatientChange]:
    content = demographics(pid)
    if not content.get("PatientID"):
        raise Hl7Unusable("a merge without the number that stays (PID-3)", condition="101")
    for value in mrg.repetitions(1):
        given_up, issuer = mrg.part(value, 1), mrg.part(value, 4)
        if given_up and (given_up, issuer) != (content["PatientID"], content.get("IssuerOfPatientID", "")):
            yield PatientChange("merge", given_up, issuer, content)
