"""The end of received images: which studies are old enough, and that their images are gone, on record.

Files go first, inside the transaction that removes their rows: a process killed in between leaves rows without files,
and the next pass ends what it began. The ledger keeps what was removed: how many instances and bytes, the SHA-256 over
their UIDs and digests, and whether the archive listed them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, select

from node.archive import ledger
from node.archive.tables import deliveries, instances, jobs, objects, studies
from node.archive.tables import ledger as ledger_table
from node.delivery.delivery_states import WAITING, DeliveryState
from node.jobs.queue import JobState


@dataclass(frozen=True, slots=True)
class Removed:
    """What went of a study."""

    instances: int
    size: int


def due(connection: Connection, before: float, *, after: str = "", limit: int = 100) -> list[str]:
    """Studies whose images may go: complete, quiet since ``before``, nothing of them held, running or waiting to leave.

    Parameters
    ----------
    after : str
        Study Instance UID to go on behind: in the order of UIDs.
    """
    statement = select(studies.c.study_uid).where(_at_rest(before), studies.c.study_uid > after)
    return list(connection.execute(statement.order_by(studies.c.study_uid).limit(limit)).scalars())


def rows_of(connection: Connection, study_uid: str) -> list[Row[Any]]:
    """Every row of a study's images, copies that do not count included."""
    return list(
        connection.execute(select(instances).where(instances.c.study_uid == study_uid).order_by(instances.c.id))
    )


def remove(
    connection: Connection, now: float, study_uid: str, before: float, spool: Path, *, archive: str, listed: bool
) -> Removed | None:
    """Remove a study's images; None where something has come or begun meanwhile.

    Parameters
    ----------
    before : float
        As for :func:`due`; it is looked at again, under the study's lock.
    archive : str
        Who was asked whether it has them; empty: nobody.
    listed : bool
        It lists every one of them.
    """
    locked = select(studies.c.study_uid).where(studies.c.study_uid == study_uid).with_for_update()
    if connection.execute(locked).first() is None:
        return None
    if (
        connection.execute(
            select(studies.c.study_uid).where(studies.c.study_uid == study_uid, _at_rest(before))
        ).first()
        is None
    ):
        return None
    rows = rows_of(connection, study_uid)
    for row in rows:
        (spool / row.path).unlink(missing_ok=True)
    connection.execute(delete(instances).where(instances.c.id.in_([row.id for row in rows])))
    removed = Removed(len(rows), sum(int(row.size) for row in rows))
    ledger.record(
        connection,
        now,
        ledger.Kind.IMAGES_REMOVED,
        study_uid=study_uid,
        instances=removed.instances,
        bytes=removed.size,
        digest=_digest(rows),
        archive=archive,
        listed=listed,
    )
    return removed


def removed_since(connection: Connection, study_uid: str, since: float) -> bool:
    """Whether images of a study were removed after a time."""
    chosen = (ledger_table.c.study_uid == study_uid) & (ledger_table.c.kind == ledger.Kind.IMAGES_REMOVED)
    return (
        connection.execute(select(ledger_table.c.id).where(chosen, ledger_table.c.at >= since).limit(1)).first()
        is not None
    )


def _at_rest(before: float) -> Any:
    working = exists().where(
        jobs.c.study_uid == studies.c.study_uid,
        jobs.c.state.in_([str(JobState.QUEUED), str(JobState.RUNNING)]),
    )
    unsent = exists().where(
        objects.c.study_uid == studies.c.study_uid,
        deliveries.c.sop_instance_uid == objects.c.sop_instance_uid,
        deliveries.c.state.in_([*map(str, WAITING), str(DeliveryState.SENDING)]),
    )
    here = exists().where(instances.c.study_uid == studies.c.study_uid)
    return (
        (studies.c.state == "complete")
        & (studies.c.last_at < before)
        & studies.c.held_reason.is_(None)
        & studies.c.due_at.is_(None)
        & here
        & ~working
        & ~unsent
    )


def _digest(rows: Sequence[Row[Any]]) -> str:
    digest = hashlib.sha256()
    for uid, content in sorted((row.sop_instance_uid, row.digest) for row in rows):
        digest.update(f"{uid} {content}\n".encode("ascii"))
    return digest.hexdigest()
