"""One study's story from the ledger, for ``ainode why``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from node.archive.event_kinds import Kind
from node.archive.tables import archive_studies, associations, instances, jobs, ledger, objects, studies
from node.errors import NotStored

_LARGEST_JOB = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Fact:
    """One event, or a run of equal ones.

    Attributes
    ----------
    at, until : float
        Seconds since the epoch of the first and the last event.
    kind : str
        One of :class:`node.archive.event_kinds.Kind`.
    count : int
        Events it stands for: instances that came in one association are one fact.
    detail : dict
        As recorded; of a run, the first event's.
    """

    at: float
    until: float
    kind: str
    study_uid: str | None
    job_id: int | None
    sop_instance_uid: str | None
    detail: dict[str, Any]
    count: int = 1


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a reference means: whole studies, or less where ``job_id`` or ``sop_instance_uids`` is given."""

    study_uids: tuple[str, ...]
    job_id: int | None = None
    sop_instance_uids: frozenset[str] | None = None

    def covers(self, row: Row[Any]) -> bool:
        if self.job_id is not None and row.job_id not in (None, self.job_id):
            return False
        if self.sop_instance_uids is None or not row.kind.startswith("instance."):
            return True
        return row.sop_instance_uid in self.sop_instance_uids


def story(connection: Connection, reference: str) -> list[Fact]:
    """Everything that is known about a study, in order of time.

    Parameters
    ----------
    reference : str
        Accession number, Study, Series or SOP Instance UID (received or made here), or job number.

    Raises
    ------
    NotStored
        Nothing is known under this reference.
    """
    scope = _resolve(connection, reference.strip())
    rows = connection.execute(select(ledger).where(ledger.c.study_uid.in_(scope.study_uids)).order_by(ledger.c.id))
    facts = [_as_fact(row) for row in rows if scope.covers(row)]
    # A copy that came again stands under the association that brought it last; the events know the others.
    carriers = {str(fact.detail["association_id"]) for fact in facts if fact.detail.get("association_id")}
    facts += _associations(connection, scope, carriers)
    # The sort keeps the order of rows with the same time.
    return _condensed(sorted(facts, key=lambda fact: fact.at))


def _resolve(connection: Connection, reference: str) -> _Scope:
    by_study = select(studies.c.study_uid).where(
        or_(studies.c.study_uid == reference, studies.c.accession_number == reference)
    )
    if found := _distinct(connection, by_study):
        return _Scope(found)
    if found := _distinct(connection, select(instances.c.study_uid).where(instances.c.accession_number == reference)):
        return _Scope(found)
    frozen = connection.execute(select(objects).where(objects.c.sop_instance_uid == reference)).one_or_none()
    if frozen is not None:
        return _Scope((frozen.study_uid,), job_id=frozen.job_id)
    rows = connection.execute(
        select(instances.c.study_uid, instances.c.sop_instance_uid).where(
            or_(instances.c.sop_instance_uid == reference, instances.c.series_uid == reference)
        )
    ).all()
    if rows:
        uids = frozenset(row.sop_instance_uid for row in rows)
        return _Scope(tuple(sorted({row.study_uid for row in rows})), sop_instance_uids=uids)
    made = connection.execute(select(objects).where(objects.c.series_uid == reference).limit(1)).one_or_none()
    if made is not None:
        return _Scope((made.study_uid,), job_id=made.job_id)
    if reference.isascii() and reference.isdigit() and int(reference) <= _LARGEST_JOB:
        job = connection.execute(select(jobs).where(jobs.c.id == int(reference))).one_or_none()
        if job is not None:
            return _Scope((job.study_uid,), job_id=job.id)
    return _rejected_or_nothing(connection, reference)


def _rejected_or_nothing(connection: Connection, reference: str) -> _Scope:
    """A study nothing was stored of may still have a row, as when all of it was refused."""
    told = ledger.c.study_uid == reference
    if found := _distinct(connection, select(ledger.c.study_uid).where(told)):
        return _Scope(found)
    listed = select(archive_studies.c.study_uid).where(archive_studies.c.accession_number == reference)
    if found := _distinct(connection, listed):
        return _Scope(found)
    raise NotStored("nothing is known under this accession number, UID or job number")


def _distinct(connection: Connection, statement: Any) -> tuple[str, ...]:
    return tuple(sorted(connection.execute(statement.distinct()).scalars()))


def _associations(connection: Connection, scope: _Scope, carriers: set[str]) -> Iterable[Fact]:
    brought = select(instances.c.association_id).where(instances.c.study_uid.in_(scope.study_uids))
    known = associations.c.id.in_(brought) | associations.c.id.in_(sorted(carriers))
    for row in connection.execute(select(associations).where(known)):
        named = {
            "association_id": row.id,
            "calling_ae_title": row.calling_ae_title,
            "called_ae_title": row.called_ae_title,
            "address": row.address,
        }
        yield Fact(row.opened_at, row.opened_at, Kind.ASSOCIATION_OPENED, None, None, None, named)
        if row.closed_at is not None:
            end = {**named, "ending": row.ending, "instances": row.instances}
            yield Fact(row.closed_at, row.closed_at, Kind.ASSOCIATION_CLOSED, None, None, None, end)


def _as_fact(row: Row[Any]) -> Fact:
    return Fact(row.at, row.at, row.kind, row.study_uid, row.job_id, row.sop_instance_uid, dict(row.detail))


def _condensed(facts: list[Fact]) -> list[Fact]:
    """Merge instances of one association that follow each other."""
    told: list[Fact] = []
    for fact in facts:
        last = told[-1] if told else None
        if (
            last is not None
            and fact.kind.startswith("instance.")
            and (fact.kind, fact.study_uid) == (last.kind, last.study_uid)
            and all(fact.detail.get(name) == last.detail.get(name) for name in ("association_id", "move_originator"))
        ):
            told[-1] = replace(last, until=fact.at, count=last.count + 1)
        else:
            told.append(fact)
    return told
