"""Runs and deliveries: lists, retry, cancel, replay."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from sqlalchemy import Row

from node import actions
from node.delivery import outbox
from node.delivery.delivery_states import DeliveryState
from node.jobs import queue
from node.jobs.queue import JobState, Priority
from node.web.api.asked import ReplayAsked
from node.web.api.schemas import Delivery, Done, Job, TextProgress
from node.web.console import Console
from node.web.pages.studies import LARGEST_NUMBER, Operator, Viewer

Number = Annotated[int, Path(ge=1, le=LARGEST_NUMBER)]
Limit = Annotated[int, Query(ge=1, le=500)]
Uid = Annotated[str | None, Query(pattern=r"^[0-9.]{1,64}$")]


def work_router(console: Console) -> APIRouter:
    """``/jobs`` and ``/deliveries``."""
    router = APIRouter(tags=["runs and deliveries"])
    settings, store = console.settings, console.store

    @router.get("/jobs")
    def jobs(
        person: Viewer,
        state: Annotated[list[JobState] | None, Query()] = None,
        study_uid: Uid = None,
        limit: Limit = 50,
    ) -> list[Job]:
        """Runs, the latest first."""
        with store.read() as connection:
            rows = queue.list_jobs(connection, states=state, study_uid=study_uid, limit=limit)
        return [job_of(row, console) for row in rows]

    @router.post("/jobs/{job}/retry")
    def retry(person: Operator, job: Number) -> Done:
        """Run a failed, dead or cancelled job again."""
        again = actions.retry(settings, store, job, by=person.actor)
        return Done(done=True, numbers=[again if again is not None else job])

    @router.post("/jobs/{job}/cancel")
    def cancel(person: Operator, job: Number) -> Done:
        """Cancel a queued or running job."""
        actions.cancel(settings, store, job, by=person.actor)
        return Done(done=True)

    @router.get("/deliveries")
    def deliveries(
        person: Viewer,
        state: Annotated[list[DeliveryState] | None, Query()] = None,
        destination: Annotated[str | None, Query(max_length=63)] = None,
        study_uid: Uid = None,
        limit: Limit = 50,
    ) -> list[Delivery]:
        """Deliveries, the latest first."""
        with store.read() as connection:
            rows = outbox.list_deliveries(
                connection, states=state, destination=destination, study_uid=study_uid, limit=limit
            )
        return [delivery_of(row) for row in rows]

    @router.post("/deliveries/{delivery}/replay")
    def replay(person: Operator, delivery: Number) -> Done:
        """Send one again, with the same bytes."""
        return Done(done=True, numbers=actions.replay(settings, store, by=person.actor, delivery=delivery))

    @router.post("/deliveries/replay")
    def replay_several(person: Operator, asked: ReplayAsked) -> Done:
        """Send every dead, failed or unknown one to a destination, or of a time, again."""
        queued = actions.replay(
            settings, store, by=person.actor, destination=asked.destination, since=asked.since, until=asked.until
        )
        return Done(done=bool(queued), numbers=queued)

    return router


def job_of(row: Row[Any], console: Console) -> Job:
    """A run as the API says it."""
    result = row.result or {}
    progress = console.progress(row)
    return Job(
        job=row.id,
        study_uid=row.study_uid,
        state=row.state,
        priority=Priority(row.priority).name.lower().replace("_", "-"),
        rule=row.rule,
        model=row.model_id,
        run=row.run,
        kind=row.kind,
        attempts=row.attempts,
        maximum_attempts=row.maximum_attempts,
        outcome=result.get("outcome"),
        total_ml=result.get("total_ml"),
        total_range_ml=result.get("total_range_ml"),
        error_code=row.error_code,
        message=row.message,
        remedy=console.remedies.get(row.error_code or ""),
        shadow=row.shadow,
        provisional=row.provisional,
        superseded=row.superseded_at is not None,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        progress=None if progress is None else TextProgress(**progress.facts()),
    )


def delivery_of(row: Row[Any]) -> Delivery:
    """A delivery as the API says it."""
    return Delivery(
        delivery=row.id,
        study_uid=row.study_uid,
        sop_instance_uid=row.sop_instance_uid,
        role=row.role,
        destination=row.destination,
        state=row.state,
        proof=row.proof,
        attempts=row.attempts,
        status=row.status,
        message=row.message,
        job=row.job_id,
        created_at=row.created_at,
        sent_at=row.sent_at,
        proven_at=row.proven_at,
    )
