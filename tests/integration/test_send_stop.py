"""Stopping the sender while peers keep silent."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from node.delivery.sender import Sender
from tests.integration.test_send import deliver, destination, outbox_of, states
from tests.network import instance, wait_for

pytestmark = pytest.mark.slow


def test_silent_peers_do_not_hold_up_the_stop(tmp_path: Path) -> None:
    """They took the connection and say nothing. The supervisor would kill after eight seconds."""
    stop = threading.Event()
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
        outbox_of(
            tmp_path, {name: destination(each.getsockname()[1]) for name, each in (("one", one), ("other", other))}
        ) as (settings, store),
    ):
        sender = threading.Thread(target=Sender(settings, store).run, args=(stop,))
        sender.start()
        deliver(settings, store, [instance(tmp_path / "in")], "one", "other")
        wait_for(lambda: states(store, "one") == states(store, "other") == ["sending"], "both on their way")
        started = time.monotonic()
        stop.set()
        sender.join(30)
        assert time.monotonic() - started < 7.5
