"""The web process."""

from __future__ import annotations

import socket
import threading

import uvicorn

from node.archive.engine import open_store
from node.liveness import Liveness
from node.settings import Settings
from node.web.app import create_app

_LAST_WORDS_SECONDS = 2
"""How long open pages are waited for at the end: their streams of events never end by themselves."""


class _Server(uvicorn.Server):
    """uvicorn, whose loop tells that it turns."""

    liveness = Liveness()

    async def on_tick(self, counter: int) -> bool:
        """Called by the event loop ten times a second."""
        self.liveness.beat()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind; then the console is ready."""
        await super().startup(sockets)
        if self.started:
            self.liveness.ready(f"serving on {self.config.host}:{self.config.port}")


def run_web(settings: Settings, stop: threading.Event, liveness: Liveness | None = None) -> None:
    """Serve the console until ``stop`` is set.

    uvicorn takes signals only in a main thread; it runs in another, so the process's own handlers stay in force.
    """
    liveness = liveness or Liveness()
    store = open_store(settings)
    try:
        tls = settings.web.tls
        config = uvicorn.Config(
            create_app(settings, store),
            host=settings.web.host,
            port=settings.web.port,
            log_level="warning",
            server_header=False,
            # Addresses that a proxy on this machine names are believed only where the settings speak of one.
            proxy_headers=bool(settings.web.public_url),
            timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
            ssl_certfile=tls.certificate if tls is not None else None,
            ssl_keyfile=tls.key if tls is not None else None,
        )
        server = _Server(config)
        server.liveness = liveness
        thread = threading.Thread(target=server.run, name="uvicorn", daemon=True)
        thread.start()
        while thread.is_alive() and not stop.wait(0.2):
            continue
        liveness.stopping()
        server.should_exit = True
        thread.join(10)
    finally:
        store.close()
