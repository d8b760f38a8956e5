"""What was ordered: one scheduled procedure step of a worklist, and whether a study's images agree with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from node.patients import PatientIdentity, contradiction


@dataclass(frozen=True, slots=True)
class Code:
    """A coded term as an order carries it (PS3.3 table 8.8-1)."""

    value: str
    scheme: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One scheduled procedure step with its requested procedure (PS3.4 table K.6-1). Text is Unicode.

    Attributes
    ----------
    starts_at : float or None
        Scheduled start, seconds since the epoch, by the site's wall clock.
    priority : str
        Requested Procedure Priority (0040,1003): STAT, HIGH, ROUTINE, MEDIUM, LOW; empty where absent.
    workitem_uid : str
        Of the Unified Procedure Step that asks for it; empty where it came otherwise.
    """

    study_uid: str = ""
    accession_number: str = ""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    modality: str = ""
    station_ae_title: str = ""
    station_name: str = ""
    starts_at: float | None = None
    step_id: str = ""
    step_description: str = ""
    step_status: str = ""
    protocol_codes: tuple[Code, ...] = ()
    requested_procedure_id: str = ""
    requested_procedure_description: str = ""
    procedure_codes: tuple[Code, ...] = ()
    reason: str = ""
    priority: str = ""
    placer_order_number: str = ""
    filler_order_number: str = ""
    workitem_uid: str = ""

    @property
    def codes(self) -> tuple[Code, ...]:
        """Codes of the requested procedure and of the protocol."""
        return (*self.procedure_codes, *self.protocol_codes)

    @property
    def patient(self) -> PatientIdentity:
        """Whom it is for."""
        return PatientIdentity(self.patient_id, self.issuer_of_patient_id, self.patient_name, self.patient_birth_date)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Order:
        """Inverse of :meth:`to_dict`; what this version does not know is left out."""
        known = {each.name for each in fields(cls)}
        values = {key: value for key, value in content.items() if key in known}
        for key in ("protocol_codes", "procedure_codes"):
            values[key] = tuple(Code(**each) for each in values.get(key, ()))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class StudyIdentity:
    """What a study's images say about themselves; several values where they differ."""

    study_uid: str
    accession_numbers: frozenset[str]
    patients: tuple[PatientIdentity, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an order is that of a study.

    Attributes
    ----------
    accepted : bool
        Its attributes may stand in results.
    words : str
        Why (not); names no patient.
    """

    accepted: bool
    words: str


def verify(order: Order, study: StudyIdentity) -> Verdict:
    """Hold an order against a study's images.

    An order is accepted where the patient agrees and the Study Instance UID or the accession number does, unless
    accession numbers are on both sides and differ. Nothing here ever stops a run.
    """
    problems = []
    same_study = bool(order.study_uid) and order.study_uid == study.study_uid
    accessions = {each.strip() for each in study.accession_numbers if each.strip()}
    same_accession = bool(order.accession_number) and order.accession_number.strip() in accessions
    if order.accession_number and accessions and not same_accession:
        problems.append("another accession number")
    if any(_other_patient(order.patient, patient) for patient in study.patients):
        problems.append("another patient")
    if not same_study and not same_accession:
        problems.append("neither its Study Instance UID nor its accession number")
    if problems:
        return Verdict(False, f"the images carry {' and '.join(problems)}")
    if not same_study and order.study_uid:
        return Verdict(True, "accession number and patient agree; the modality gave the study another UID")
    agree = "Study Instance UID and patient agree" if same_study else "accession number and patient agree"
    missing = " (the images carry no accession number)" if order.accession_number and not accessions else ""
    return Verdict(True, f"{agree}{missing}")


def _other_patient(ordered: PatientIdentity, imaged: PatientIdentity) -> bool:
    if ordered.patient_id.strip() and not imaged.patient_id.strip():
        return True
    return contradiction([ordered, imaged]) is not None


def most_urgent(orders: Sequence[Order]) -> str:
    """The most urgent priority of several orders: STAT, HIGH, or empty for whatever is ordinary."""
    given = {order.priority.strip().upper() for order in orders}
    return next((priority for priority in ("STAT", "HIGH") if priority in given), "")
