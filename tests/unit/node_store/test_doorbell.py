"""Doorbells between real processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from node.doorbell import SENDER, Doorbell, ring


def test_a_ring_is_heard_once(tmp_path: Path) -> None:
    with Doorbell(tmp_path, SENDER).listen() as bell:
        assert not bell.wait(0)
        ring(tmp_path, SENDER)
        ring(tmp_path, SENDER)
        assert bell.wait(5)
        assert not bell.wait(0)
    assert list(tmp_path.iterdir()) == []


def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    ring(tmp_path, SENDER)
    ring(tmp_path / "absent", SENDER)


def test_every_listener_of_the_name_hears_and_no_other(tmp_path: Path) -> None:
    with (
        Doorbell(tmp_path, "dispatcher").listen() as first,
        Doorbell(tmp_path, "dispatcher").listen() as second,
        Doorbell(tmp_path, "sender").listen() as other,
    ):
        ring(tmp_path, "dispatcher")
        assert first.wait(5)
        assert second.wait(5)
        assert not other.wait(0)


def test_a_waiting_process_wakes_at_once(tmp_path: Path) -> None:
    with Doorbell(tmp_path, SENDER).listen() as bell:
        child = os.fork()
        if child == 0:
            time.sleep(0.2)
            ring(tmp_path, SENDER)
            os._exit(0)
        started = time.monotonic()
        assert bell.wait(10)
        assert time.monotonic() - started < 3
        os.waitpid(child, 0)


def test_a_listener_that_never_answers_the_door_stops_nobody(tmp_path: Path) -> None:
    with Doorbell(tmp_path, SENDER).listen() as bell:
        for _ in range(5000):
            ring(tmp_path, SENDER)
        assert bell.wait(0)
        assert not bell.wait(0)


def test_the_bell_of_a_killed_process_is_taken_down(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with Doorbell(tmp_path, SENDER).listen():
            (tmp_path / "ready").touch()
            time.sleep(30)
        os._exit(0)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.glob("*.bell"))) == 1
    ring(tmp_path, SENDER)
    assert list(tmp_path.glob("*.bell")) == []


def test_long_folder_names_do_not_matter(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / ("y" * 120)
    with Doorbell(folder, SENDER).listen() as bell:
        ring(folder, SENDER)
        assert bell.wait(5)
    assert list(folder.iterdir()) == []


def test_ringing_from_many_threads(tmp_path: Path) -> None:
    with Doorbell(tmp_path, SENDER).listen() as bell:
        threads = [threading.Thread(target=ring, args=(tmp_path, SENDER)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bell.wait(5)


def test_waiting_needs_listening(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        Doorbell(tmp_path, SENDER).wait(0)
