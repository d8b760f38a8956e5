"""Studies as archives list them: what was seen when, and the queue of those that are to be fetched.

Everything that fetches studies to run on (reconciliation, watch, backfill) shares this queue, so that a study is
fetched once however many want it, and a restart goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, or_, select, update

from node.archive import ledger
from node.archive.tables import archive_studies, studies
from node.archive.upsert import insert_missing
from node.listed import Finding, ListedStudy

WAITING, FETCHING, DONE, FAILED = "waiting", "fetching", "done", "failed"
MAXIMUM_ATTEMPTS = 6
# Whoever claimed a study longer ago than any retrieval takes is gone.
_CLAIM_SECONDS = 3600.0
_FIRST_PAUSE_SECONDS = 30.0


def see(connection: Connection, now: float, archive: str, study: ListedStudy) -> Row[Any]:
    """Enter a study as it is listed now, and return its row."""
    listed = {"accession_number": study.accession_number, "starts_at": study.starts_at, "instances": study.instances}
    new = {"archive": archive, "study_uid": study.study_uid, "seen_at": now, "changed_at": now, **listed}
    chosen = (archive_studies.c.archive == archive) & (archive_studies.c.study_uid == study.study_uid)
    if insert_missing(connection, archive_studies, _defaults(new), unique=["archive", "study_uid"]) is None:
        before = connection.execute(select(archive_studies.c.instances).where(chosen)).scalar_one()
        changed = {"changed_at": now} if before != study.instances else {}
        connection.execute(update(archive_studies).where(chosen).values(seen_at=now, **listed, **changed))
    return connection.execute(select(archive_studies).where(chosen)).one()


def compared(connection: Connection, row_id: int, instances: int | None) -> None:
    """Note at which number of instances a study was held against what is here."""
    connection.execute(update(archive_studies).where(archive_studies.c.id == row_id).values(compared=instances))


def found(connection: Connection, now: float, row: Row[Any], finding: Finding | None, words: str) -> None:
    """Note what a reconciliation found; the ledger tells it once, and again when it changes."""
    name = str(finding) if finding is not None else ""
    if row.finding == name:
        return
    connection.execute(update(archive_studies).where(archive_studies.c.id == row.id).values(finding=name))
    ledger.record(
        connection,
        now,
        ledger.Kind.RECONCILED,
        study_uid=row.study_uid,
        archive=row.archive,
        finding=name or None,
        words=words,
    )


def want(
    connection: Connection, now: float, row: Row[Any], *, purpose: str, priority: int, method: str, again: bool = True
) -> bool:
    """Queue a study; False where it waits or is being fetched already, or was and ``again`` is False."""
    states = ["", DONE, FAILED] if again else [""]
    queued = connection.execute(
        update(archive_studies)
        .where(archive_studies.c.id == row.id, archive_studies.c.state.in_(states))
        .values(
            state=WAITING,
            purpose=purpose,
            priority=priority,
            method=method,
            attempts=0,
            not_before=now,
            message=None,
        )
    )
    if not queued.rowcount:
        # More urgent than whoever wanted it before.
        more = (archive_studies.c.id == row.id) & (archive_studies.c.priority > priority)
        more = more & (archive_studies.c.state == WAITING)
        connection.execute(update(archive_studies).where(more).values(priority=priority, purpose=purpose))
    return bool(queued.rowcount)


def claim(connection: Connection, now: float, *, purposes: tuple[str, ...]) -> Row[Any] | None:
    """Take the most urgent study that waits, the oldest of them; counted as an attempt before it begins."""
    gone = (archive_studies.c.state == FETCHING) & (archive_studies.c.claimed_at < now - _CLAIM_SECONDS)
    connection.execute(update(archive_studies).where(gone).values(state=WAITING))
    waiting = (
        select(archive_studies)
        .where(
            archive_studies.c.state == WAITING,
            archive_studies.c.not_before <= now,
            archive_studies.c.purpose.in_(purposes),
        )
        .order_by(archive_studies.c.priority, archive_studies.c.starts_at, archive_studies.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(waiting).one_or_none()
    if row is not None:
        taken = {"state": FETCHING, "claimed_at": now, "attempts": row.attempts + 1}
        connection.execute(update(archive_studies).where(archive_studies.c.id == row.id).values(**taken))
    return row


def put_off(connection: Connection, row: Row[Any], until: float, message: str) -> None:
    """Return a study unfetched; no attempt is counted."""
    values = {"state": WAITING, "attempts": row.attempts, "not_before": until, "message": message}
    connection.execute(update(archive_studies).where(archive_studies.c.id == row.id).values(**values))


def ended(
    connection: Connection,
    now: float,
    row: Row[Any],
    *,
    method: str,
    completed: int,
    failed: int,
    seconds: float,
    message: str = "",
    refused: bool = False,
) -> str:
    """Note how an attempt to fetch a study ended; return its state now.

    Parameters
    ----------
    refused : bool
        Nothing can be fetched in this way, now or later.
    """
    good = not message and not failed
    attempts = row.attempts + 1
    state = DONE if good else FAILED if refused or attempts >= MAXIMUM_ATTEMPTS else WAITING
    values = {"state": state, "not_before": now + _FIRST_PAUSE_SECONDS * 2**attempts, "message": message or None}
    if state == DONE:
        values["compared"] = row.instances
    connection.execute(update(archive_studies).where(archive_studies.c.id == row.id).values(**values))
    ledger.record(
        connection,
        now,
        ledger.Kind.STUDY_FETCHED,
        study_uid=row.study_uid,
        archive=row.archive,
        purpose=row.purpose,
        method=method,
        completed=completed,
        failed=failed,
        seconds=round(seconds, 3),
        state=state,
        message=message or None,
    )
    return state


def states(connection: Connection, archive: str, study_uids: Sequence[str]) -> list[str]:
    """How far the fetching of these studies is, of those that an archive was seen to list."""
    chosen = (archive_studies.c.archive == archive) & archive_studies.c.study_uid.in_(list(study_uids))
    return list(connection.execute(select(archive_studies.c.state).where(chosen)).scalars())


def is_backfilled(connection: Connection, study_uid: str) -> bool:
    """Whether a study is here because somebody wanted old studies: nobody waits for its answer."""
    chosen = (archive_studies.c.study_uid == study_uid) & (archive_studies.c.purpose == "backfill")
    return connection.execute(select(archive_studies.c.id).where(chosen).limit(1)).first() is not None


def count_waiting(connection: Connection, *, purposes: tuple[str, ...]) -> int:
    """Studies that are still to be fetched."""
    open_states = archive_studies.c.state.in_([WAITING, FETCHING]) & archive_studies.c.purpose.in_(purposes)
    return len(connection.execute(select(archive_studies.c.id).where(open_states)).all())


def forget(connection: Connection, before: float) -> int:
    """Remove what no archive has listed since a time and nobody waits for; return how many rows that were."""
    here = select(studies.c.study_uid)
    old = (archive_studies.c.seen_at < before) & or_(
        archive_studies.c.state.in_(["", DONE, FAILED]), archive_studies.c.study_uid.in_(here)
    )
    return int(connection.execute(delete(archive_studies).where(old)).rowcount)


def _defaults(values: dict[str, Any]) -> dict[str, Any]:
    """With everything that the table fills in, because the statement is made once for all."""
    filled = {"finding": "", "state": "", "purpose": "", "method": "auto", "priority": 2, "attempts": 0}
    return {**filled, "not_before": 0.0, **values}
