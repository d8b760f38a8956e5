"""Search in the ledger: who did what, and everything else that happened."""

from __future__ import annotations

import time
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from node.archive.event_kinds import Kind
from node.site_time import since as moment
from node.web.audit_view import AuditFilter, audit_page
from node.web.console import Console
from node.web.pages.studies import Viewer


def audit_router(console: Console) -> APIRouter:
    """``/audit``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/audit", response_class=HTMLResponse)
    def audit(
        request: Request,
        person: Viewer,
        kind: str = "person",
        who: str = "",
        study: str = "",
        since: str = "",
        until: str = "",
        before: int | None = None,
    ) -> Response:
        now = time.time()
        since_at = moment(since, now) if since.strip() else None
        until_at = moment(until, now) if until.strip() else None
        wanted = AuditFilter(kind=kind, who=who, study=study, since=since_at, until=until_at)
        with console.store.read() as connection:
            page = audit_page(connection, wanted, before=before)
        asked = {"kind": kind, "who": who, "study": study, "since": since, "until": until}
        older = urlencode({**asked, "before": page.before}) if page.before is not None else ""
        kinds = sorted({each.split(".")[0] for each in Kind} | {str(each) for each in Kind})
        return console.page(request, person, "audit.html", page=page, asked=asked, older=older, kinds=kinds)

    return router
