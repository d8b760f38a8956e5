"""The web process."""

from __future__ import annotations

import threading

import uvicorn

from node.archive.engine import open_store
from node.pulse import Pulse
from node.settings import Settings
from node.web.app import create_app


def run_web(settings: Settings, stop: threading.Event) -> None:
    """Serve the console until ``stop`` is set.

    uvicorn takes signals only in a main thread; it runs in another, so the process's own handlers stay in force.
    """
    store = open_store(settings)
    try:
        config = uvicorn.Config(
            create_app(settings, store),
            host=settings.web.host,
            port=settings.web.port,
            log_level="warning",
            server_header=False,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="uvicorn", daemon=True)
        thread.start()
        pulse = Pulse(settings.data_dir, "web")
        while thread.is_alive() and not stop.wait(0.2):
            pulse.beat()
        pulse.end()
        server.should_exit = True
        thread.join(10)
    finally:
        store.close()
