"""Earlier studies in a space of their own, and the retrievals that bring them.

An instance that comes because this node asked for it as a prior starts nothing: it is filed here and not in the index.
The sender says so by Move Originator (PS3.7 9.1.1.1); one that does not is recognised while the retrieval stands open,
unless it is a device that has sent here before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, or_, select, update

from node.archive.headers import InstanceHeader
from node.archive.tables import associations, priors, retrievals
from node.archive.upsert import insert_missing

FOLDER = "priors"
# A retrieval that was cut off by a crash stays open in the table; nothing takes longer.
_LONGEST_SECONDS = 3600.0
_AFTERWARDS_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class PriorFile:
    """A file placed in the space of priors: path relative to it, digest of the data set, bytes."""

    path: str
    digest: str
    size: int


def begin(connection: Connection, now: float, *, study_uid: str, peer: str, method: str, order_id: int | None) -> int:
    """Enter a retrieval before it begins, and return its number: images may come before the first response."""
    values = {"study_uid": study_uid, "peer": peer, "method": method, "order_id": order_id, "begun_at": now}
    row = connection.execute(insert(retrievals).values(**values, completed=0, failed=0, series_uid=""))
    (number,) = row.inserted_primary_key or (0,)
    return int(number)


def end(
    connection: Connection, now: float, number: int, *, completed: int, failed: int, message: str | None = None
) -> None:
    """Note how a retrieval ended."""
    values = {"ended_at": now, "completed": completed, "failed": failed, "message": message}
    connection.execute(update(retrievals).where(retrievals.c.id == number).values(**values))


def is_prior(
    connection: Connection, now: float, study_uid: str, *, moved_by_us: bool, foreign_title: str | None = None
) -> bool:
    """Whether an instance of this study, coming now, is one that was asked for as a prior.

    Parameters
    ----------
    moved_by_us : bool
        The request names this node as Move Originator.
    foreign_title : str or None
        Calling AE title of a sender that neither says so nor is the archive that was asked. An archive may send under
        another title than it answers to; but who sent of his own accord before is a device that has something new.
    """
    asked = (retrievals.c.study_uid == study_uid) & (retrievals.c.method == "move")
    standing = retrievals.c.ended_at.is_(None) & (retrievals.c.begun_at > now - _LONGEST_SECONDS)
    # Whoever says so may be a little behind; later the same study may be moved here to be run on.
    asked = asked & (or_(standing, retrievals.c.ended_at > now - _AFTERWARDS_SECONDS) if moved_by_us else standing)
    if foreign_title is not None:
        sent = (associations.c.calling_ae_title == foreign_title) & (associations.c.opened_at < retrievals.c.begun_at)
        asked = asked & ~exists(select(associations.c.id).where(sent))
    return connection.execute(select(retrievals.c.id).where(asked).limit(1)).first() is not None


def record(connection: Connection, now: float, header: InstanceHeader, file: PriorFile, *, root: Path) -> bool:
    """Enter an instance of an earlier study; False where it was here.

    One that comes with other bytes takes the place of the one that was here, whose file goes: what the archive says now
    holds, and may correct whose study it is.

    Parameters
    ----------
    root : Path
        Of the space of priors.
    """
    values = {
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "study_uid": header.study_uid,
        "series_uid": header.series_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "patient_id": header.patient_id,
        "issuer_of_patient_id": header.issuer_of_patient_id,
        "modality": header.modality[:16],
        "digest": file.digest,
        "size": file.size,
        "path": file.path,
        "received_at": now,
        "headers": header.routing,
    }
    if insert_missing(connection, priors, values, unique=["sop_instance_uid"]) is not None:
        return True
    other = (priors.c.sop_instance_uid == header.sop_instance_uid) & (priors.c.digest != file.digest)
    replaced = connection.execute(select(priors.c.path).where(other).with_for_update()).scalar_one_or_none()
    if replaced is None:
        return False
    connection.execute(update(priors).where(other).values(**values))
    (root / replaced).unlink(missing_ok=True)
    return True


def instances_of_study(connection: Connection, study_uid: str) -> list[Row[Any]]:
    """Instances of one earlier study, by SOP Instance UID."""
    statement = select(priors).where(priors.c.study_uid == study_uid).order_by(priors.c.sop_instance_uid)
    return list(connection.execute(statement))


def studies_of_patient(connection: Connection, patient_id: str, *, apart_from: str = "") -> list[Row[Any]]:
    """Earlier studies of a patient that are here: ``study_uid``, ``modality``, ``instances``, ``received_at``."""
    statement = (
        select(
            priors.c.study_uid,
            func.min(priors.c.modality).label("modality"),
            func.count().label("instances"),
            func.max(priors.c.received_at).label("received_at"),
        )
        .where(priors.c.patient_id == patient_id, priors.c.study_uid != apart_from)
        .group_by(priors.c.study_uid)
        .order_by(priors.c.study_uid)
    )
    return list(connection.execute(statement))


def space_used(connection: Connection) -> int:
    """Bytes of every prior."""
    return int(connection.execute(select(func.coalesce(func.sum(priors.c.size), 0))).scalar_one())


def make_room(connection: Connection, root: Path, *, keep_bytes: int, received_before: float) -> int:
    """Remove studies that are too old, and the oldest beyond a size; return how many instances that were.

    Rows go first, in the caller's transaction; a file that outlives its row is found again by name and overwritten by
    none.
    """
    studies = connection.execute(
        select(priors.c.study_uid, func.max(priors.c.received_at).label("at"), func.sum(priors.c.size).label("size"))
        .group_by(priors.c.study_uid)
        .order_by(func.max(priors.c.received_at))
    ).all()
    used = sum(int(row.size) for row in studies)
    removed = 0
    for row in studies:
        if row.at >= received_before and used <= keep_bytes:
            break
        used -= int(row.size)
        for instance in instances_of_study(connection, row.study_uid):
            (root / instance.path).unlink(missing_ok=True)
            removed += 1
        connection.execute(delete(priors).where(priors.c.study_uid == row.study_uid))
    return removed
