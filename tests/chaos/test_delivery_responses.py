"""No response is ever lost: ten thousand objects while every core is busy, half of that load in the sender itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from node.dicom.association import ClientAssociation, Peer
from node.dicom.storage_scu import proposals_of, read_object_file, send_object
from tests.chaos.durability_page import Findings
from tests.network import instance, tool_server
from tests.peers import free_port

# `make chaos` sends ten thousand; the ordinary suite has no two minutes for it.
SENDS = int(os.environ.get("AINODE_SENDS", "10000" if os.environ.get("AINODE_PUBLISH") else "1000"))
_SPIN = "while True: sum(range(1000))"

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.peer, pytest.mark.timeout(600)]


def test_no_response_is_lost_under_full_load(tmp_path: Path, delivery_findings: Findings) -> None:
    port, stop = free_port(), threading.Event()
    files = [read_object_file(instance(tmp_path / "in", number)) for number in range(20)]

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    burners = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(os.cpu_count() or 1)]
    threads = [threading.Thread(target=spin, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with tool_server("storescp", "--ignore", port, port=port):
            peer = Peer(ae_title="S", host="127.0.0.1", port=port, calling_ae_title="N", response_timeout_seconds=20)
            began = time.monotonic()
            with ClientAssociation(peer, proposals_of(files)) as association:
                for number in range(SENDS):
                    # A lost response would raise NoResponse after its time limit.
                    assert send_object(association, files[number % 20], message_id=number + 1).status == 0x0000
            took = time.monotonic() - began
    finally:
        stop.set()
        for burner in burners:
            burner.kill()
            burner.wait(10)
    delivery_findings.add(
        "3. Responses under full load",
        ("objects sent", "load", "responses lost", "took"),
        SENDS,
        f"{len(burners)} busy processes, {len(threads)} busy threads in the sender",
        0,
        f"{took:.0f} s",
    )
