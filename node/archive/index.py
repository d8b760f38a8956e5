"""The index: which instances lie in the spool, which studies they make, which associations brought them.

Derived from the files: :func:`rescan` rebuilds it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from node.archive import ledger
from node.archive.instance_index import (
    AE_TITLE_LENGTH,
    Arrival,
    Recorded,
    StudyState,
    copies_of_study,
    instances_of_study,
    record_instance,
    record_instances,
)
from node.archive.rescan import RescanReport, rescan
from node.archive.tables import associations, instances, studies
from node.archive.upsert import insert_missing

__all__ = [
    "Arrival",
    "Ending",
    "Recorded",
    "RescanReport",
    "StudyState",
    "associations_of_study",
    "close_association",
    "copies_of_study",
    "hold_study",
    "instances_of_study",
    "list_studies",
    "open_association",
    "open_associations",
    "record_evaluation",
    "record_instance",
    "record_instances",
    "release_study",
    "rescan",
    "studies_to_evaluate",
    "study",
]


class Ending(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"
    LOST = "lost"


def open_association(
    connection: Connection,
    now: float,
    *,
    association_id: str,
    calling_ae_title: str,
    called_ae_title: str,
    address: str,
) -> None:
    """Enter an association that a peer opened."""
    calling, called = calling_ae_title[:AE_TITLE_LENGTH], called_ae_title[:AE_TITLE_LENGTH]
    insert_missing(
        connection,
        associations,
        {
            "id": association_id,
            "calling_ae_title": calling,
            "called_ae_title": called,
            "address": address[:64],
            "opened_at": now,
            "instances": 0,
        },
        unique=["id"],
    )
    ledger.record(
        connection,
        now,
        ledger.Kind.ASSOCIATION_OPENED,
        association_id=association_id,
        calling_ae_title=calling,
        called_ae_title=called,
        address=address,
    )


def close_association(connection: Connection, now: float, association_id: str, *, ending: Ending) -> list[str]:
    """Enter the end of an association, wake the studies it brought, and return their UIDs. Idempotent."""
    brought = instances.c.association_id == association_id
    count = connection.execute(select(func.count()).select_from(instances).where(brought)).scalar_one()
    closed = connection.execute(
        update(associations)
        .where(associations.c.id == association_id, associations.c.closed_at.is_(None))
        .values(closed_at=now, ending=str(ending), instances=count)
    )
    if not closed.rowcount:
        return []
    studies_brought = select(instances.c.study_uid).where(brought, ~instances.c.ours).distinct()
    touched = sorted(connection.execute(studies_brought).scalars())
    if touched:
        connection.execute(update(studies).where(studies.c.study_uid.in_(touched)).values(due_at=now))
    ledger.record(
        connection,
        now,
        ledger.Kind.ASSOCIATION_CLOSED,
        association_id=association_id,
        ending=str(ending),
        instances=count,
        studies=touched,
    )
    return touched


def open_associations(connection: Connection) -> list[Row[Any]]:
    """Associations without an end, oldest first. Those of a process that died are closed as LOST when a receiver starts."""
    statement = select(associations).where(associations.c.closed_at.is_(None))
    return list(connection.execute(statement.order_by(associations.c.opened_at, associations.c.id)))


def associations_of_study(connection: Connection, study_uid: str) -> list[Row[Any]]:
    """Associations that brought instances of a study, in the order they were opened."""
    brought = select(instances.c.association_id).where(instances.c.study_uid == study_uid)
    statement = select(associations).where(associations.c.id.in_(brought))
    return list(connection.execute(statement.order_by(associations.c.opened_at, associations.c.id)))


def studies_to_evaluate(connection: Connection, now: float, *, limit: int = 100) -> list[Row[Any]]:
    """Studies with news, or whose time has come, longest due first.

    Call it in the write transaction that also stores the evaluation: on PostgreSQL the rows are locked, so that news
    arriving meanwhile wait and are not overwritten.
    """
    statement = select(studies).where(studies.c.due_at <= now).order_by(studies.c.due_at, studies.c.study_uid)
    return list(connection.execute(statement.limit(limit).with_for_update(skip_locked=True)))


def study(connection: Connection, study_uid: str) -> Row[Any] | None:
    """Row of a study."""
    return connection.execute(select(studies).where(studies.c.study_uid == study_uid)).one_or_none()


def list_studies(connection: Connection, *, limit: int = 100, held: bool | None = None) -> list[Row[Any]]:
    """Studies, the latest news first."""
    statement = select(studies).order_by(studies.c.last_at.desc(), studies.c.study_uid).limit(limit)
    if held is not None:
        statement = statement.where(studies.c.held_reason.is_not(None) if held else studies.c.held_reason.is_(None))
    return list(connection.execute(statement))


def record_evaluation(
    connection: Connection,
    now: float,
    study_uid: str,
    *,
    state: StudyState,
    due_at: float | None,
    arrival: dict[str, Any],
) -> None:
    """Store what arrival made of a study.

    Parameters
    ----------
    due_at : float or None
        When to look again without news.
    arrival : dict
        Plain JSON of the arrival state.
    """
    connection.execute(
        update(studies)
        .where(studies.c.study_uid == study_uid)
        .values(state=str(state), evaluated_at=now, due_at=due_at, arrival=arrival)
    )


def hold_study(connection: Connection, now: float, study_uid: str, *, reason: str) -> bool:
    """Hold a study; False where it is unknown or held already. ``reason`` names no patient."""
    held = connection.execute(
        update(studies)
        .where(studies.c.study_uid == study_uid, studies.c.held_reason.is_(None))
        .values(held_reason=reason, released_at=None)
    )
    if held.rowcount:
        ledger.record(connection, now, ledger.Kind.STUDY_HELD, study_uid=study_uid, reason=reason)
    return bool(held.rowcount)


def release_study(
    connection: Connection, now: float, study_uid: str, *, by_correction: bool = False, left_out: int = 0
) -> bool:
    """Release a held study and wake it; False where it is not held.

    Parameters
    ----------
    by_correction : bool
        A correction removed the reason, in the step that decides by itself; else an operator releases.
    left_out : int
        Images that count no more because no correction has reached them.
    """
    values = {"held_reason": None} if by_correction else {"held_reason": None, "released_at": now, "due_at": now}
    released = connection.execute(
        update(studies).where(studies.c.study_uid == study_uid, studies.c.held_reason.is_not(None)).values(**values)
    )
    if released.rowcount:
        by = "correction" if by_correction else "operator"
        ledger.record(connection, now, ledger.Kind.STUDY_RELEASED, study_uid=study_uid, by=by, left_out=left_out)
    return bool(released.rowcount)
