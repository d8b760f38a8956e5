"""Runs the node's processes as systemd runs units: sockets handed over, readiness and heartbeats heard, none below another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Collection

from node.notify_socket import NotifySocket
from tests.network import wait_for
from tests.node_process import ROOT, NodeProcess

UNITS = {
    "receiver": ("receiver",),
    "scheduler": ("scheduler",),
    "dispatcher-1": ("dispatcher",),
    "sender": ("sender",),
    "notifier": ("notifier",),
    "hl7": ("hl7",),
    "web": ("web",),
    "monitor": ("monitor",),
}
WATCHDOG_SECONDS = 1.5

# What systemd does before it starts a service of a socket: descriptor 3, and the number that only the child knows.
_AS_SYSTEMD = (
    "import os, sys; handle = int(sys.argv[1]); os.dup2(handle, 3, inheritable=True); "
    "os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


class Manager:
    """Starts units as systemd does, holds their listening socket, and hears what they say."""

    def __init__(self, node: NodeProcess, ear: NotifySocket, *, units: Collection[str] = tuple(UNITS)) -> None:
        self.node = node
        self.ear = ear
        self.units = units
        self.listener = socket.create_server(("127.0.0.1", node.port), backlog=512)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.said: dict[str, list[dict[str, str]]] = {name: [] for name in units}

    def start(self, name: str) -> None:
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": self.ear.address,
            "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6)),
            "AINODE_PROCESS": name,
        }
        words = ["-P", "-m", "node", "--config", str(self.node.config), "run", *UNITS[name]]
        if name == "receiver":
            environment |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "dicom"}
            words = ["-c", _AS_SYSTEMD, str(self.listener.fileno()), *words]
        with (self.node.folder / "log.txt").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *words],
                env=environment | {"PYTHONPATH": str(ROOT)},
                cwd=self.node.folder,
                stderr=log,
                pass_fds=[self.listener.fileno()],
            )

    def stop(self, name: str) -> int:
        self.running[name].terminate()
        return self.running[name].wait(20)

    def hear(self) -> None:
        by_pid = {process.pid: name for name, process in self.running.items()}
        for pid, assignments in self.ear.heard():
            if pid in by_pid:
                self.said[by_pid[pid]].append(assignments)

    def heard(self, name: str, key: str) -> list[str]:
        self.hear()
        return [each[key] for each in self.said[name] if key in each]

    def start_all(self) -> None:
        """Start every unit and wait until each is ready."""
        for name in self.units:
            self.hear()
            self.said[name].clear()
            self.start(name)
        for name in self.units:
            wait_for(lambda name=name: bool(self.heard(name, "READY")), f"{name} to be ready", seconds=60)

    def stop_all(self) -> None:
        """Stop every unit; their sockets stay open."""
        for process in self.running.values():
            process.terminate()
        for name, process in self.running.items():
            assert process.wait(30) == 0, name

    def close(self) -> None:
        """Kill what is left and close the sockets."""
        for process in self.running.values():
            process.kill()
            process.wait(10)
        self.listener.close()
