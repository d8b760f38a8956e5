"""Receivers under load for long: ``python -m tests.soak --instances 20000 --minutes 5``.

Two receivers on one port, four senders, small images; every so often a duplicate, an association per few images, an
abort. Prints memory, descriptors and latency at the beginning and at the end, and fails where they grew.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread

from node.archive.part10 import dataset_offset
from tests.network import instance, node_settings
from tests.receiver_process import ReceiverProcesses
from tests.wire import ABORT_REQUEST, WirePeer, store_message

SENDERS = 4
PER_ASSOCIATION = 25
PER_STUDY = 200
WARM_UP = 0.2
"""Share of the run after which the beginning is measured: pools, caches and the allocator have their size by then."""


@dataclass
class Moment:
    """How the receivers are."""

    stored: int
    memory_bytes: int
    descriptors: int
    latency_ms: float

    def __str__(self) -> str:
        return (
            f"{self.stored:8d} stored  {self.memory_bytes / 1e6:7.1f} MB  {self.descriptors:4d} descriptors  "
            f"{self.latency_ms:6.2f} ms median"
        )


@dataclass
class Soak:
    """One run.

    Attributes
    ----------
    wanted : int
        Images to store.
    deadline : float
        Monotonic time at which the senders stop whatever is left.
    """

    receivers: ReceiverProcesses
    wanted: int
    deadline: float
    stored: set[str] = field(default_factory=set)
    duplicates: int = 0
    problems: list[str] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    def run(self) -> None:
        """Send until enough is stored or the time is over."""
        self._count = itertools.count()
        self._latencies: list[float] = []
        self._guard = threading.Lock()
        with tempfile.TemporaryDirectory() as scratch:
            file = instance(Path(scratch), study="soak", pixels=bytes(8192))
            self._content = file.read_bytes()[dataset_offset(file) :]
            self._sop, self._study = str(dcmread(file).SOPInstanceUID), str(dcmread(file).StudyInstanceUID)
        threads = [threading.Thread(target=self._guarded, daemon=True) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        step = max(1, self.wanted // 10)
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
            if len(self.stored) >= step * (len(self.moments) + 1):
                self._measure()
        self._settle()
        self._measure()

    def grown(self) -> list[str]:
        """What grew between the end of the warm-up and the end."""
        first = next((m for m in self.moments if m.stored >= self.wanted * WARM_UP), self.moments[0])
        middle = self.moments[len(self.moments) // 2]
        last = self.moments[-1]
        found = list(self.problems)
        if last.memory_bytes > first.memory_bytes + 24e6:
            found.append(f"memory grew by {(last.memory_bytes - first.memory_bytes) / 1e6:.0f} MB")
        if last.descriptors > min(first.descriptors, middle.descriptors) + 8:
            found.append(f"descriptors grew from {first.descriptors} to {last.descriptors}")
        # The latest full window, since the last moment follows an idle time.
        late = self.moments[-2] if len(self.moments) > 2 else last
        if late.latency_ms > 2.5 * first.latency_ms + 5:
            found.append(f"latency grew from {first.latency_ms:.1f} to {late.latency_ms:.1f} ms")
        return found

    def _guarded(self) -> None:
        try:
            self._send()
        except Exception as error:
            self.problems.append(f"a sender ended: {type(error).__name__}: {error}")

    def _send(self) -> None:
        while len(self.stored) < self.wanted and time.monotonic() < self.deadline:
            with WirePeer(self.receivers.port, seconds=60) as peer:
                for _ in range(PER_ASSOCIATION):
                    number = next(self._count)
                    sop, content = self._image(number)
                    self._store(peer, sop, content)
                    if number % 20 == 0:
                        self._store(peer, sop, content, again=True)
                if number % 7 == 0:
                    peer.send(store_message(*self._image(number + 10_000_000))[:3000] + ABORT_REQUEST)
                else:
                    peer.release()

    def _store(self, peer: WirePeer, sop: str, content: bytes, *, again: bool = False) -> None:
        started = time.perf_counter()
        status = peer.store(sop, content)
        seconds = time.perf_counter() - started
        with self._guard:
            if status != 0:
                self.problems.append(f"status {status}")
            self._latencies.append(seconds)
            self.stored.add(sop)
            self.duplicates += again

    def _image(self, number: int) -> tuple[str, bytes]:
        """The image with UIDs of its own, of the same length."""
        sop = self._sop[:-12] + f"{number:012d}"
        study = self._study[:-8] + f"{number // PER_STUDY:08d}"
        return sop, self._content.replace(self._sop.encode(), sop.encode()).replace(
            self._study.encode(), study.encode()
        )

    def _measure(self) -> None:
        with self._guard:
            latencies, self._latencies = self._latencies, []
        milliseconds = statistics.median(latencies) * 1000 if latencies else self.moments[-1].latency_ms
        receivers = self.receivers
        moment = Moment(len(self.stored), receivers.memory_bytes(), receivers.descriptors(), milliseconds)
        self.moments.append(moment)
        print(moment, flush=True)

    def _settle(self) -> None:
        """Wait until the last associations have left."""
        idle = min(moment.descriptors for moment in self.moments) if self.moments else 0
        until = time.monotonic() + 5
        while self.receivers.descriptors() > idle and time.monotonic() < until:
            time.sleep(0.1)


def soak(folder: Path, *, instances: int, minutes: float, receivers: int = 2, mode: str = "instance") -> Soak:
    """Run, and check that the index holds exactly what was acknowledged."""
    running = ReceiverProcesses(node_settings(folder, receive={"mode": mode}), count=receivers)
    try:
        running.start()
        run = Soak(running, instances, time.monotonic() + minutes * 60)
        run.run()
        ((rows, distinct),) = running.rows("SELECT count(*), count(DISTINCT sop_instance_uid) FROM instances")
        if not rows == distinct == len(run.stored):
            run.problems.append(f"{len(run.stored)} acknowledged, {rows} rows, {distinct} instances")
        ((duplicates,),) = running.rows("SELECT count(*) FROM ledger WHERE kind = 'instance.duplicate'")
        if duplicates != run.duplicates:
            run.problems.append(f"{run.duplicates} sent twice, {duplicates} noticed")
        if not running.alive:
            run.problems.append("a receiver died")
        return run
    finally:
        running.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--instances", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=30.0, help="stop after this, whatever is left")
    parser.add_argument("--receivers", type=int, default=2)
    parser.add_argument("--mode", choices=("instance", "association"), default="instance")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ainode-soak-") as folder:
        started = time.monotonic()
        run = soak(
            Path(folder),
            instances=options.instances,
            minutes=options.minutes,
            receivers=options.receivers,
            mode=options.mode,
        )
    seconds = time.monotonic() - started
    print(f"{len(run.stored)} instances in {seconds:.0f} s, mode {options.mode}, {options.receivers} receivers")
    if found := run.grown():
        print("FAILED: " + "; ".join(found))
        sys.exit(1)
    print("nothing grew")


if __name__ == "__main__":
    main()
