"""``/events``: tells open pages that there is news, so that they load themselves again (Server-Sent Events)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from node.archive.engine import Store
from node.errors import StoreUnavailable
from node.web.console import Console
from node.web.permission import STREAM_PATH, Access, Person, Role, permit, revision

_POLL_SECONDS = 0.5
_BEAT_SECONDS = 15.0
_CHECK_SECONDS = 60.0
_LISTENERS = 200


class Revision:
    """Number of the newest row of the ledger; looked up at most twice a second, however many pages are open."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked_at = 0.0
        self._number = 0
        self._guard = asyncio.Lock()

    async def now(self) -> int:
        """The number."""
        async with self._guard:
            if time.monotonic() - self._looked_at >= _POLL_SECONDS:
                self._number = await run_in_threadpool(self._read)
                self._looked_at = time.monotonic()
            return self._number

    def _read(self) -> int:
        try:
            return revision(self._store)
        except StoreUnavailable:
            return self._number  # pages stay as they are until it is back


def events_router(console: Console, access: Access) -> APIRouter:
    """The stream."""
    router = APIRouter(include_in_schema=False)
    newest = Revision(console.store)
    listening: set[object] = set()

    @router.get(STREAM_PATH)
    async def events(request: Request, person: Annotated[Person, Depends(permit(Role.VIEWER))]) -> Response:
        if len(listening) >= _LISTENERS:
            return PlainTextResponse("too many pages are open\n", 503, {"Retry-After": "30"})
        return StreamingResponse(stream(request), media_type="text/event-stream")

    async def stream(request: Request) -> AsyncIterator[str]:
        me = object()
        listening.add(me)
        try:
            seen, beat, checked = await newest.now(), time.monotonic(), time.monotonic()
            yield f"retry: 3000\nid: {seen}\ndata: {seen}\n\n"
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                number, now = await newest.now(), time.monotonic()
                if now - checked >= _CHECK_SECONDS:
                    checked = now
                    if await run_in_threadpool(access.person_of, request) is None:
                        yield "event: over\ndata: signed out\n\n"
                        return
                if number != seen:
                    seen, beat = number, now
                    yield f"event: news\nid: {seen}\ndata: {seen}\n\n"
                elif now - beat >= _BEAT_SECONDS:
                    beat = now
                    yield ": here\n\n"
        finally:
            listening.discard(me)

    return router
