"""Which orders belong to a study, by what the store knows of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, select, true

from node.archive import orders as stored
from node.archive import patient_changes
from node.archive.tables import instances
from node.arrival import Event, Instant, OrderKnown, State
from node.orders import Order, StudyIdentity, verify

# An order of the same patient and modality this near to the images is worth a word where nothing else fits.
_NEAR_SECONDS = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Ordered:
    """What is known about a study's order.

    Attributes
    ----------
    orders : tuple of Order
        Accepted: their attributes may stand in results, and rules match on them.
    words : str
        For the evidence; empty where no order has anything to do with the study. Names no patient.
    mismatch : bool
        An order seems meant for it and says something else: order attributes are withheld, and the result says so.
    late : bool
        The images were there first.
    """

    orders: tuple[Order, ...] = ()
    words: str = ""
    mismatch: bool = False
    late: bool = False


def ordered(connection: Connection, study: Row[Any]) -> Ordered:
    """Find a study's orders and hold them against its images."""
    if not stored.any_known(connection):
        return Ordered()
    identity, imaged, modalities = _identity(connection, study.study_uid)
    if not identity.patients:
        return Ordered()
    rows = stored.about(connection, study_uid=study.study_uid, accession_numbers=sorted(identity.accession_numbers))
    if not rows:
        rows = stored.of_patient(
            connection,
            patient_ids=sorted({each.patient_id for each in identity.patients} | imaged),
            modalities=modalities,
            since=study.first_at - _NEAR_SECONDS,
            until=study.first_at + _NEAR_SECONDS,
        )
    if not rows:
        return Ordered()
    verdicts = [(row, Order.from_dict(row.content)) for row in rows]
    judged = [(row, order, verify(_holding(connection, order), identity)) for row, order in verdicts]
    accepted = [(row, order, verdict) for row, order, verdict in judged if verdict.accepted]
    if not accepted:
        return Ordered(words=f"ORDER MISMATCH: {judged[0][2].words}; it runs on the images' own header", mismatch=True)
    late = all(row.first_seen_at > study.first_at for row, _, _ in accepted)
    return Ordered(tuple(order for _, order, _ in accepted), _words(accepted, len(judged), late=late), late=late)


def order_events(connection: Connection, study: Row[Any], state: State, at: Instant) -> list[Event]:
    """An event where more, or something else, is known about the order than before."""
    if not stored.any_known(connection):
        return []
    found = ordered(connection, study)
    if not found.words or found.words == state.order:
        return []
    return [OrderKnown(at, found.late, found.words)]


def _words(accepted: list[Any], considered: int, *, late: bool) -> str:
    _, order, verdict = accepted[0]
    what = (
        ", ".join(code.value for code in order.codes) or order.requested_procedure_description or "no procedure named"
    )
    priority = f", {order.priority}" if order.priority else ""
    words = f"order from the worklist ({what}{priority}): {verdict.words}"
    if considered > 1:
        words += f"; {len(accepted)} of {considered} orders that name it are accepted"
    return f"{words}; it came after the images" if late else words


def _holding(connection: Connection, order: Order) -> Order:
    """An order for the patient as it is known now: it may have been placed before a merge."""
    patient = patient_changes.holding(connection, order.patient)
    return replace(
        order,
        patient_id=patient.patient_id,
        issuer_of_patient_id=patient.issuer,
        patient_name=patient.name,
        patient_birth_date=patient.birth_date,
    )


def _identity(connection: Connection, study_uid: str) -> tuple[StudyIdentity, set[str], list[str]]:
    """What a study says of itself, its patient as known now; the Patient IDs its images carry; its modalities."""
    rows = connection.execute(
        select(
            instances.c.accession_number,
            instances.c.patient_id,
            instances.c.issuer_of_patient_id,
            instances.c.patient_name,
            instances.c.patient_birth_date,
            instances.c.modality,
            instances.c.corrected_at,
        )
        .where(instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours)
        .distinct()
    ).all()
    patients = {patient_changes.holding(connection, patient_changes.identity_of(row), row.corrected_at) for row in rows}
    identity = StudyIdentity(
        study_uid, frozenset(row.accession_number for row in rows), tuple(sorted(patients, key=repr))
    )
    return identity, {row.patient_id for row in rows}, sorted({row.modality for row in rows})
