"""Lists of studies, the page of one, and its buttons."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from node import actions
from node.archive import ledger
from node.delivery import outbox
from node.errors import NotStored, UsageError
from node.jobs import queue
from node.site_time import since as moment
from node.web.console import Console, back_to
from node.web.permission import Person, Role, form_of, permit
from node.web.study_list import StudyFilter, study_page
from node.web.study_view import may_cancel, may_retry, study_view

Viewer = Annotated[Person, Depends(permit(Role.VIEWER))]
Operator = Annotated[Person, Depends(permit(Role.OPERATOR))]
LARGEST_NUMBER = 2**63 - 1


def studies_router(console: Console) -> APIRouter:
    """``/studies`` and ``/study/{uid}``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/studies", response_class=HTMLResponse)
    def studies(
        request: Request,
        person: Viewer,
        accession: str = "",
        state: str = "",
        since: str = "",
        needs: str = "",
        after: str = "",
    ) -> Response:
        since_at = moment(since, time.time()) if since.strip() else None
        wanted = StudyFilter(state=state, accession=accession, since=since_at, needs_somebody=bool(needs))
        with console.store.read() as connection:
            page = study_page(connection, wanted, after=after)
        asked = {"accession": accession, "state": state, "since": since, "needs": needs}
        more = urlencode({**asked, "after": page.following}) if page.following else ""
        return console.page(request, person, "studies.html", page=page, more=more, asked=asked)

    @router.get("/study/{study_uid}", response_class=HTMLResponse)
    def study(request: Request, study_uid: str, person: Viewer) -> Response:
        with console.store.read() as connection:
            view = study_view(connection, study_uid)
        if "X-Refresh" not in request.headers and "said" not in request.query_params:
            with console.store.write() as connection:
                facts = {"study": study_uid, **person.actor.facts()}
                ledger.record(connection, time.time(), ledger.Kind.PERSON_LOOKED, **facts)
        # The viewer takes its pixels from DICOMweb.
        has_images = console.settings.dicomweb.enabled and bool(view.series or view.objects)
        return console.page(
            request,
            person,
            "study.html",
            view=view,
            has_images=has_images,
            may_retry=may_retry,
            may_cancel=may_cancel,
            progress=console.progress,
        )

    @router.get("/job/{job}/progress", response_class=HTMLResponse)
    def progress(request: Request, job: int, person: Viewer) -> Response:
        """How far the text of a run is, for the row that asks for it again and again."""
        with console.store.read() as connection:
            row = queue.get(connection, numbered(job))
        if row is None:
            raise NotStored("there is no such job")
        return console.page(request, person, "progress.html", run=row, progress=console.progress)

    return router


def study_actions_router(console: Console) -> APIRouter:
    """What the buttons of a study's page do."""
    router = APIRouter(include_in_schema=False)
    settings, store = console.settings, console.store

    @router.post("/study/{study_uid}/hold")
    async def hold(request: Request, study_uid: str, person: Operator) -> Response:
        reason = (await form_of(request)).get("reason", "").strip()[:500]
        await run_in_threadpool(actions.hold, settings, store, study_uid, reason, by=person.actor)
        return back_to(f"/study/{study_uid}", "held")

    @router.post("/study/{study_uid}/release")
    def release(study_uid: str, person: Operator) -> Response:
        actions.release(settings, store, study_uid, by=person.actor)
        return back_to(f"/study/{study_uid}", "released")

    @router.post("/job/{job}/retry")
    def retry(job: int, person: Operator) -> Response:
        study_uid = _study_of_job(job)
        actions.retry(settings, store, job, by=person.actor)
        return back_to(f"/study/{study_uid}", "retried", "runs")

    @router.post("/job/{job}/cancel")
    def cancel(job: int, person: Operator) -> Response:
        study_uid = _study_of_job(job)
        actions.cancel(settings, store, job, by=person.actor)
        return back_to(f"/study/{study_uid}", "cancelled", "runs")

    @router.post("/delivery/{delivery}/replay")
    def replay(delivery: int, person: Operator) -> Response:
        with store.read() as connection:
            row = outbox.get(connection, numbered(delivery))
        if row is None:
            raise NotStored("there is no such delivery")
        actions.replay(settings, store, by=person.actor, delivery=delivery)
        return back_to(f"/study/{row.study_uid}", "replayed", "objects")

    def _study_of_job(job: int) -> str:
        with store.read() as connection:
            row = queue.get(connection, numbered(job))
        if row is None:
            raise NotStored("there is no such job")
        return str(row.study_uid)

    return router


def numbered(number: int) -> int:
    """A number that a database can be asked for.

    Raises
    ------
    UsageError
        No row can have it.
    """
    if not 0 < number <= LARGEST_NUMBER:
        raise UsageError("there is no such number")
    return number
