"""Destinations of every temper, each a real listener on loopback, for docs/delivery.md."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread

from node.dicom.association import Peer
from node.dicom.pacs import TestPacs
from tests.network import tool_server, wait_for
from tests.orthanc_peer import running_orthanc
from tests.peers import free_port, require


@dataclass
class Target:
    """A listening destination.

    Attributes
    ----------
    kept : callable
        SOP Instance UIDs of what it has, one entry for each stored object.
    settings : dict
        Keys of its ``[destination.NAME]``.
    """

    ae_title: str
    port: int
    kept: Callable[[], list[str]]
    settings: dict[str, Any] = field(default_factory=dict)
    conflicts: Callable[[], int] = lambda: 0


Start = Callable[[Path, int], Any]
"""Folder and port of the node's receiver → context manager of a Target."""


def _files(folder: Path) -> Callable[[], list[str]]:
    def kept() -> list[str]:
        found = []
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_size > 132 and path.name != "index.dat":
                found.append(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID))
        return found

    return kept


def storescp(*options: str, no_delay: bool = True) -> Start:
    @contextmanager
    def start(folder: Path, node_port: int) -> Iterator[Target]:
        port, out = free_port(), folder / "out"
        out.mkdir(parents=True)
        with tool_server("storescp", *options, "-od", out, port, port=port, no_delay=no_delay):
            yield Target("STORESCP", port, _files(out))

    return start


@contextmanager
def dcmqrscp(folder: Path, node_port: int) -> Iterator[Target]:
    port, database = free_port(), folder / "db"
    database.mkdir(parents=True)
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRPACS {database} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with tool_server("dcmqrscp", "-c", configuration, port=port):
        yield Target("QRPACS", port, _files(database))


@contextmanager
def orthanc(folder: Path, node_port: int) -> Iterator[Target]:
    with running_orthanc(folder, node_port=node_port) as peer:

        def kept() -> list[str]:
            return [each["MainDicomTags"]["SOPInstanceUID"] for each in peer.get("/instances?expand")]

        yield Target(peer.ae_title, peer.port, kept)


@contextmanager
def ainode_pacs(folder: Path, node_port: int) -> Iterator[Target]:
    port, out = free_port(), folder / "pacs"
    out.mkdir(parents=True)
    program = require("ainode")
    process = subprocess.Popen(
        [program, "pacs", "--port", str(port), "--dir", str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(listens, "ainode pacs", seconds=30)
        yield Target("TESTPACS", port, _files(out))
    finally:
        process.terminate()
        process.wait(10)


class Full(TestPacs):
    """Answers A700 to its first objects, then has room."""

    refusals = 6

    def _on_store(self, event: Any) -> int:
        if self.refusals:
            self.refusals -= 1
            return 0xA700
        return super()._on_store(event)


class AbortsAfterThree(TestPacs):
    """Ends every association in the middle of its fourth object."""

    def _on_store(self, event: Any) -> int:
        count = getattr(event.assoc, "objects_stored", 0)
        if count == 3:
            event.assoc.abort(block=False)
            return 0xC000
        event.assoc.objects_stored = count + 1
        return super()._on_store(event)


class LosesAnswers(TestPacs):
    """Stores every object, and loses the answer to every fourth."""

    count = 0

    def _on_store(self, event: Any) -> int:
        status = super()._on_store(event)
        self.count += 1
        if self.count % 4 == 0:
            event.assoc.abort(block=False)
        return status


class Mute(TestPacs):
    """Takes commitment requests and answers none."""

    def _answer(self, association: Any, request: Any) -> None:
        return


def tempered(kind: type[TestPacs], *, elsewhere: bool = False, **settings: Any) -> Start:
    """A test PACS of some temper; ``elsewhere``: it answers commitment on an association of its own."""

    @contextmanager
    def start(folder: Path, node_port: int) -> Iterator[Target]:
        own = Peer(ae_title="AINODE", host="127.0.0.1", port=node_port, calling_ae_title="TESTPACS")
        pacs = kind(folder / "pacs", node=own if elsewhere else None)
        with pacs.running() as (_, port):
            yield Target("TESTPACS", port, lambda: list(pacs.objects), settings, lambda: len(pacs.conflicts))

    return start


@contextmanager
def down_for_an_hour(folder: Path, node_port: int) -> Iterator[Target]:
    """Nobody listens until the scheduler's clock, which the test sets, has gone on for an hour."""
    pacs = TestPacs(folder / "pacs", port=free_port())
    up = threading.Event()

    def serve() -> None:
        if up.wait(120):
            pacs.start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    target = Target("TESTPACS", pacs._address[1], lambda: list(pacs.objects), {}, lambda: len(pacs.conflicts))
    target.come_up = up.set  # type: ignore[attr-defined]
    try:
        yield target
    finally:
        up.set()
        thread.join(10)
        pacs.stop()


class Clock:
    """The scheduler's clock: the real one, and an hour more when told."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead
