"""What others say belongs to a study: performed steps, notifications, commitment requests, an archive's counts.

A row is what was said last; arrival compares it with what is here whenever it looks at the study. Evidence may come
before the first image, and stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, select, true, update

from node.archive import ledger
from node.archive.tables import evidence, instances, studies
from node.archive.upsert import insert_statement
from node.arrival import Listed, ListedSeries, Source, StepStatus
from node.arrival.events import Instant

OPTIONAL = "?"
"""Before a series' UID: what is named there are no images, and may go elsewhere; it counts where it is here."""

Named = Mapping[str, Sequence[str] | int]
"""Series UID → SOP Instance UIDs, or how many instances where nobody said which."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What one message says about one study.

    Attributes
    ----------
    reference : str
        UID of the performed step, notification or transaction; name of the archive.
    study_uid : str
        Empty where the message names none.
    status : StepStatus or None
        Of a performed step.
    named : mapping
        The instances it names.
    """

    source: Source
    reference: str
    study_uid: str
    status: StepStatus | None = None
    named: Named = field(default_factory=dict)
    calling_ae_title: str = ""
    accession_number: str = ""

    @property
    def count(self) -> int:
        """Instances named."""
        return sum(each if isinstance(each, int) else len(each) for each in self.named.values())


def state(connection: Connection, now: float, statement: Statement) -> None:
    """Enter a statement in the place of an earlier one of the same source, reference and study, and wake the study."""
    named = {uid: each if isinstance(each, int) else sorted(each) for uid, each in statement.named.items()}
    said = (str(statement.status or ""), named)
    chosen = (
        (evidence.c.source == statement.source.name)
        & (evidence.c.reference == statement.reference)
        & (evidence.c.study_uid == statement.study_uid)
    )
    before = connection.execute(select(evidence.c.status, evidence.c.named).where(chosen)).one_or_none()
    inserting = insert_statement(connection.dialect.name, evidence).values(
        source=statement.source.name,
        reference=statement.reference,
        study_uid=statement.study_uid,
        status=said[0],
        named=named,
        calling_ae_title=statement.calling_ae_title[:16],
        accession_number=statement.accession_number,
        at=now,
        updated_at=now,
    )
    new = inserting.excluded
    connection.execute(
        inserting.on_conflict_do_update(
            index_elements=["source", "reference", "study_uid"],
            set_={"status": new.status, "named": new.named, "updated_at": new.updated_at},
        )
    )
    connection.execute(update(studies).where(studies.c.study_uid == statement.study_uid).values(due_at=now))
    if before is None or (before.status, before.named) != said:
        _record(connection, now, statement)


def _record(connection: Connection, now: float, statement: Statement) -> None:
    ledger.record(
        connection,
        now,
        ledger.Kind.EVIDENCE_RECEIVED,
        study_uid=statement.study_uid or None,
        source=statement.source.value,
        reference=statement.reference,
        status=str(statement.status or ""),
        series=len(statement.named),
        instances=statement.count,
        calling_ae_title=statement.calling_ae_title,
    )


def of_study(connection: Connection, study_uid: str) -> list[Row[Any]]:
    """Rows about a study, oldest first."""
    return list(connection.execute(select(evidence).where(evidence.c.study_uid == study_uid).order_by(evidence.c.id)))


def of_reference(connection: Connection, source: Source, reference: str) -> list[Row[Any]]:
    """Rows of one message, one for each study it names."""
    chosen = (evidence.c.source == source.name) & (evidence.c.reference == reference)
    return list(connection.execute(select(evidence).where(chosen).order_by(evidence.c.id)))


def studies_of_instances(connection: Connection, sop_instance_uids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """SOP Instance UID → study and series, of those that are here."""
    found: dict[str, tuple[str, str]] = {}
    for start in range(0, len(sop_instance_uids), 500):
        some = list(sop_instance_uids[start : start + 500])
        rows = connection.execute(
            select(instances.c.sop_instance_uid, instances.c.study_uid, instances.c.series_uid).where(
                instances.c.sop_instance_uid.in_(some),
                instances.c.active == true(),
                ~instances.c.ours,
                ~instances.c.derived,
            )
        )
        found.update({row.sop_instance_uid: (row.study_uid, row.series_uid) for row in rows})
    return found


def forget(connection: Connection, before: float) -> int:
    """Remove what was said last before a time; return how many rows that were."""
    return int(connection.execute(delete(evidence).where(evidence.c.updated_at < before)).rowcount)


def compared(row: Row[Any], here: Mapping[str, frozenset[str]], at: Instant, *, whole_studies: bool = True) -> Listed:
    """A row held against what is here.

    Parameters
    ----------
    here : mapping
        Series UID → SOP Instance UIDs of the study that are here.
    whole_studies : bool
        False: series of which nothing is here go elsewhere and are not waited for.
    """
    series = []
    everything: frozenset[str] = frozenset().union(*here.values())
    for key, named in sorted(row.named.items()):
        uid = key.removeprefix(OPTIONAL)
        present = here.get(uid, frozenset()) if uid else everything
        expected = named if isinstance(named, int) else len(named)
        held = min(expected, len(present)) if isinstance(named, int) else len(present.intersection(named))
        if key.startswith(OPTIONAL):
            expected = held
        if expected and (whole_studies or present):
            series.append(ListedSeries(uid, expected, held))
    return Listed(at, Source[row.source], row.reference, tuple(series), row.updated_at)
