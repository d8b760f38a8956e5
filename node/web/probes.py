"""What machines ask the console's process: is it alive, is the node ready, how does it fare."""

from __future__ import annotations

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from node.archive.engine import Store
from node.metrics.page import MetricsPage
from node.pulse import beats
from node.readiness import STALE_SECONDS, problems
from node.settings import Settings


def add_probes(app: FastAPI, settings: Settings, store: Store) -> None:
    """Add ``/healthz``, ``/readyz`` and ``/metrics``."""
    page = MetricsPage(settings, store)

    # In the event loop itself: it answers only while the loop turns.
    @app.get("/healthz")
    async def healthz() -> Response:
        stuck = [
            beat for beat in beats(settings.data_dir) if beat.process == "web" and beat.age_seconds > STALE_SECONDS
        ]
        return PlainTextResponse("main loop stands still\n", status_code=503) if stuck else PlainTextResponse("ok\n")

    @app.get("/readyz")
    def readyz() -> Response:
        found = problems(settings, store)
        return JSONResponse({"ready": not found, "problems": found}, status_code=503 if found else 200)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(page.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
