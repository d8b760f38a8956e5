"""The node as units of its own, as systemd runs it: sockets handed over, readiness, heartbeats, stops; and frozen children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.dicom.association import Peer
from node.dicom.storage_scu import send_paths
from node.notify_socket import NotifySocket
from tests.network import instance, wait_for
from tests.node_process import ROOT, NodeProcess, descendants
from tests.peers import free_port
from tests.unit_manager import UNITS, WATCHDOG_SECONDS, Manager

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    folder = tmp_path_factory.mktemp("units")
    node = NodeProcess(folder / "node", {"pacs": ("PACS", free_port())})
    node.extra = (
        f"[web]\nenabled = true\nport = {free_port()}\n[hl7]\nenabled = true\nport = {free_port()}\n"
        f'[monitor]\ndead_man_url = "http://127.0.0.1:{free_port()}/"'
    )
    node.configure()
    assert node.cli("db", "upgrade").returncode == 0
    with NotifySocket(folder) as ear:
        made = Manager(node, ear)
        for name in UNITS:
            made.start(name)
        yield made
        made.close()


def test_every_unit_says_when_it_is_ready_and_goes_on_saying_that_it_lives(manager: Manager) -> None:
    for name in UNITS:
        wait_for(lambda name=name: bool(manager.heard(name, "READY")), f"{name} to be ready", seconds=60)
        before = len(manager.heard(name, "WATCHDOG"))
        wait_for(lambda name=name, n=before: len(manager.heard(name, "WATCHDOG")) > n, f"{name}'s heartbeat")
    # Ready means that it works: at once, and on the socket that was handed over.
    peer = Peer(ae_title="AINODE", host="127.0.0.1", port=manager.node.port, calling_ae_title="MODALITY")
    assert send_paths(peer, [instance(manager.node.folder, 1)]).complete
    assert manager.heard("receiver", "STATUS")[0] == f"receiving on 127.0.0.1:{manager.node.port}"


def test_status_without_a_supervisor(manager: Manager) -> None:
    wait_for(lambda: bool(manager.heard("scheduler", "READY")), "the scheduler", seconds=60)
    assert {(each["name"], each["running"]) for each in manager.node.json("status")["processes"]} == {
        (name, True) for name in UNITS
    }
    manager.running["sender"].kill()
    manager.running["sender"].wait(10)
    listed = {each["name"]: each["running"] for each in manager.node.json("status")["processes"]}
    assert listed.pop("sender") is False and all(listed.values())
    assert manager.node.cli("doctor").returncode == 1
    manager.said["sender"].clear()
    manager.start("sender")
    wait_for(lambda: bool(manager.heard("sender", "READY")), "the sender", seconds=60)


def test_nobody_else_uses_the_folder(manager: Manager, tmp_path: Path) -> None:
    wait_for(lambda: bool(manager.heard("scheduler", "READY")), "the scheduler", seconds=60)
    assert manager.node.cli("db", "backup", str(tmp_path / "copy")).returncode == 0
    for words in (("db", "restore", str(tmp_path / "copy")), ("serve",)):
        refused = manager.node.cli(*words)
        assert refused.returncode == 1 and "a node is running" in refused.stderr, refused.stderr


@pytest.mark.parametrize("name", ["receiver", "scheduler", "dispatcher-1", "sender", "web"])
def test_a_frozen_unit_is_silent_for_longer_than_the_watchdog_waits(manager: Manager, name: str) -> None:
    wait_for(lambda: bool(manager.heard(name, "READY")), name, seconds=60)
    os.kill(manager.running[name].pid, signal.SIGSTOP)
    try:
        time.sleep(0.2)
        manager.hear()
        before = len(manager.heard(name, "WATCHDOG"))
        time.sleep(WATCHDOG_SECONDS + 0.1)
        assert len(manager.heard(name, "WATCHDOG")) == before
    finally:
        os.kill(manager.running[name].pid, signal.SIGCONT)
    wait_for(lambda: len(manager.heard(name, "WATCHDOG")) > before, "its heartbeat again")


def test_units_stop_in_order_and_say_so(manager: Manager) -> None:
    for name in UNITS:
        wait_for(lambda name=name: bool(manager.heard(name, "READY")), f"{name}", seconds=60)
    for name in reversed(UNITS):
        assert manager.stop(name) == 0
        assert manager.heard(name, "STOPPING") == ["1"]


def test_the_supervisor_kills_what_is_frozen_and_starts_it_again(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "node", {"pacs": ("PACS", free_port())})
    node.configure()
    script = (
        "import sys; from pathlib import Path; from node import log; from node.settings import load; "
        "from node.supervisor import Supervisor; from node.liveness import Liveness; log.set_up('supervisor'); "
        "config = Path(sys.argv[1]); "
        "Supervisor(load(config), config, liveness=Liveness.of_environment(), watchdog_seconds=2.0).run()"
    )
    with NotifySocket(tmp_path) as ear, (tmp_path / "log.txt").open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-c", script, str(node.config)],
            env={**os.environ, "NOTIFY_SOCKET": ear.address, "PYTHONPATH": str(ROOT)},
            stderr=log,
        )
        node.process = supervisor
        try:
            said: list[dict[str, str]] = []

            def ready() -> bool:
                said.extend(each for pid, each in ear.heard() if pid == supervisor.pid)
                return any(each.get("READY") for each in said)

            wait_for(ready, "the whole node to be ready", seconds=60)
            assert all(each["ready"] for each in node.json("status")["processes"])
            frozen = {role: node.roles()[role][0] for role in ("receiver", "sender")}
            for pid in frozen.values():
                os.kill(pid, signal.SIGSTOP)
            said.clear()
            wait_for(ready, "the whole node to be ready again", seconds=60)
            assert not set(frozen.values()) & set(descendants(supervisor.pid))
            again = {each["name"]: each for each in node.json("status")["processes"]}
            assert again["sender"]["restarts"] == 1 and again["sender"]["last_ending"] == "signal SIGKILL"
            peer = Peer(ae_title="AINODE", host="127.0.0.1", port=node.port, calling_ae_title="MODALITY")
            assert send_paths(peer, [instance(tmp_path, 2)]).complete
            assert [each["restarts"] for each in again.values() if each["name"] == "scheduler"] == [0]
        finally:
            node.stop()
