"""The pages behind acknowledge links: one to look at, and one that is only reached by pressing its button.

Mail programs and scanners open links by themselves; so looking changes nothing. Nothing here names a patient.
"""

from __future__ import annotations

import time
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.templating import Jinja2Templates

from node.archive.engine import Store
from node.errors import UsageError
from node.notify import alerts, wording
from node.notify.acknowledgement import Acknowledgement
from node.settings import Settings

# As of the console, with this page's own button allowed.
_POLICY = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
_LONGEST_BODY = 4096


def add_acknowledgement(app: FastAPI, settings: Settings, store: Store, templates: Jinja2Templates) -> None:
    """Add ``GET`` and ``POST /alert/{token}``."""
    tokens = Acknowledgement(settings.data_dir, settings.notifications.public_url)

    def page(request: Request, token: str, words: str = "") -> Response:
        try:
            number = tokens.alert_of(token)
        except UsageError:
            return PlainTextResponse("no such alert\n", status_code=404)
        with store.read() as connection:
            alert = alerts.get(connection, number)
        if alert is None:
            return PlainTextResponse("no such alert\n", status_code=404)
        content = {"event": "alert", "priority": "", "result": alert.facts}
        facts = {"alert": alert, "headline": wording.headline(content), "token": token, "words": words}
        response = templates.TemplateResponse(
            request, "alert.html", {"node": settings.node.name, "version": "", **facts}
        )
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    @app.get("/alert/{token}", response_class=HTMLResponse)
    def look(request: Request, token: str) -> Response:
        return page(request, token)

    @app.post("/alert/{token}", response_class=HTMLResponse)
    async def acknowledge(request: Request, token: str) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LONGEST_BODY:
                return PlainTextResponse("too long\n", status_code=413)
        by = " ".join("".join(parse_qs(body.decode("utf-8", "replace")).get("by", [])).split())
        try:
            number = tokens.alert_of(token)
        except UsageError:
            return PlainTextResponse("no such alert\n", status_code=404)
        if not by:
            return page(request, token, "Say who takes it over.")
        with store.write() as connection:
            if alerts.get(connection, number) is None:
                return PlainTextResponse("no such alert\n", status_code=404)
            done = alerts.acknowledge(connection, time.time(), number, by=by)
        return page(request, token, "Acknowledged." if done else "")
