"""What machines ask the console's process: is it alive, is the node ready, how does it fare."""

from __future__ import annotations

import shutil
import time

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from node.archive.engine import Store
from node.errors import StoreError
from node.settings import Settings
from node.web.metrics import render_metrics
from node.web.overview import counts


def add_probes(app: FastAPI, settings: Settings, store: Store) -> None:
    """Add ``/healthz``, ``/readyz`` and ``/metrics``."""

    @app.get("/healthz")
    def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    def readyz() -> Response:
        problems = []
        try:
            with store.read() as connection:
                counts(connection, time.time())
        except StoreError as error:
            problems.append(str(error))
        free = shutil.disk_usage(settings.data_dir).free
        if free < settings.receive.disk_reserve_bytes:
            problems.append(f"SPO-001: {free} bytes free, the reserve is {settings.receive.disk_reserve_bytes}")
        return JSONResponse({"ready": not problems, "problems": problems}, status_code=503 if problems else 200)

    @app.get("/metrics")
    def metrics() -> Response:
        with store.read() as connection:
            found = counts(connection, time.time())
        page = render_metrics(found, shutil.disk_usage(settings.data_dir).free)
        return Response(page, media_type="text/plain; version=0.0.4")
