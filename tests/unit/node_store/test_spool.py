"""The spool: durable placing, duplicates, hostile names, full disks, death at any line."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from node.archive.spool import INCOMING, Spool, dataset_digest
from node.errors import ObjectRejected, SpoolDamaged, SpoolFull
from tests.store_instances import dataset, dataset_bytes, part_with, spool_files, stored


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 0)


def _parts(spool: Spool) -> list[Path]:
    return list((spool.root / INCOMING).iterdir())


def test_a_committed_instance_is_the_received_one(spool: Spool) -> None:
    made = dataset()
    part = part_with(spool, made)
    digest = part.hash.hexdigest()
    relative = part.commit("1.2.3", "1.2.3.4.5", digest)
    content = spool.absolute(relative).read_bytes()
    assert content.endswith(dataset_bytes(made))
    assert digest == hashlib.sha256(dataset_bytes(made)).hexdigest() == dataset_digest(spool.absolute(relative))
    assert part.size == len(content)
    assert spool_files(spool) == [relative]
    assert _parts(spool) == []


def test_the_same_bytes_again_are_the_same_file(spool: Spool) -> None:
    first = stored(spool, dataset())
    before = spool.absolute(first).stat()
    assert stored(spool, dataset()) == first
    after = spool.absolute(first).stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)
    assert _parts(spool) == []


def test_other_bytes_never_replace_a_file(spool: Spool) -> None:
    first = stored(spool, dataset())
    content = spool.absolute(first).read_bytes()
    second = stored(spool, dataset(PatientID="P2"))
    assert first != second
    assert spool.absolute(first).read_bytes() == content
    assert set(spool_files(spool)) == {first, second}


def test_equal_short_digests_are_kept_apart(spool: Spool) -> None:
    digests = ["a" * 12 + "0" * 52, "a" * 12 + "1" * 52]
    real = {}

    def place(made: Any, digest: str) -> str:
        part = part_with(spool, made)
        real[digest] = part.hash.hexdigest()
        return part.commit("1.2.3", "1.2.3.4.5", digest)

    first = place(dataset(), digests[0])
    # The digest in the first name is not the content's, so to the spool that file is damaged: it makes room.
    second = place(dataset(PatientID="P2"), digests[1])
    assert spool.absolute(second).read_bytes() != b""
    assert first == second
    assert len(list(spool.absolute(first).parent.glob("*.damaged"))) == 1


def test_a_torn_file_makes_room_for_the_same_instance(spool: Spool) -> None:
    first = stored(spool, dataset())
    path = spool.absolute(first)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert stored(spool, dataset()) == first
    assert path.read_bytes() == whole
    assert spool_files(spool) == [first]


@pytest.mark.parametrize(
    "uid", ["", "..", ".", "../../etc/passwd", "1/2", "1.2.", ".1", "1..2", "1.2\n", "1.2\0", "a", "１.2", "1" * 65]
)
def test_what_is_no_uid_never_becomes_a_path(spool: Spool, uid: str) -> None:
    part = part_with(spool, dataset())
    for study, sop in ((uid, "1.2"), ("1.2", uid)):
        with pytest.raises(ObjectRejected):
            part.commit(study, sop, part.hash.hexdigest())
    part.discard()
    assert _parts(spool) == []
    assert spool_files(spool) == []


@pytest.mark.parametrize("relative", ["/etc/passwd", "../node.db", "aa/../../x"])
def test_a_path_out_of_the_spool_is_refused(spool: Spool, relative: str) -> None:
    with pytest.raises(SpoolDamaged):
        spool.absolute(relative)


def test_the_reserve_is_never_used_up(tmp_path: Path) -> None:
    state = os.statvfs(tmp_path)
    free = state.f_bavail * state.f_frsize
    spool = Spool(tmp_path / "spool", free - 512 * 1024**2)
    spool.check_room()
    with pytest.raises(SpoolFull):
        spool.check_room(1024**3)
    spool.reserve_bytes = free + 1024**3
    with pytest.raises(SpoolFull):
        spool.begin()
    assert _parts(spool) == []
    spool.reserve_bytes = 0  # and it recovers by itself
    stored(spool, dataset())


def test_the_reserve_is_watched_while_an_object_grows(spool: Spool) -> None:
    part = spool.begin()
    spool.reserve_bytes = 2**62
    with pytest.raises(SpoolFull):
        for _ in range(40):
            part.write_dataset(bytes(1024**2))
    part.discard()
    assert _parts(spool) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_up_is_spool_full_and_recovers(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount")
    try:
        spool = Spool(disk / "spool", 0)
        part = spool.begin()
        with pytest.raises(SpoolFull):
            for _ in range(64):
                part.write_dataset(bytes(64 * 1024))
                part.flush()
        part.discard()
        assert _parts(spool) == []
        stored(spool, dataset())
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_folders_are_for_the_owner_only(spool: Spool) -> None:
    assert spool.root.stat().st_mode & 0o077 == 0


def test_parts_of_the_dead_are_swept_and_others_left(spool: Spool) -> None:
    old, young = spool.begin(), spool.begin()
    os.utime(old.path, (time.time() - 100, time.time() - 100))
    assert spool.sweep_parts(50) == 1
    assert _parts(spool) == [young.path]
    young.discard()
    old.discard()


def test_files_come_in_the_order_of_arrival(spool: Spool) -> None:
    paths = [stored(spool, dataset(sop=f"1.2.3.4.{number}")) for number in (9, 5, 7)]
    for age, path in zip((30, 20, 10), paths, strict=True):
        os.utime(spool.absolute(path), (1e9 - age, 1e9 - age))
    assert spool_files(spool) == paths


def test_many_at_once_leave_one_file(spool: Spool) -> None:
    parts = [part_with(spool, dataset()) for _ in range(8)]
    paths: list[str] = []

    def commit(index: int) -> None:
        paths.append(parts[index].commit("1.2.3", "1.2.3.4.5", parts[index].hash.hexdigest()))

    threads = [threading.Thread(target=commit, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8
    assert len(set(paths)) == 1 == len(spool_files(spool))


def test_syncing_later_reaches_every_file(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    part = part_with(spool, dataset())
    synced: list[str] = []
    real = os.fsync

    def watch(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", watch)
    relative = part.commit("1.2.3", "1.2.3.4.5", part.hash.hexdigest(), sync=False)
    assert synced == []
    spool.sync([relative])
    path = spool.absolute(relative)
    assert {str(path), str(path.parent), str(path.parent.parent), str(spool.root)} <= set(synced)


def test_a_commit_syncs_the_file_and_every_folder_above(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    part = part_with(spool, dataset())
    events: list[str] = []
    real_sync, real_link = os.fsync, os.link

    def sync(handle: int) -> None:
        events.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real_sync(handle)

    def link(source: Path, target: Path) -> None:
        events.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", link)
    path = spool.absolute(part.commit("1.2.3", "1.2.3.4.5", part.hash.hexdigest()))
    before, after = events[: events.index("link")], events[events.index("link") :]
    assert str(part.path) in before  # content first
    assert {str(path.parent.parent), str(spool.root)} <= set(before)  # then the way to the folder
    assert str(path.parent) in after  # and last the entry itself


def _run_killed_at(line: int, work: Callable[[], None]) -> bool:
    """Run ``work`` in a child that is killed -9 before its n-th line in the spool; False where it ended before."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    count = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.endswith(("spool.py", "placing.py", "part10.py")):
            return None
        if event == "line":
            count += 1
            if count == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    work()
    os._exit(0)


@pytest.mark.slow
def test_killed_at_any_line_nothing_is_torn(spool: Spool) -> None:
    made = dataset()
    whole = spool.absolute(stored(spool, made)).read_bytes()
    spool.absolute(spool_files(spool)[0]).unlink()
    for folder in sorted(spool.root.rglob("*"), reverse=True):
        if folder.is_dir() and folder.name != INCOMING:
            folder.rmdir()
    line, finished = 0, 0
    while True:
        line += 1
        if not _run_killed_at(line, lambda: stored(Spool(spool.root, 0), made) and None):
            break
        found = spool_files(spool)
        assert len(found) <= 1, f"line {line}"
        assert all(spool.absolute(path).read_bytes() == whole for path in found), f"line {line}"
        finished += bool(found)
        assert len(_parts(spool)) <= 1
        spool.sweep_parts(0)
        assert _parts(spool) == []
        # The sender had no success and sends again.
        assert spool.absolute(stored(spool, made)).read_bytes() == whole
        assert len(spool_files(spool)) == 1
        for path in spool_files(spool):
            spool.absolute(path).unlink()
            spool.absolute(path).parent.rmdir()
    assert line > 60, "the child was killed in too few places to say anything"
    assert finished > 0, "no kill came between the link and the end"
