"""The node itself: system, pauses, what is expected, the ledger, users."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query

from node import actions
from node.accounts import users
from node.archive import pauses
from node.expectations import expectations
from node.site_time import midnight
from node.web.api.asked import PauseAsked, ResumeAsked
from node.web.api.schemas import (
    Done,
    Expected,
    Ledger,
    LedgerRow,
    Pause,
    System,
    User,
)
from node.web.api.work import LARGEST_NUMBER
from node.web.audit_view import LONGEST_PAGE, AuditFilter, audit_page
from node.web.console import Console
from node.web.pages.models import Administrator
from node.web.pages.studies import Operator, Viewer
from node.web.system_view import system_view

_DAY_SECONDS = 86400.0


def state_router(console: Console) -> APIRouter:
    """``/system``, ``/pauses``, ``/worklist``, ``/ledger`` and ``/users``."""
    router = APIRouter(tags=["the node"])
    settings, store = console.settings, console.store

    @router.get("/system")
    def system(person: Viewer) -> System:
        """Processes, disk, queues, certificates."""
        with store.read() as connection:
            view = system_view(connection, settings)
        stopped = [Pause.model_validate(row) for row in view.paused]
        shown = System.model_fields.keys() - {"paused", "running", "processes"}
        facts = {name: getattr(view, name) for name in shown}
        return System(**facts, paused=stopped, running=bool(view.report), processes=view.report.get("processes", []))

    @router.get("/pauses")
    def paused(person: Viewer) -> list[Pause]:
        """What is stopped."""
        with store.read() as connection:
            return [Pause.model_validate(row) for row in pauses.active(connection)]

    @router.post("/pauses")
    def pause(person: Operator, asked: PauseAsked) -> Done:
        """Stop a model, a rule, a destination or everything."""
        return Done(done=actions.pause(settings, store, asked.scope, asked.name, asked.reason, by=person.actor))

    @router.post("/pauses/end")
    def resume(person: Operator, asked: ResumeAsked) -> Done:
        """Let go on what was stopped."""
        waited = actions.resume(
            settings,
            store,
            asked.scope,
            asked.name,
            asked.reason,
            run_backlog=asked.run_backlog,
            by=person.actor,
        )
        return Done(done=True, detail=f"{waited.jobs} runs and {waited.deliveries} deliveries had waited")

    @router.get("/worklist")
    def worklist(person: Viewer, days: Annotated[int, Query(ge=1, le=31)] = 1) -> list[Expected]:
        """What is expected from this day's begin on, and what has come of it."""
        now = time.time()
        begin = midnight(now)
        with store.read() as connection:
            found = expectations(connection, now, begin, begin + days * _DAY_SECONDS - 1.0, settings, limit=5000)
        return [
            Expected(
                starts_at=each.row.starts_at,
                worklist=each.row.source,
                modality=each.order.modality,
                station=each.station,
                procedure=each.procedure,
                priority=each.order.priority,
                accession_number=each.order.accession_number,
                state=each.state,
                study_state=each.study_state,
                study_uid=each.study_uid,
                intends=list(each.intends),
            )
            for each in found
        ]

    @router.get("/ledger")
    def ledger(
        person: Viewer,
        kind: Annotated[str, Query(max_length=48, description="Kind of event, or its beginning up to a dot")] = "",
        who: Annotated[str, Query(max_length=64, description="User name")] = "",
        study: Annotated[str, Query(max_length=64, description="Study Instance UID or accession number")] = "",
        since: float | None = None,
        until: float | None = None,
        before: Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = 100,
    ) -> Ledger:
        """Rows of the ledger, newest first. A page may be empty and still name where to go on."""
        wanted = AuditFilter(kind, who, study, since, until)
        with store.read() as connection:
            page = audit_page(connection, wanted, before=before, limit=limit)
        return Ledger(rows=[LedgerRow.model_validate(row) for row in page.rows], before=page.before)

    @router.get("/users")
    def people(person: Administrator) -> list[User]:
        """Users of the console."""
        with store.read() as connection:
            rows = users.listed(connection)
        return [
            User(
                name=row.name,
                role=row.role,
                provider=row.provider,
                second_factor=row.totp_secret is not None,
                disabled=row.disabled_at is not None,
                created_at=row.created_at,
                signed_in_at=row.signed_in_at,
            )
            for row in rows
        ]

    return router
