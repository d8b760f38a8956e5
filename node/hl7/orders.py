"""Orders out of ORM^O01, OMG^O19 and OMI^O23 (chapter 4; IHE Radiology RAD-2, RAD-3, RAD-4). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from node.errors import Hl7Unusable
from node.hl7.message import Message, Segment
from node.hl7.moments import seconds
from node.hl7.patients import demographics
from node.orders import Code, Order

KINDS = frozenset({("ORM", "O01"), ("OMG", "O19"), ("OMI", "O23")})
# Order control codes of table 0119 that end an order.
_ENDS = frozenset({"CA", "OC", "DC", "OD", "UC", "CR", "DR"})
# Table 0485 and the older ones of OBR-5 → Requested Procedure Priority (PS3.3 C.4.11).
_PRIORITIES = {"S": "STAT", "STAT": "STAT", "A": "HIGH", "ASAP": "HIGH", "T": "HIGH", "R": "ROUTINE", "P": "LOW"}
_NONE = Segment("")


@dataclass(frozen=True, slots=True)
class OrderNews:
    """One scheduled step; ``cancelled`` where it is taken back."""

    order: Order
    cancelled: bool = False


@dataclass
class _Group:
    """Segments of one order."""

    orc: Segment = _NONE
    obr: Segment = _NONE
    tq1: Segment = _NONE
    zds: Segment = _NONE
    ipc: list[Segment] = field(default_factory=list)


def ordered(message: Message, accession_fields: Sequence[str]) -> list[OrderNews]:
    """Orders of a message.

    Parameters
    ----------
    accession_fields : sequence of str
        Where the accession number stands, like ``OBR-18``: the first that has a value.

    Raises
    ------
    Hl7Unusable
        It names no order, or one that nothing could be recognised by.
    """
    patient = demographics(message.first("PID"))
    news = [
        OrderNews(_order(group, ipc, patient, accession_fields), group.orc.get(1).upper() in _ENDS)
        for group in _groups(message)
        for ipc in group.ipc or [_NONE]
    ]
    if not news:
        raise Hl7Unusable("an order message without order (ORC, OBR)", condition="101")
    if any(not each.order.accession_number and not each.order.study_uid for each in news):
        fields = ", ".join(accession_fields)
        raise Hl7Unusable(f"an order without accession number ({fields}) and Study Instance UID", condition="101")
    return news


def accession_number(segments: Sequence[Segment], fields: Sequence[str]) -> str:
    """The accession number in the first of some fields that has one."""
    by_name = {segment.name: segment for segment in segments if segment.name}
    for each in fields:
        name, _, number = each.partition("-")
        if value := by_name.get(name, _NONE).get(int(number)):
            return value
    return ""


def study_uid(zds: Segment, ipc: Segment = _NONE) -> str:
    """Study Instance UID: of IPC-3 (chapter 4.5.6), else of IHE's ZDS-1; empty where it is none."""
    uid = ipc.get(3) or zds.get(1)
    return uid if len(uid) <= 64 and uid.replace(".", "").isdigit() else ""


def _groups(message: Message) -> Iterator[_Group]:
    group: _Group | None = None
    zds = message.first("ZDS")
    for segment in message.segments:
        begins = segment.name == "ORC" or (segment.name == "OBR" and (group is None or bool(group.obr.name)))
        if begins:
            if group is not None:
                yield group
            group = _Group(zds=zds)
        if group is None:
            continue
        match segment.name:
            case "ORC":
                group.orc = segment
            case "OBR":
                group.obr = segment
            case "TQ1":
                group.tq1 = segment
            case "ZDS":
                group.zds = segment
            case "IPC":
                group.ipc.append(segment)
    if group is not None:
        yield group


def _order(group: _Group, ipc: Segment, patient: dict[str, str], accession_fields: Sequence[str]) -> Order:
    obr, orc, tq1 = group.obr, group.orc, group.tq1
    begins = tq1.get(7) or orc.get(7, 4) or obr.get(27, 4) or obr.get(36)
    asked = tq1.get(9) or orc.get(7, 6) or obr.get(27, 6) or obr.get(5)
    procedure = _codes(obr, 44) or _codes(obr, 4)
    return Order(
        study_uid=study_uid(group.zds, ipc),
        accession_number=accession_number([ipc, obr, orc], accession_fields),
        patient_id=patient.get("PatientID", ""),
        issuer_of_patient_id=patient.get("IssuerOfPatientID", ""),
        patient_name=patient.get("PatientName", ""),
        patient_birth_date=patient.get("PatientBirthDate", ""),
        patient_sex=patient.get("PatientSex", ""),
        modality=(ipc.get(5) or obr.get(24)).upper()[:16],
        station_ae_title=ipc.get(9),
        station_name=ipc.get(7),
        starts_at=seconds(begins),
        step_id=ipc.get(4) or obr.get(20),
        protocol_codes=_codes(ipc, 6),
        requested_procedure_id=ipc.get(2) or obr.get(19),
        requested_procedure_description=obr.get(4, 2),
        procedure_codes=procedure,
        reason=obr.get(31, 2) or obr.get(31) or obr.get(13),
        priority=_PRIORITIES.get(asked.upper(), ""),
        placer_order_number=orc.get(2) or obr.get(2),
        filler_order_number=orc.get(3) or obr.get(3),
    )


def _codes(segment: Segment, number: int) -> tuple[Code, ...]:
    codes = (
        Code(segment.part(value, 1), segment.part(value, 3), segment.part(value, 2))
        for value in segment.repetitions(number)
    )
    return tuple(code for code in codes if code.value)
