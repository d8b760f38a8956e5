"""What the console shows, read from the store."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from node.archive.tables import deliveries, instances, jobs, objects, studies


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study as the first page shows it. Times are seconds since the epoch. No patient attribute."""

    study_uid: str
    accession_number: str
    state: str
    held: bool
    last_at: float
    images: int
    jobs: dict[str, int] = field(default_factory=dict)
    deliveries: dict[str, int] = field(default_factory=dict)

    @property
    def needs_somebody(self) -> bool:
        """Held, dead or failed: nothing happens by itself any more, or not soon."""
        return self.held or bool({"dead", "failed"} & (self.jobs.keys() | self.deliveries.keys()))


def latest_studies(connection: Connection, limit: int = 100) -> list[StudyLine]:
    """The studies that were heard of last, newest first."""
    rows = connection.execute(select(studies).order_by(studies.c.last_at.desc()).limit(limit)).all()
    uids = [row.study_uid for row in rows]
    per_study = select(instances.c.study_uid, func.count()).where(instances.c.study_uid.in_(uids))
    images: dict[str, int] = {
        study_uid: int(count) for study_uid, count in connection.execute(per_study.group_by(instances.c.study_uid))
    }
    job_states = _by_study(
        connection.execute(
            select(jobs.c.study_uid, jobs.c.state, func.count())
            .where(jobs.c.study_uid.in_(uids))
            .group_by(jobs.c.study_uid, jobs.c.state)
        ).all()
    )
    delivery_states = _by_study(
        connection.execute(
            select(objects.c.study_uid, deliveries.c.state, func.count())
            .join(objects, objects.c.sop_instance_uid == deliveries.c.sop_instance_uid)
            .where(objects.c.study_uid.in_(uids))
            .group_by(objects.c.study_uid, deliveries.c.state)
        ).all()
    )
    return [
        StudyLine(
            row.study_uid,
            row.accession_number,
            row.state,
            row.held_reason is not None,
            row.last_at,
            images.get(row.study_uid, 0),
            job_states.get(row.study_uid, {}),
            delivery_states.get(row.study_uid, {}),
        )
        for row in rows
    ]


def _by_study(rows: object) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for study_uid, state, count in rows:  # type: ignore[attr-defined]
        found.setdefault(study_uid, {})[state] = int(count)
    return found
