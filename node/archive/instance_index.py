"""Instances in the index.

Copies. An instance sent again with the same bytes is a duplicate and adds nothing. One sent again with other bytes is
kept beside the first. Which of them counts: see :mod:`node.archive.copies`. A correction stops the runs that took the
copy it replaces and withdraws what of them waits, in the same transaction (:mod:`node.correction`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, exists, select, true, update

from node import correction
from node.archive import copies, ledger
from node.archive.headers import InstanceHeader
from node.archive.placing import checked_uid
from node.archive.tables import instances, objects, studies
from node.archive.upsert import insert_all_missing, insert_missing, insert_statement

AE_TITLE_LENGTH = 16
_MODALITY_LENGTH = 16
# Made once: making a statement costs many times what executing it does.
_IS_OURS = select(exists().where(objects.c.sop_instance_uid == bindparam("uid")))
_OURS_AMONG = select(objects.c.sop_instance_uid).where(
    objects.c.sop_instance_uid.in_(bindparam("uids", expanding=True))
)
_KNOWN_AMONG = (
    select(instances.c.sop_instance_uid, instances.c.study_uid)
    .where(instances.c.sop_instance_uid.in_(bindparam("uids", expanding=True)))
    .distinct()
)


class Recorded(StrEnum):
    """What an instance was to the index."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    CORRECTED = "corrected"


class StudyState(StrEnum):
    """How far a study has arrived."""

    WAITING = "waiting"
    PROVISIONAL = "provisional"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class _Copy:
    """One instance as it comes: ``inserted`` is its new row, None where the copy is known."""

    header: InstanceHeader
    digest: str
    inserted: int | None
    association_id: str | None
    calling_ae_title: str
    called_ae_title: str


def record_instance(
    connection: Connection,
    now: float,
    *,
    header: InstanceHeader,
    path: str,
    digest: str,
    size: int,
    association_id: str | None,
    calling_ae_title: str,
    called_ae_title: str,
    move_originator: str = "",
    move_originator_message_id: int | None = None,
    made_here: bool = False,
    derived: bool = False,
) -> Recorded:
    """Enter a file of the spool, and wake its study.

    Objects that this node made and that come back from an archive are entered, but wake nothing.

    Parameters
    ----------
    path : str
        Relative to the spool, as ``Part.commit`` returned it.
    digest : str
        Hex SHA-256 of the data-set bytes.
    size : int
        Bytes of the file.
    association_id : str or None
        None when the file was found by a rescan.
    move_originator, move_originator_message_id : str, int or None
        AE title and Message ID of the C-MOVE request that caused it (PS3.7 9.1.1.1); empty where there was none.
    made_here : bool
        The caller knows that this node made the object, though the database may have forgotten it.
    derived : bool
        Somebody else made it from an object of this node: it is kept and told about, and no run takes it as an image.

    Raises
    ------
    ObjectRejected
        A UID is none.
    """
    check_uids(header)
    ours = made_here or bool(connection.execute(_IS_OURS, {"uid": header.sop_instance_uid}).scalar_one())
    before = copies.lock_copies(connection, header.sop_instance_uid)
    if not ours:
        _wake_studies(connection, [(now, header)], {row.study_uid for row in before})
    inserted = insert_missing(
        connection,
        instances,
        {
            **_identity(header),
            "transfer_syntax_uid": header.transfer_syntax_uid,
            "digest": digest,
            "size": size,
            "path": path,
            "received_at": now,
            "association_id": association_id,
            "calling_ae_title": calling_ae_title[:AE_TITLE_LENGTH],
            "called_ae_title": called_ae_title[:AE_TITLE_LENGTH],
            "ours": ours,
            "derived": derived and not ours,
            "active": not before,
        },
        unique=["sop_instance_uid", "digest"],
    )
    if inserted is None and association_id is not None:
        _adopt(connection, header.sop_instance_uid, digest, association_id)
    arrival = _Copy(header, digest, inserted, association_id, calling_ae_title, called_ae_title)
    recorded, changed = _settled(connection, now, arrival, [] if ours else before)
    if ours and before:
        recorded = Recorded.DUPLICATE if inserted is None else Recorded.CONFLICT
    details: dict[str, Any] = {"changed": changed} if changed else {}
    details.update(_moved(move_originator, move_originator_message_id))
    ledger.record(
        connection,
        now,
        _event(recorded),
        study_uid=header.study_uid,
        sop_instance_uid=header.sop_instance_uid,
        digest=digest,
        size=size,
        association_id=association_id,
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title,
        ours=ours,
        **details,
    )
    if derived and not ours and recorded is Recorded.NEW:
        ledger.record_all(connection, [_derived_entry(now, header, calling_ae_title)])
    return recorded


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file of the spool that is to be entered; fields as for :func:`record_instance`, ``at`` seconds since the epoch."""

    at: float
    header: InstanceHeader
    path: str
    digest: str
    size: int
    association_id: str
    calling_ae_title: str
    called_ae_title: str
    made_here: bool = False
    derived: bool = False
    move_originator: str = ""
    move_originator_message_id: int | None = None


def record_instances(connection: Connection, arrivals: Sequence[Arrival]) -> list[Recorded]:
    """Enter several files with a few statements; the rows are those of :func:`record_instance` for each in turn.

    Raises
    ------
    ObjectRejected
        A UID of one of them is none; nothing is entered.
    """
    for arrival in arrivals:
        check_uids(arrival.header)
    times = Counter(arrival.header.sop_instance_uid for arrival in arrivals)
    ours = set(connection.execute(_OURS_AMONG, {"uids": sorted(times)}).scalars())
    ours |= {arrival.header.sop_instance_uid for arrival in arrivals if arrival.made_here}
    copies.lock_instances(connection, sorted(times))
    there = connection.execute(_KNOWN_AMONG, {"uids": sorted(times)}).all()
    waking = those_that_wake([arrival for arrival in arrivals if arrival.header.sop_instance_uid not in ours])
    _wake_studies(connection, [(each.at, each.header) for each in waking], {row.study_uid for row in there})
    known = {row.sop_instance_uid for row in there} | {uid for uid, count in times.items() if count > 1}
    fresh = [arrival for arrival in arrivals if arrival.header.sop_instance_uid not in known]
    if fresh:
        rows = [instance_values(arrival, ours=arrival.header.sop_instance_uid in ours) for arrival in fresh]
        insert_all_missing(connection, instances, rows, unique=["sop_instance_uid", "digest"])
        ledger.record_all(
            connection, [ledger_values(arrival, ours=arrival.header.sop_instance_uid in ours) for arrival in fresh]
        )
        derived = [each for each in fresh if each.derived and each.header.sop_instance_uid not in ours]
        if derived:
            made = [_derived_entry(each.at, each.header, each.calling_ae_title) for each in derived]
            ledger.record_all(connection, made)
    # A copy of what is there may be a correction: those are few, and looked at one by one.
    return [
        _record_again(connection, arrival) if arrival.header.sop_instance_uid in known else Recorded.NEW
        for arrival in arrivals
    ]


def _record_again(connection: Connection, arrival: Arrival) -> Recorded:
    return record_instance(
        connection,
        arrival.at,
        header=arrival.header,
        path=arrival.path,
        digest=arrival.digest,
        size=arrival.size,
        association_id=arrival.association_id,
        calling_ae_title=arrival.calling_ae_title,
        called_ae_title=arrival.called_ae_title,
        made_here=arrival.made_here,
        derived=arrival.derived,
        move_originator=arrival.move_originator,
        move_originator_message_id=arrival.move_originator_message_id,
    )


def copies_of_study(connection: Connection, study_uid: str) -> list[Row[Any]]:
    """Every row of a study, copies and the node's own objects included, in the order of arrival."""
    statement = select(instances).where(instances.c.study_uid == study_uid).order_by(instances.c.id)
    return list(connection.execute(statement))


def instances_of_study(connection: Connection, study_uid: str) -> list[Row[Any]]:
    """The instances to work with: the copy of each that counts, none made by or from the node's own; by SOP Instance UID."""
    statement = select(instances).where(
        instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours, ~instances.c.derived
    )
    return sorted(connection.execute(statement), key=lambda row: str(row.sop_instance_uid))


def study_paths(connection: Connection, study_uid: str) -> set[str]:
    """Files of every copy that the index knows of a study, relative to the spool."""
    return set(connection.execute(select(instances.c.path).where(instances.c.study_uid == study_uid)).scalars())


def check_uids(header: InstanceHeader) -> None:
    """Raise ObjectRejected where a UID that the index is by is none."""
    for uid, what in (
        (header.sop_instance_uid, "SOP Instance UID"),
        (header.sop_class_uid, "SOP Class UID"),
        (header.study_uid, "Study Instance UID"),
        (header.series_uid, "Series Instance UID"),
        (header.transfer_syntax_uid, "Transfer Syntax UID"),
    ):
        checked_uid(uid, what)


def _adopt(connection: Connection, sop_instance_uid: str, digest: str, association_id: str) -> None:
    """A rescan got in between the link and the index, or a crash did: the association is known only now."""
    found = (instances.c.sop_instance_uid == sop_instance_uid) & (instances.c.digest == digest)
    nobodys = found & instances.c.association_id.is_(None)
    connection.execute(update(instances).where(nobodys).values(association_id=association_id))


def instance_values(arrival: Arrival, *, ours: bool = False) -> dict[str, Any]:
    """Row of an instance of which there is no copy yet."""
    return {
        **_identity(arrival.header),
        "transfer_syntax_uid": arrival.header.transfer_syntax_uid,
        "digest": arrival.digest,
        "size": arrival.size,
        "path": arrival.path,
        "received_at": arrival.at,
        "association_id": arrival.association_id,
        "calling_ae_title": arrival.calling_ae_title[:AE_TITLE_LENGTH],
        "called_ae_title": arrival.called_ae_title[:AE_TITLE_LENGTH],
        "ours": ours,
        "derived": arrival.derived and not ours,
        "active": True,
    }


def ledger_values(arrival: Arrival, *, ours: bool = False) -> dict[str, Any]:
    """Ledger row of an instance of which there is no copy yet."""
    identifiers = {"study_uid": arrival.header.study_uid, "sop_instance_uid": arrival.header.sop_instance_uid}
    shared = detail_of_association(
        arrival.association_id,
        arrival.calling_ae_title,
        arrival.called_ae_title,
        arrival.move_originator,
        arrival.move_originator_message_id,
        ours=ours,
    )
    detail = {"digest": arrival.digest, "size": arrival.size, **shared}
    return ledger.entry(arrival.at, _event(Recorded.NEW), identifiers, detail)


def detail_of_association(
    association_id: str, calling: str, called: str, originator: str, message_id: int | None, *, ours: bool = False
) -> dict[str, Any]:
    """What :func:`ledger_values` says of every instance that came in the same way."""
    return {
        "association_id": association_id,
        "calling_ae_title": calling,
        "called_ae_title": called,
        "ours": ours,
        **_moved(originator, message_id),
    }


def _derived_entry(at: float, header: InstanceHeader, calling_ae_title: str) -> dict[str, Any]:
    identifiers = {"study_uid": header.study_uid, "sop_instance_uid": header.sop_instance_uid}
    detail = {"calling_ae_title": calling_ae_title, "modality": header.modality, "sop_class_uid": header.sop_class_uid}
    return ledger.entry(at, ledger.Kind.INSTANCE_DERIVED, identifiers, detail)


def _moved(originator: str, message_id: int | None) -> dict[str, Any]:
    return {"move_originator": originator[:AE_TITLE_LENGTH], "move_message_id": message_id} if originator else {}


def _event(recorded: Recorded) -> str:
    return f"instance.{'received' if recorded is Recorded.NEW else recorded}"


def _wake_studies(connection: Connection, arriving: Sequence[tuple[float, InstanceHeader]], losing: set[str]) -> None:
    """Wake the studies of what arrives, and lock those that a correction may take a copy from.

    The caller has the locks of the instances. All receivers take those first and then the studies in the order of their
    UIDs, so that on PostgreSQL none waits for another that waits for it.
    """
    woken = {header.study_uid for _, header in arriving}
    steps: list[tuple[str, float, InstanceHeader | None]] = [(uid, 0.0, None) for uid in losing - woken]
    steps += [(header.study_uid, now, header) for now, header in arriving]
    for study_uid, now, header in sorted(steps, key=lambda step: step[0]):
        if header is None:
            copies.lock_study(connection, study_uid)
        else:
            connection.execute(waking_statement(connection.dialect.name), study_values(now, header))


def those_that_wake(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """For each study, patient and order the first and the last; in one order, so that nobody deadlocks."""
    together: dict[tuple[str, str, str], list[Arrival]] = {}
    for arrival in arrivals:
        header = arrival.header
        together.setdefault((header.study_uid, header.patient_id, header.accession_number), []).append(arrival)
    groups = sorted(together.values(), key=lambda group: group[0].header.study_uid)
    return [arrival for group in groups for arrival in (group if len(group) == 1 else (group[0], group[-1]))]


def _identity(header: InstanceHeader) -> dict[str, Any]:
    return {
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "study_uid": header.study_uid,
        "series_uid": header.series_uid,
        "modality": header.modality[:_MODALITY_LENGTH],
        **{name: getattr(header, name) for name in copies.IDENTITY},
        "headers": header.routing,
    }


def study_values(now: float, header: InstanceHeader) -> dict[str, Any]:
    """Values for :func:`waking_statement`."""
    return {
        "study_uid": header.study_uid,
        "state": str(StudyState.WAITING),
        "first_at": now,
        "last_at": now,
        "evaluated_at": 0.0,
        "due_at": now,
        "arrival": {},
        "patient_id": header.patient_id,
        "accession_number": header.accession_number,
    }


@lru_cache(maxsize=2)
def waking_statement(dialect: str) -> Any:
    """Enter a study, or wake the one that is there."""
    statement = insert_statement(dialect, studies)
    new = statement.excluded
    filled = {
        name: case((studies.c[name] == "", new[name]), else_=studies.c[name])
        for name in ("patient_id", "accession_number")
    }
    # The clocks of two receivers may differ: the study's times only ever widen.
    return statement.on_conflict_do_update(
        index_elements=["study_uid"],
        set_={
            "first_at": case((new.first_at < studies.c.first_at, new.first_at), else_=studies.c.first_at),
            "last_at": case((new.last_at > studies.c.last_at, new.last_at), else_=studies.c.last_at),
            "due_at": new.due_at,
            **filled,
        },
    )


def _settled(
    connection: Connection, now: float, arrival: _Copy, before: Sequence[Row[Any]]
) -> tuple[Recorded, list[str]]:
    """Decide which copy counts from now on, and what follows; return also the attributes that were corrected."""
    if not before:
        return Recorded.NEW if arrival.inserted is not None else Recorded.DUPLICATE, []
    again = Recorded.DUPLICATE if arrival.inserted is None else Recorded.CONFLICT
    active = next((row for row in before if row.active), None)
    if active is None:
        if arrival.inserted is None:
            return again, []
        # Left out by an operator because no correction had reached it.
        active = max(before, key=lambda row: row.superseded_at or 0.0)
    changed = copies.changed_attributes(active, arrival.header)
    if active.digest == arrival.digest or not changed:
        return again, []
    if arrival.association_id is None:
        # From the disk: the later file counts, and a file that was indexed before is no news.
        if arrival.inserted is None:
            return again, []
        if now < active.received_at:
            copies.note_predecessor(connection, active=active, older_id=arrival.inserted)
            return again, []
    _correct(connection, now, arrival, active, before, changed)
    return Recorded.CORRECTED, changed


def _correct(
    connection: Connection,
    now: float,
    arrival: _Copy,
    old: Row[Any],
    before: Sequence[Row[Any]],
    changed: list[str],
) -> None:
    header = arrival.header
    new_id = arrival.inserted
    if new_id is None:
        # Back to what it was before an earlier correction: the copy is there, and arrives once more.
        new_id = next(row.id for row in before if row.digest == arrival.digest)
        came = {
            "received_at": now,
            "association_id": arrival.association_id,
            "calling_ae_title": arrival.calling_ae_title[:AE_TITLE_LENGTH],
            "called_ae_title": arrival.called_ae_title[:AE_TITLE_LENGTH],
        }
        connection.execute(update(instances).where(instances.c.id == new_id).values(**came))
    at = copies.supersede(connection, now, old=old, new_id=new_id, new_study_uid=header.study_uid)
    named = {"patient_id": header.patient_id, "accession_number": header.accession_number}
    connection.execute(update(studies).where(studies.c.study_uid == header.study_uid).values(**named))
    if old.study_uid != header.study_uid:
        ledger.record(
            connection,
            now,
            ledger.Kind.INSTANCE_MOVED,
            study_uid=old.study_uid,
            sop_instance_uid=header.sop_instance_uid,
            association_id=arrival.association_id,
            to_study=header.study_uid,
        )
    correction.take_back(connection, at, study_uid=old.study_uid, path=old.path, changed=changed)
