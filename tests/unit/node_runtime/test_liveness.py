"""Heartbeats come from the loops that work: a loop that is stuck is silent, though its process lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.archive.engine import open_store, upgrade
from node.archive.spool import Spool
from node.dicom.server import ListeningServer
from node.dicom.storage_scp import Receiver
from node.liveness import Liveness
from node.notify_socket import NotifySocket
from node.schedule import Scheduler
from node.settings import Settings
from tests.network import node_settings, wait_for


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[NotifySocket]:
    with NotifySocket(tmp_path) as made:
        yield made


def said(watcher: NotifySocket, key: str) -> list[str]:
    return [assignments[key] for _, assignments in watcher.heard() if key in assignments]


def test_the_environment_is_read_once_and_children_do_not_inherit_it(
    watcher: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("NOTIFY_SOCKET", watcher.address)
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    liveness = Liveness.of_environment()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)
    liveness.ready("at work")
    liveness.beat()
    liveness.beat()
    liveness.say("at work")
    liveness.stopping()
    heard = list(watcher.heard())
    assert {pid for pid, _ in heard} == {os.getpid()}
    assert [assignments for _, assignments in heard] == [
        {"READY": "1", "STATUS": "at work"},
        {"WATCHDOG": "1"},
        {"STOPPING": "1", "STATUS": "stopping"},
    ]


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}])
def test_no_heartbeat_that_nobody_asked_for(
    watcher: NotifySocket, monkeypatch: pytest.MonkeyPatch, watchdog: dict[str, str]
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", watcher.address)
    for name, value in watchdog.items():
        monkeypatch.setenv(name, value)
    Liveness.of_environment().beat()
    assert list(watcher.heard()) == []


def test_nobody_listens_or_nobody_reads(tmp_path: Path) -> None:
    Liveness().ready("alone")
    Liveness(str(tmp_path / "gone")).ready("alone")
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    with NotifySocket(folder) as deaf:
        liveness = Liveness(deaf.address, limit_seconds=0.0)
        for _ in range(2000):
            liveness.beat()
        assert said(deaf, "WATCHDOG")


@pytest.mark.slow
def test_a_scheduler_that_is_stuck_is_silent(
    watcher: NotifySocket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _prepared(tmp_path)
    store, stop = open_store(settings), threading.Event()
    scheduler = Scheduler(settings, store, liveness=Liveness(watcher.address, limit_seconds=0.3))
    stuck, go_on, look = threading.Event(), threading.Event(), scheduler._look

    def stick() -> float:
        stuck.set()
        go_on.wait(20)
        return look()

    thread = threading.Thread(target=scheduler.run, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: len(said(watcher, "WATCHDOG")) > 0, "a heartbeat")
        monkeypatch.setattr(scheduler, "_look", stick)
        assert stuck.wait(10)
        list(watcher.heard())
        time.sleep(0.7)
        assert said(watcher, "WATCHDOG") == []
        go_on.set()
        wait_for(lambda: len(said(watcher, "WATCHDOG")) > 0, "a heartbeat after it")
    finally:
        go_on.set()
        stop.set()
        thread.join(10)
        store.close()


def test_a_receiver_whose_listener_is_stuck_is_not_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.dicom.storage_scp._TURN_SECONDS", 0.4)
    settings = _prepared(tmp_path)
    go_on, turn = threading.Event(), ListeningServer.service_actions

    def stick(server: ListeningServer) -> None:
        go_on.wait(20)
        turn(server)

    store = open_store(settings)
    receiver = Receiver(settings, store, Spool(settings.data_dir / "spool", 0))
    receiver.start()
    try:
        assert receiver.accepting()
        monkeypatch.setattr(ListeningServer, "service_actions", stick)
        wait_for(lambda: not receiver.accepting(), "the receiver to be seen stuck")
        go_on.set()
        wait_for(receiver.accepting, "the receiver to be seen alive")
    finally:
        go_on.set()
        receiver.stop()
        store.close()


def _prepared(tmp_path: Path) -> Settings:
    settings = node_settings(tmp_path / "node")
    upgrade(settings)
    return settings
