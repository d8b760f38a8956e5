"""The web process."""

from __future__ import annotations

import socket
import threading

import uvicorn

from node.archive.engine import open_store
from node.liveness import Liveness
from node.settings import Settings
from node.web.app import create_app


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
        config = uvicorn.Config(
            create_app(settings, store),
            host=settings.web.host,
            port=settings.web.port,
            log_level="warning",
            server_header=False,
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
