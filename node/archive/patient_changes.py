"""What HL7 says of patients, and what that makes of images that came under an earlier identity.

Images stay as they came; the archive corrects its own and may send them again (:mod:`node.archive.copies`). Until then
nothing leaves under what is known to be wrong: runs and waiting deliveries are taken back in the transaction that
enters the change, and runs that follow are given the identity that holds now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, true, update

from node import correction
from node.archive import ledger
from node.archive.tables import instances, patient_changes, studies
from node.hl7.patients import PatientChange
from node.patients import PatientIdentity, corrections

# Longer chains of merges are loops.
_LONGEST_CHAIN = 20
_TICK_SECONDS = 1e-5
_MERGE, _UPDATE = "merge", "update"


@dataclass(frozen=True, slots=True)
class _Imaged:
    """Identity of some images of a study."""

    study_uid: str
    patient: PatientIdentity
    corrected_at: float | None


def enter(connection: Connection, now: float, change: PatientChange, *, source: str, event: str) -> list[str]:
    """Enter a change and take back what was made under another identity; return the studies concerned.

    A change that says what is known already does nothing.
    """
    concerned = _imaged(connection, _former(connection, change.patient_id))
    before = [current(connection, each.patient, each.corrected_at) for each in concerned]
    _insert(connection, now, change, source)
    affected: dict[str, set[str]] = {}
    for each, was in zip(concerned, before, strict=True):
        holds = current(connection, each.patient, each.corrected_at)
        if holds != was:
            changed = {keyword for keyword in {*was, *holds} if was.get(keyword) != holds.get(keyword)}
            affected.setdefault(each.study_uid, set()).update(changed)
    for study_uid in sorted(affected):
        _take_back(connection, now, study_uid, sorted(affected[study_uid]), event, source)
    return sorted(affected)


def current(connection: Connection, patient: PatientIdentity, corrected_at: float | None = None) -> dict[str, str]:
    """What is to stand instead of an identity: DICOM keyword → value, empty where the identity holds.

    Parameters
    ----------
    corrected_at : float or None
        When the archive itself corrected these images: demographics that are older say nothing about them.
    """
    patient_id, issuer, last = patient.patient_id.strip(), patient.issuer.strip(), 0
    content: dict[str, str] = {}
    if not patient_id:
        return {}
    for _ in range(_LONGEST_CHAIN):
        row = _latest(connection, _MERGE, patient_id, issuer)
        if row is None:
            break
        content, last = {**content, **row.content}, row.id
        patient_id, issuer = row.content["PatientID"], row.content.get("IssuerOfPatientID", issuer)
    newer = _latest(connection, _UPDATE, patient_id, issuer)
    if newer is not None and newer.id > last and (content or corrected_at is None or newer.at > corrected_at):
        content = {**content, **newer.content}
    return corrections(patient, content)


def of_images(connection: Connection, rows: Iterable[Row[Any]]) -> dict[str, str]:
    """What is to stand instead of the identity of these rows of the index."""
    found: dict[str, str] = {}
    for patient, corrected_at in dict.fromkeys((identity_of(row), row.corrected_at) for row in rows):
        found |= current(connection, patient, corrected_at)
    return found


def holding(connection: Connection, patient: PatientIdentity, corrected_at: float | None = None) -> PatientIdentity:
    """An identity as it holds now."""
    instead = current(connection, patient, corrected_at)
    return PatientIdentity(
        instead.get("PatientID", patient.patient_id),
        instead.get("IssuerOfPatientID", patient.issuer),
        instead.get("PatientName", patient.name),
        instead.get("PatientBirthDate", patient.birth_date),
    )


def identity_of(row: Any) -> PatientIdentity:
    """Identity of a row of the index."""
    return PatientIdentity(row.patient_id, row.issuer_of_patient_id, row.patient_name, row.patient_birth_date)


def forget(connection: Connection, before: float) -> int:
    """Remove old demographics; return how many. Merges hold for ever."""
    old = (patient_changes.c.kind == _UPDATE) & (patient_changes.c.at < before)
    return int(connection.execute(delete(patient_changes).where(old)).rowcount)


def _insert(connection: Connection, now: float, change: PatientChange, source: str) -> None:
    outdated = [(change.kind, change.patient_id, change.issuer)]
    if change.kind == _MERGE:
        # Whoever a patient is merged into is nobody's former number any more: this is how a merge is taken back.
        outdated.append((_MERGE, change.content["PatientID"], change.content.get("IssuerOfPatientID", "")))
    for kind, patient_id, issuer in outdated:
        chosen = _about(kind, patient_id, issuer)
        connection.execute(delete(patient_changes).where(chosen))
    values = {"kind": change.kind, "patient_id": change.patient_id, "issuer": change.issuer}
    to = change.content["PatientID"] if change.kind == _MERGE else ""
    connection.execute(
        insert(patient_changes).values(**values, content=change.content, to_patient_id=to, source=source, at=now)
    )


def _take_back(
    connection: Connection, now: float, study_uid: str, changed: Sequence[str], event: str, source: str
) -> None:
    """The study's row stays locked until the transaction ends: no job is queued from what was true before."""
    chosen = studies.c.study_uid == study_uid
    earlier = connection.execute(select(studies.c.corrected_at).where(chosen).with_for_update()).scalar_one()
    at = max(now, (earlier or 0.0) + _TICK_SECONDS)
    connection.execute(update(studies).where(chosen).values(corrected_at=at, due_at=now))
    runs = correction.take_back_all(connection, at, study_uid=study_uid, changed=list(changed))
    ledger.record(
        connection,
        now,
        ledger.Kind.PATIENT_CHANGED,
        study_uid=study_uid,
        event=event,
        sender=source,
        changed=list(changed),
        runs=runs,
    )


def _former(connection: Connection, patient_id: str) -> list[str]:
    """A number, and every one that was merged into it by and by."""
    found, fresh = {patient_id}, {patient_id}
    while fresh:
        merged = select(patient_changes.c.patient_id).where(
            patient_changes.c.kind == _MERGE, patient_changes.c.to_patient_id.in_(sorted(fresh))
        )
        fresh = set(connection.execute(merged).scalars()) - found
        found |= fresh
    return sorted(found)


def _imaged(connection: Connection, patient_ids: Sequence[str]) -> list[_Imaged]:
    columns = [instances.c[name] for name in ("patient_id", "issuer_of_patient_id", "patient_name")]
    rows = connection.execute(
        select(instances.c.study_uid, *columns, instances.c.patient_birth_date, instances.c.corrected_at)
        .where(instances.c.patient_id.in_(patient_ids), instances.c.active == true(), ~instances.c.ours)
        .distinct()
    )
    return [_Imaged(row.study_uid, identity_of(row), row.corrected_at) for row in rows]


def _latest(connection: Connection, kind: str, patient_id: str, issuer: str) -> Row[Any] | None:
    statement = select(patient_changes).where(_about(kind, patient_id, issuer))
    return connection.execute(statement.order_by(patient_changes.c.id.desc()).limit(1)).one_or_none()


def _about(kind: str, patient_id: str, issuer: str) -> Any:
    """An issuer that one side does not name contradicts nothing."""
    chosen = (patient_changes.c.kind == kind) & (patient_changes.c.patient_id == patient_id)
    return chosen & patient_changes.c.issuer.in_(["", issuer]) if issuer else chosen
