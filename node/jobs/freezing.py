"""The end of a job: its objects become final, and who gets them and who is told is filed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from node.archive import ledger, signed_reports
from node.delivery import outbox
from node.jobs import status_jobs
from node.jobs.queue import JobKind, LeasedJob
from node.jobs.specification import WrittenObject
from node.notify.alerts import announce
from node.notify.facts import ResultFacts
from node.settings import Settings


def freeze(
    connection: Connection,
    job: LeasedJob,
    objects: Sequence[WrittenObject],
    facts: ResultFacts,
    settings: Settings,
    *,
    marked: bool = False,
) -> bool:
    """Make the objects final, and file deliveries and notifications, in the transaction that ends the job.

    Parameters
    ----------
    marked : bool
        The objects say that they came after the report was signed.

    Returns
    -------
    bool
        False where they stay here, because the report was signed before and the configuration withholds late results.
    """
    destinations: dict[str, list[str]] = {}
    further: dict[str, list[str]] = {}
    priority = int(job.priority)
    filed = job.specification["destinations"]
    withheld = _withheld(connection, job, settings.hl7.late_results, marked=marked)
    if not withheld and not job.shadow and job.kind is JobKind.RUN:
        announced = announce(
            connection,
            time.time(),
            job_id=job.id,
            study_uid=job.study_uid,
            priority=priority,
            facts=facts,
            further=job.specification.get("further", {}),
            settings=settings,
        )
        priority, further = announced.priority, announced.destinations
    for found in ({} if withheld or job.shadow else filed, further):
        for profile, names in found.items():
            known = destinations.setdefault(profile, [])
            known += [name for name in names if name not in known]
    now = time.time()
    outbox.freeze(
        connection,
        now,
        job_id=job.id,
        study_uid=job.study_uid,
        objects=objects,
        destinations=destinations,
        priority=priority,
    )
    status_jobs.file(connection, now, job, objects, destinations)
    return not withheld


def _withheld(connection: Connection, job: LeasedJob, policy: str, *, marked: bool) -> bool:
    """Record a result that comes after the report was signed; whether it stays here for that."""
    signed_at = signed_reports.useful_until(connection, job.study_uid)
    # That an earlier result does not hold any more is told whenever it is so.
    if signed_at is None or job.shadow or job.kind is JobKind.RETRACT:
        return False
    now = time.time()
    if job.kind is JobKind.STATUS:
        return policy == "withhold"  # it tells of results each of which is on record by itself
    facts: dict[str, Any] = {"late_seconds": round(now - signed_at, 1), "policy": policy, "marked": marked}
    ledger.record(connection, now, ledger.Kind.RESULT_LATE, study_uid=job.study_uid, job_id=job.id, **facts)
    return policy == "withhold"
