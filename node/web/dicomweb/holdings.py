"""What can be given out: received instances that count, and objects of this node that stand.

Of several copies of a SOP Instance UID the active one is given (:mod:`node.archive.copies`). Of this node's own objects
those are left out that must not leave: their run was superseded by a correction, their study is held, their rule is a
shadow rule, or their profile makes anonymous copies, which belong to no study here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, or_, select, true

from node.archive.tables import deliveries, instances, jobs, objects, studies
from node.settings import Settings

MODALITIES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.88.11": "SR",
    "1.2.840.10008.5.1.4.1.1.88.22": "SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "SR",
    "1.2.840.10008.5.1.4.1.1.88.59": "KO",
    "1.2.840.10008.5.1.4.1.1.11.1": "PR",
    "1.2.840.10008.5.1.4.1.1.104.1": "DOC",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.7": "OT",
    "1.2.840.10008.5.1.4.1.1.7.4": "OT",
}
"""Modality of the objects this node makes, by SOP class; of any other it is read from the file."""

_RECEIVED = (
    "sop_instance_uid",
    "sop_class_uid",
    "study_uid",
    "series_uid",
    "transfer_syntax_uid",
    "path",
    "size",
    "modality",
    "patient_id",
    "issuer_of_patient_id",
    "patient_name",
    "patient_birth_date",
    "accession_number",
    "headers",
)


@dataclass(frozen=True, slots=True)
class Produced:
    """What is known of an object of this node beside its bytes.

    Attributes
    ----------
    deliveries : tuple of tuple
        (destination, state) of each; ``replaced`` where a later set took its place there.
    """

    job_id: int
    role: str
    profile: str
    frozen_at: float
    deliveries: tuple[tuple[str, str], ...] = ()

    @property
    def state(self) -> str:
        """In one line, e.g. ``pacs: committed``; ``not sent`` where it has no destination."""
        return ", ".join(f"{name}: {state}" for name, state in self.deliveries) or "not sent"


@dataclass(frozen=True, slots=True)
class Holding:
    """One instance that can be given out.

    Attributes
    ----------
    path : Path
        The file, absolute; complete, with file meta information.
    columns : mapping
        Attributes in the index (columns of ``instances``); empty for an object of this node.
    produced : Produced or None
        None for what was received.
    """

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax_uid: str
    path: Path
    size: int
    modality: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    produced: Produced | None = None


class Holdings:
    """Finds instances for one node. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._spool = settings.data_dir / "spool"
        self._outbox = settings.data_dir / "outbox"
        self._anonymous = sorted(name for name, profile in settings.profile.items() if profile.anonymous)

    def find(
        self,
        connection: Connection,
        study_uid: str,
        series_uid: str | None = None,
        sop_instance_uid: str | None = None,
    ) -> list[Holding]:
        """Instances of a study, a series of it or one of that: received ones in order of arrival, then our own."""
        named = {"study_uid": study_uid, "series_uid": series_uid, "sop_instance_uid": sop_instance_uid}
        wanted = {name: value for name, value in named.items() if value is not None}
        received = select(*(instances.c[name] for name in _RECEIVED)).where(
            self.is_received(), *(instances.c[name] == value for name, value in wanted.items())
        )
        made = (
            select(objects)
            .join(jobs, jobs.c.id == objects.c.job_id)
            .where(self.is_standing(), *(objects.c[name] == value for name, value in wanted.items()))
        )
        theirs = [self._received(row) for row in connection.execute(received.order_by(instances.c.id))]
        rows = connection.execute(made.order_by(objects.c.job_id, objects.c.role, objects.c.sop_instance_uid)).all()
        states = _states(connection, [row.sop_instance_uid for row in rows])
        return theirs + [self._produced(row, states.get(row.sop_instance_uid, ())) for row in rows]

    def first(self, connection: Connection, study_uid: str) -> Holding | None:
        """One instance of a study that tells about its patient and study; None where there is none."""
        statement = (
            select(*(instances.c[name] for name in _RECEIVED))
            .where(self.is_received(), instances.c.study_uid == study_uid)
            .order_by(instances.c.ours, instances.c.derived, instances.c.id)
            .limit(1)
        )
        row = connection.execute(statement).first()
        return self._received(row) if row is not None else None

    def is_received(self) -> ColumnElement[bool]:
        """Condition: the copy that counts, and not one of our objects come back that is given out from the outbox, or
        must not be given out at all."""
        same = objects.c.sop_instance_uid == instances.c.sop_instance_uid
        here = objects.c.removed_at.is_(None)
        barred = or_(jobs.c.superseded_at.is_not(None), jobs.c.shadow)
        ours = exists().where(same, jobs.c.id == objects.c.job_id, or_(here, barred))
        return (instances.c.active == true()) & ~(instances.c.ours & ours)

    def is_standing(self) -> ColumnElement[bool]:
        """Condition on objects joined with their jobs: it is here and may be given out."""
        study = studies.c.study_uid == objects.c.study_uid
        held = exists().where(study, studies.c.held_reason.is_not(None))
        stands = objects.c.removed_at.is_(None) & jobs.c.superseded_at.is_(None) & ~jobs.c.shadow & ~held
        return stands & objects.c.profile.not_in(self._anonymous) if self._anonymous else stands

    def _received(self, row: Row[Any]) -> Holding:
        return Holding(
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
            study_uid=row.study_uid,
            series_uid=row.series_uid,
            transfer_syntax_uid=row.transfer_syntax_uid,
            path=self._spool / row.path,
            size=row.size,
            modality=row.modality,
            columns=dict(row._mapping),
        )

    def _produced(self, row: Row[Any], states: Sequence[tuple[str, str]]) -> Holding:
        return Holding(
            sop_instance_uid=row.sop_instance_uid,
            sop_class_uid=row.sop_class_uid,
            study_uid=row.study_uid,
            series_uid=row.series_uid,
            transfer_syntax_uid=row.transfer_syntax_uid,
            path=self._outbox / row.path,
            size=row.size,
            modality=MODALITIES.get(row.sop_class_uid, ""),
            produced=Produced(row.job_id, row.role, row.profile, row.frozen_at, tuple(states)),
        )


def _states(connection: Connection, uids: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    wanted = list(uids)
    if not wanted:
        return {}
    statement = (
        select(deliveries.c.sop_instance_uid, deliveries.c.destination, deliveries.c.state, deliveries.c.replaced_by)
        .where(deliveries.c.sop_instance_uid.in_(wanted))
        .order_by(deliveries.c.id)
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for row in connection.execute(statement):
        state = row.state if row.replaced_by is None else "replaced"
        found.setdefault(row.sop_instance_uid, []).append((row.destination, state))
    return found
