"""Headers every answer carries, and the token that ``/metrics`` may want: around the whole application."""

from __future__ import annotations

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.web.permission import Access

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_FIXED = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_YEAR_SECONDS = 31_536_000


class Headers:
    """ASGI middleware. Streams pass through it as they come."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add(MutableHeaders(scope=message), scope["path"])
            await send(message)

        if scope["path"] == "/metrics" and self._access.settings.web.metrics_need_token:
            person = await run_in_threadpool(self._access.person_of, Request(scope))
            if person is None:
                refusal = PlainTextResponse("a token is needed\n", 401, {"WWW-Authenticate": "Bearer"})
                await refusal(scope, receive, send_on)
                return
        await self._app(scope, receive, send_on)

    def _add(self, headers: MutableHeaders, path: str) -> None:
        for name, value in _FIXED.items():
            headers[name] = value
        headers.setdefault("Content-Security-Policy", POLICY)
        # Pages may name accession numbers: nothing of them stays in a cache. Style and script are asked for again.
        headers.setdefault("Cache-Control", "no-cache" if path.startswith("/static/") else "no-store")
        if self._access.settings.web.secure:
            headers["Strict-Transport-Security"] = f"max-age={_YEAR_SECONDS}"
