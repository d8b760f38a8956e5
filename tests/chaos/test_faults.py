"""A receiver is killed, or a system call fails, at every step of a reception: acknowledged = present.

Faults are put into the running process with strace, at the entry of single system calls; the disk, the database and
the clock are real ones that are full, read-only, locked or wrong.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from node.archive.part10 import dataset_offset
from tests.chaos.durability_page import Findings
from tests.chaos.tracing import require_tracing, traced
from tests.network import instance, node_settings, wait_for
from tests.peers import require
from tests.receiver_process import ReceiverProcesses, found_after_restart, receivers
from tests.warm_start import WarmStart
from tests.wire import ABORT_REQUEST, WirePeer, store_message

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(600)]

COLUMNS = ("fault", "answer to the sender", "acknowledged", "present and indexed", "sent again")
MODES = ("instance", "association")

numbers = itertools.count()


def image(folder: Path, *, pixels: bytes = bytes(512)) -> tuple[str, bytes]:
    """SOP Instance UID and data set of an instance nobody has sent yet."""
    file = instance(folder / "in", next(numbers), study="faults", pixels=pixels)
    return str(dcmread(file).SOPInstanceUID), file.read_bytes()[dataset_offset(file) :]


def told(status: int | None) -> str:
    """An answer in words."""
    return "connection lost" if status is None else f"0x{status:04X}"


def store(peer: WirePeer, sop: str, content: bytes) -> int | None:
    """Status, or None where the connection ended."""
    try:
        return peer.store(sop, content)
    except OSError:
        return None


# The calls of one reception, in the order in which they are made, and which of a kind.
KILL_POINTS = [
    ("openat", 1, "the part is made"),
    ("writev", 1, "bytes reach the part"),
    ("fsync", 1, "the part is synced"),
    ("link,linkat", 1, "the file gets its name"),
    ("fsync", 2, "its folder is synced"),
    ("unlink,unlinkat", 1, "the part is removed"),
    ("flock", 1, "the turn to write"),
    ("pwrite64", 1, "the first page of the index row"),
    ("pwrite64", 4, "a later page of the index row"),
    ("fdatasync", 1, "the index row is synced"),
    ("sendto,sendmsg", 1, "success is sent"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("call", "when", "step"), KILL_POINTS)
def test_killed(
    tmp_path: Path, warm: WarmStart, findings: Findings, mode: str, call: str, when: int, step: str
) -> None:
    require_tracing()
    count = "SELECT count(DISTINCT sop_instance_uid) FROM instances"
    running = ReceiverProcesses(node_settings(tmp_path, receive={"mode": mode}), warm=warm)
    try:
        running.start()
        acknowledged = set()
        with WirePeer(running.port, seconds=10) as peer:
            for _ in range(2):
                sop, content = image(tmp_path)
                assert peer.store(sop, content) == 0
                acknowledged.add(sop)
            # In mode association rows follow the answer: what is recorded now is not to be that of these two.
            wait_for(lambda: running.rows(count) == [(2,)], "the rows of the first two")
            sop, content = image(tmp_path)
            fault = f"{call}:signal=KILL:when={when}"
            with traced(running.processes[0].pid, tmp_path / "trace", calls=call, inject=[fault], content=False):
                status = store(peer, sop, content)
                _await_death(running, seconds=5.0 if status is None or mode == "association" else 0.0)
        reached = not running.alive
        if status == 0:
            acknowledged.add(sop)
        running.kill()
        intact, _, _ = found_after_restart(running.settings)
        assert acknowledged <= intact
        # And a new receiver takes what was not acknowledged.
        running.start()
        with WirePeer(running.port) as peer:
            again = peer.store(sop, content)
            assert again == 0
        wait_for(lambda: running.rows(count) == [(3,)], "the row")
    finally:
        running.close()
    findings.add(
        f"kill -9, mode {mode}",
        COLUMNS,
        f"{step} ({call.partition(',')[0]} {when})" if reached else f"{step}: this mode does not do it here",
        told(status),
        len(acknowledged),
        len(acknowledged & intact),
        told(again),
    )


def _await_death(running: ReceiverProcesses, seconds: float) -> None:
    until = time.monotonic() + seconds
    while running.alive and time.monotonic() < until:
        time.sleep(0.02)


FAILURES = [
    ("openat", "EMFILE", 1, "no descriptor for the part"),
    ("writev", "ENOSPC", 1, "no space for the part"),
    ("writev", "EIO", 1, "the part cannot be written"),
    ("fsync", "EIO", 1, "the part cannot be synced"),
    ("link,linkat", "ENOSPC", 1, "no space for the name"),
    ("fsync", "EIO", 2, "the folder cannot be synced"),
    ("pwrite64", "ENOSPC", 2, "no space for the index row"),
    ("pwrite64", "EIO", 2, "the index row cannot be written"),
    ("fdatasync", "EIO", 1, "the index row cannot be synced"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, warm: WarmStart) -> Iterator[ReceiverProcesses]:
    """A receiver that every failure below happens to."""
    with receivers(tmp_path_factory.mktemp("faults"), warm=warm, store={"busy_timeout_seconds": 1.0}) as running:
        yield running


@pytest.mark.parametrize(("call", "error", "when", "step"), FAILURES)
def test_a_call_fails(
    node: ReceiverProcesses, tmp_path: Path, findings: Findings, call: str, error: str, when: int, step: str
) -> None:
    """Never success for what is not there; the same receiver takes the same image a moment later."""
    require_tracing()
    with WirePeer(node.port, seconds=20) as peer:
        first, content = image(tmp_path)
        assert peer.store(first, content) == 0
        sop, content = image(tmp_path)
        fault = f"{call}:error={error}:when={when}"
        with traced(node.processes[0].pid, tmp_path / "trace", calls=call, inject=[fault], content=False):
            status = store(peer, sop, content)
        reached = "(INJECTED)" in (tmp_path / "trace").read_text()
        assert node.alive
        rows = node.rows("SELECT count(*) FROM instances WHERE sop_instance_uid IN (?, ?)", first, sop)
        assert status == 0xA700 if reached else status == 0, (status, reached)
        assert rows == [(1 if reached else 2,)]
    with WirePeer(node.port, seconds=20) as peer:
        again = peer.store(sop, content)
        assert again == 0
    assert node.rows("SELECT count(*) FROM instances WHERE sop_instance_uid = ?", sop) == [(1,)]
    row = (f"{step} ({error})" if reached else f"{step}: not done here", told(status), 1, 1, told(again))
    findings.add("A system call fails", COLUMNS, *row)


# -- disk, database, clock ------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A tmpfs; skips where mounting is not allowed."""
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk under the running receiver."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True, capture_output=True)


def survives(running: ReceiverProcesses, folder: Path, findings: Findings, fault: str, happens: Iterator[None]) -> None:
    """Store, let it happen, store until refused, let it end, store again; on one association."""
    acknowledged, statuses = [], []
    with WirePeer(running.port, seconds=30) as peer:
        for round_number in range(3):
            if round_number:
                next(happens, None)
            for _ in range(12):
                sop, content = image(folder, pixels=bytes(100_000))
                status = peer.store(sop, content)
                if round_number == 1:
                    statuses.append(status)
                if status == 0:
                    acknowledged.append(sop)
                elif round_number == 1:
                    break
            assert round_number == 1 or status == 0
        peer.release()
    assert statuses[-1] == 0xA700
    assert running.alive
    running.stop()
    intact, _, report = found_after_restart(running.settings)
    assert set(acknowledged) <= intact
    assert report.damaged == []
    row = (told(statuses[-1]), len(acknowledged), len(intact & set(acknowledged)), told(0))
    findings.add("Disk, database and clock", COLUMNS, fault, *row)


@pytest.mark.parametrize("mode", MODES)
def test_the_disk_fills_up(tmp_path: Path, warm: WarmStart, findings: Findings, mode: str) -> None:
    disk = tmp_path / "disk"

    def happens() -> Iterator[None]:
        ballast = disk / "ballast"
        state = os.statvfs(disk)
        ballast.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - 450_000)))
        yield
        ballast.unlink()
        yield

    with small_disk(disk, "16m"), receivers(disk, warm=warm, receive={"mode": mode}) as running:
        survives(running, tmp_path, findings, f"disk of spool and database full (mode {mode})", happens())


def test_the_spool_becomes_read_only(tmp_path: Path, warm: WarmStart, findings: Findings) -> None:
    spool = tmp_path / "node" / "data" / "spool"

    def happens() -> Iterator[None]:
        remount(spool, "ro")
        yield
        remount(spool, "rw")
        yield

    with small_disk(spool, "64m"), receivers(tmp_path / "node", warm=warm) as running:
        survives(running, tmp_path, findings, "spool read-only", happens())


def test_the_database_is_locked(tmp_path: Path, warm: WarmStart, findings: Findings) -> None:
    with receivers(tmp_path / "node", warm=warm, store={"busy_timeout_seconds": 0.5}) as running:
        other = sqlite3.connect(running.settings.data_dir / "node.db", isolation_level=None)

        def happens() -> Iterator[None]:
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")
            yield

        survives(running, tmp_path, findings, "database locked beyond the busy timeout", happens())
        other.close()


_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(which, now);
    FILE *file = which == CLOCK_REALTIME ? fopen(getenv("CLOCK_OFFSET_FILE"), "r") : NULL;
    long offset = 0;
    if (file) { if (fscanf(file, "%ld", &offset) == 1) now->tv_sec += offset; fclose(file); }
    return result;
}
"""


@pytest.mark.parametrize(("step", "seconds"), [("-3 h", -10_800), ("+2 d", 172_800)])
def test_the_clock_steps(tmp_path: Path, findings: Findings, step: str, seconds: int) -> None:
    """The receiver's wall clock jumps in the middle of an association; time limits do not follow it."""
    source, library, clock = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "offset"
    source.write_text(_CLOCK)
    subprocess.run([require("cc"), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    clock.write_text("0")
    environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(clock)}
    with receivers(tmp_path / "node", environment=environment) as running:
        acknowledged = []
        with WirePeer(running.port) as peer:
            for offset in (0, seconds, 0):
                clock.write_text(str(offset))
                for _ in range(4):
                    sop, content = image(tmp_path)
                    assert peer.store(sop, content) == 0
                    acknowledged.append(sop)
                    time.sleep(0.05)
            peer.release()
        wait_for(
            lambda: running.rows("SELECT count(*) FROM associations WHERE closed_at IS NOT NULL") == [(1,)], "the end"
        )
        ((first, last),) = running.rows("SELECT first_at, last_at FROM studies")
        times = [at for (at,) in running.rows("SELECT received_at FROM instances")]
        assert max(times) - min(times) > 3600, "the clock did not step"
        assert (first, last) == (min(times), max(times)), "a study's times only ever widen"
        assert running.parts() == []
        running.stop()
        intact, _, _ = found_after_restart(running.settings)
        assert set(acknowledged) <= intact
    row = (f"the clock steps by {step}", told(0), len(acknowledged), len(intact), "not needed")
    findings.add("Disk, database and clock", COLUMNS, *row)


def test_200_aborted_associations_in_parallel(tmp_path: Path, warm: WarmStart, findings: Findings) -> None:
    """Each stores an image and breaks off in the midst of the next, by an abort or by hanging up."""
    acknowledged: set[str] = set()
    guard = threading.Lock()
    pairs = [(image(tmp_path), image(tmp_path, pixels=bytes(100_000))) for _ in range(200)]

    def abort(number: int) -> None:
        (sop, content), begun = pairs[number]
        try:
            with WirePeer(running.port, seconds=60) as peer:
                if peer.store(sop, content) == 0:
                    with guard:
                        acknowledged.add(sop)
                peer.send(store_message(*begun)[: 20_000 + number * 300])
                peer.send(ABORT_REQUEST if number % 2 else b"")
        except OSError:
            return  # beyond the limit: turned away or rejected, which is right as well

    with receivers(tmp_path / "node", warm=warm) as running:
        threads = [threading.Thread(target=abort, args=(number,)) for number in range(len(pairs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads)
        sop, content = image(tmp_path)

        def serves_again() -> bool:
            with WirePeer(running.port) as peer:
                return store(peer, sop, content) == 0

        wait_for(lambda: _quietly(serves_again), "room for the next peer", seconds=20)
        wait_for(lambda: running.parts() == [], "nothing half-received left")
        running.kill()
        intact, _, report = found_after_restart(running.settings)
    assert len(acknowledged) >= 32
    assert acknowledged <= intact
    assert report.damaged == []
    assert intact.isdisjoint({begun for _, (begun, _) in pairs})
    row = ("200 associations aborted in parallel, each in the midst of an image", "connection lost", len(acknowledged))
    findings.add("Disk, database and clock", COLUMNS, *row, len(acknowledged & intact), told(0))


def _quietly(action: Callable[[], bool]) -> bool:
    try:
        return action()
    except OSError:
        return False


def test_killed_while_two_receivers_share_the_port(tmp_path: Path, warm: WarmStart, findings: Findings) -> None:
    """One of two dies again and again under four senders; the other goes on, and what was acknowledged is there."""
    running = ReceiverProcesses(node_settings(tmp_path), count=2, warm=warm)
    acknowledged: set[str] = set()
    stop = threading.Event()
    guard = threading.Lock()
    batch = [image(tmp_path) for _ in range(160)]

    def send(mine: list[tuple[str, bytes]]) -> None:
        waiting = list(mine)
        while waiting and not stop.is_set():
            try:
                with WirePeer(running.port, seconds=5) as peer:
                    while waiting:
                        if peer.store(*waiting[0]) != 0:
                            break
                        with guard:
                            acknowledged.add(waiting.pop(0)[0])
            except OSError:
                time.sleep(0.02)

    try:
        running.start()
        senders = [threading.Thread(target=send, args=(batch[at::4],)) for at in range(4)]
        for sender in senders:
            sender.start()
        wait_for(lambda: len(acknowledged) > 20, "some images", seconds=30)
        running.processes[0].kill()
        for sender in senders:
            sender.join(60)
        stop.set()
        assert len(acknowledged) == len(batch), "the one that was left did not serve"
        running.kill()
        intact, _, _ = found_after_restart(running.settings)
        assert acknowledged <= intact
    finally:
        stop.set()
        running.close()
    row = ("one of two receivers on a port killed under four senders", "connection lost", len(acknowledged))
    findings.add("Disk, database and clock", COLUMNS, *row, len(acknowledged & intact), told(0))
