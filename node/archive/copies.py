"""Which of several copies of one instance counts.

Copies with the same SOP Instance UID are all kept. One is active: the first, unless a later one says something else
about patient, order or study; then that one, because this is how archives correct identity. A unique index of the
database sees to it that there is never more than one, whatever receivers do at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, text, update

from node.archive.engine import Dialect
from node.archive.headers import InstanceHeader
from node.archive.tables import instances, studies

IDENTITY = ("patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date", "accession_number")
"""Attributes that are corrected, beside the Study Instance UID."""

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:uid, 0))")
_STUDY_LOCK = select(studies.c.study_uid).where(studies.c.study_uid == bindparam("study_uid")).with_for_update()
_COPIES = select(instances).where(instances.c.sop_instance_uid == bindparam("uid")).order_by(instances.c.id)
# Smaller than any time between two transactions; larger than what a float of seconds since the epoch can lose.
_TICK_SECONDS = 1e-5


def lock_copies(connection: Connection, sop_instance_uid: str) -> Sequence[Row[Any]]:
    """Copies of an instance there are, in whatever study; nobody else enters one before this transaction ends."""
    if connection.dialect.name == Dialect.POSTGRESQL:
        connection.execute(_LOCK, {"uid": sop_instance_uid})
    return connection.execute(_COPIES, {"uid": sop_instance_uid}).all()


def lock_instances(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    """As :func:`lock_copies` for several instances, given in one order for all so that nobody deadlocks."""
    if connection.dialect.name == Dialect.POSTGRESQL:
        for uid in sop_instance_uids:
            connection.execute(_LOCK, {"uid": uid})


def lock_study(connection: Connection, study_uid: str) -> None:
    """Keep others from changing a study before this transaction ends. On SQLite nobody else writes anyway."""
    if connection.dialect.name == Dialect.POSTGRESQL:
        connection.execute(_STUDY_LOCK, {"study_uid": study_uid})


def changed_attributes(old: Row[Any], header: InstanceHeader) -> list[str]:
    """Names of the identifying attributes in which a new copy differs; their values are nobody's business here."""
    names = [name for name in IDENTITY if _differs(name, getattr(old, name), getattr(header, name))]
    return [*names, "study_instance_uid"] if old.study_uid != header.study_uid else names


def identity_of(row: Row[Any]) -> tuple[str, ...]:
    """Identifying attributes of a copy, comparable."""
    return tuple(_plain(name, getattr(row, name)) for name in IDENTITY)


def supersede(connection: Connection, now: float, *, old: Row[Any], new_id: int, new_study_uid: str) -> float:
    """Let one copy take the place of another, and wake both studies.

    The studies stay locked until the transaction ends: no job is queued for them from what was true before.

    Returns
    -------
    float
        The time it counts from: ``now``, or a little after the last correction of these studies where a clock lags.
    """
    concerned = studies.c.study_uid.in_(sorted({old.study_uid, new_study_uid}))
    locked = select(studies.c.corrected_at).where(concerned).order_by(studies.c.study_uid).with_for_update()
    earlier = [at for at in connection.execute(locked).scalars() if at is not None]
    at = max([now, *(each + _TICK_SECONDS for each in earlier)])
    connection.execute(update(instances).where(instances.c.id == old.id).values(active=False, superseded_at=at))
    activate(connection, at, new_id)
    connection.execute(update(studies).where(concerned).values(corrected_at=at, due_at=now))
    return at


def activate(connection: Connection, at: float, instance_id: int) -> None:
    """Make a copy the one that counts."""
    chosen = instances.c.id == instance_id
    connection.execute(update(instances).where(chosen).values(active=True, corrected_at=at, superseded_at=None))


def note_predecessor(connection: Connection, *, active: Row[Any], older_id: int) -> None:
    """A rescan found the copy that an active one has replaced."""
    since = active.corrected_at or active.received_at
    connection.execute(update(instances).where(instances.c.id == older_id).values(superseded_at=since))
    later = func.coalesce(instances.c.corrected_at, since)
    connection.execute(update(instances).where(instances.c.id == active.id).values(corrected_at=later))


def stragglers(connection: Connection, study_uid: str) -> tuple[list[Row[Any]], int]:
    """Images that a correction has not reached: they still say what it took back for others of the study.

    Returns
    -------
    list of Row, int
        These images, and how many images the study has.
    """
    rows = connection.execute(
        select(instances)
        .where(instances.c.study_uid == study_uid, ~instances.c.ours, ~instances.c.derived)
        .order_by(instances.c.id)
    ).all()
    active = {row.sop_instance_uid: row for row in rows if row.active}
    revoked: dict[tuple[str, ...], float] = {}
    given: dict[tuple[str, ...], float] = {}
    for row in rows:
        if row.active:
            if row.corrected_at is not None:
                given[identity_of(row)] = max(row.corrected_at, given.get(identity_of(row), row.corrected_at))
        elif row.superseded_at is not None and row.sop_instance_uid in active:
            revoked[identity_of(row)] = max(row.superseded_at, revoked.get(identity_of(row), row.superseded_at))
    left = [
        row
        for row in active.values()
        if (since := revoked.get(identity_of(row))) is not None and given.get(identity_of(row), since - 1.0) < since
    ]
    return left, len(active)


def leave_out(connection: Connection, at: float, rows: Sequence[Row[Any]]) -> None:
    """Let copies count no more though nothing has taken their place."""
    chosen = instances.c.id.in_([row.id for row in rows])
    connection.execute(update(instances).where(chosen).values(active=False, superseded_at=at))


def _differs(name: str, old: str, new: str) -> bool:
    before, after = _plain(name, old), _plain(name, new)
    if name != "patient_name" or not before or not after:
        return before != after
    # An archive that adds the ideographic or phonetic group, or drops it, names nobody else (PS3.5 6.2.1.1).
    pairs = zip(before.split("="), after.split("="), strict=False)
    first, *others = [(one.strip(), other.strip()) for one, other in pairs]
    return first[0] != first[1] or any(one != other for one, other in others if one and other)


def _plain(name: str, value: str) -> str:
    """Without what peers add or remove on the way: padding, and empty components at the end of a name (PS3.5 6.2.1)."""
    if name != "patient_name":
        return value.strip()
    return "=".join(group.rstrip("^ ").strip() for group in value.split("=")).rstrip("= ")
