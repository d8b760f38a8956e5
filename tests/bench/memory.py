"""Rows `receive.memory_*`: what a receiver holds while 64 associations send large images at the same time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from node.archive.part10 import dataset_offset
from tests.bench.figures import Row, Target, row
from tests.bench.images import ImageMaker
from tests.bench.receiving import MODES
from tests.bench.servers import node_receiver
from tests.bench.stage import BenchmarkFailed, Stage
from tests.wire import ASSOCIATE_AC, EXPLICIT, WirePeer, associate_request, store_message

ASSOCIATIONS = 64
_RADIOGRAPH = "1.2.840.10008.5.1.4.1.1.1"
_CONTEXTS = (("1.2.840.10008.1.1", "1.2.840.10008.1.2"), (_RADIOGRAPH, EXPLICIT))
_HEAD_BYTES = 65_536
_MEGABYTE = 1e6


def of_64_associations(stage: Stage) -> list[Row]:
    """Peak resident memory above the idle size, every association in the midst of its image at the same time."""
    folder = stage.folder(stage.scratch)
    (images,) = ImageMaker().write("cr", 1, folder)
    (file,) = images.iterdir()
    content = file.read_bytes()[dataset_offset(file) :]
    start = content.index(b"2.25.", content.index(b"\x08\x00\x18\x00UI"))
    sop = content[start : content.index(b"\x08\x00", start)].rstrip(b"\0").decode()
    message = store_message(sop, content, sop_class=_RADIOGRAPH)
    rows = []
    for mode in MODES:
        with node_receiver(stage.scratch, stage.folder(stage.scratch), mode) as server:
            _send(server.port, message, sop, [0])
            idle = _kilobytes(server.pid, "VmRSS")
            Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # forget the peak so far (proc(5))
            _send(server.port, message, sop, range(1, ASSOCIATIONS + 1))
            grown = (_kilobytes(server.pid, "VmHWM") - idle) * 1024 / _MEGABYTE
            if server.stored() < ASSOCIATIONS and mode == "instance":
                raise BenchmarkFailed(f"{server.stored()} of {ASSOCIATIONS + 1} images were stored")
        rows.append(
            row(
                f"receive.memory_{ASSOCIATIONS}assoc",
                [grown],
                "MB",
                target=Target("figure", 100.0),
                how=f"peak RSS of the receiver above idle, {ASSOCIATIONS} images of {len(content) / _MEGABYTE:.0f} MB at once",
                filesystem=stage.scratch.filesystem,
                mode=mode,
            )
        )
    return rows


def _send(port: int, message: bytes, sop: str, numbers: Sequence[int]) -> None:
    """One image each over as many associations; none sends its second half before all have sent their first."""
    half = threading.Barrier(len(numbers))
    statuses: list[int | None] = []
    shared, middle = memoryview(message), len(message) // 2

    def one(number: int) -> None:
        # Only the UID differs, near the beginning; the rest is one piece of memory for all of them.
        own = f"{sop[:-6]}{number:06d}".encode()
        head = message[:_HEAD_BYTES].replace(sop.encode(), own)
        with WirePeer(port, None, seconds=120) as peer:
            peer.send(associate_request(_CONTEXTS, called="BENCH"))
            if peer.answer().kind != ASSOCIATE_AC:
                raise BenchmarkFailed("an association was not accepted")
            peer.send(head)
            peer.socket.sendall(shared[_HEAD_BYTES:middle])
            half.wait(120)
            peer.socket.sendall(shared[middle:])
            statuses.append(peer.answer().status)
            peer.release()

    threads = [threading.Thread(target=one, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if statuses != [0] * len(numbers):
        raise BenchmarkFailed(f"{statuses.count(0)} of {len(numbers)} images were stored")


def _kilobytes(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
