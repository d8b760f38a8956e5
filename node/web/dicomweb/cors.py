"""Cross-origin requests (Fetch Standard 3.2) to DICOMweb, from the origins a site names."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send


class DicomWebCors:
    """Answers preflights and marks answers below ``/dicom-web``; every other page stays closed to other origins."""

    def __init__(self, app: ASGIApp, *, origins: list[str]) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "OPTIONS"],
            allow_headers=["Accept", "Authorization", "Content-Type"],
            allow_credentials=True,
            expose_headers=["Content-Location", "Content-Type", "Warning"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI."""
        below = scope["type"] == "http" and scope["path"].startswith("/dicom-web/")
        await (self._open if below else self._app)(scope, receive, send)
