"""What the console and the metrics show, read from the store."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from node import correction
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


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals by state, and the age of the oldest queued job in seconds (0 when none waits).

    ``outdated`` counts deliveries whose destination has an identity that was corrected since.
    """

    jobs: dict[str, int]
    deliveries: dict[tuple[str, str], int]
    held: int
    images: int
    oldest_job_seconds: float
    outdated: int = 0


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


def counts(connection: Connection, now: float) -> Counts:
    """Totals for the metrics."""
    oldest = connection.execute(select(func.min(jobs.c.created_at)).where(jobs.c.state == "queued")).scalar()
    by_destination = connection.execute(
        select(deliveries.c.destination, deliveries.c.state, func.count()).group_by(
            deliveries.c.destination, deliveries.c.state
        )
    ).all()
    return Counts(
        jobs={
            state: int(count)
            for state, count in connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
        },
        deliveries={(name, state): int(count) for name, state, count in by_destination},
        held=int(
            connection.execute(
                select(func.count()).select_from(studies).where(studies.c.held_reason.is_not(None))
            ).scalar_one()
        ),
        images=int(connection.execute(select(func.count()).select_from(instances)).scalar_one()),
        oldest_job_seconds=max(0.0, now - oldest) if oldest is not None else 0.0,
        outdated=sum(each.deliveries for each in correction.outdated_studies(connection)),
    )


def _by_study(rows: object) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for study_uid, state, count in rows:  # type: ignore[attr-defined]
        found.setdefault(study_uid, {})[state] = int(count)
    return found
