"""The receivers that are compared: our receiver process, DCMTK storescp, Orthanc; each a process of its own."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.archive.engine import upgrade
from node.settings import load
from tests.bench.stage import ROOT, BenchmarkFailed, Place, cpu_seconds, environment
from tests.peers import free_port, require

NODE, STORESCP, ORTHANC = "ainode", "dcmtk storescp", "Orthanc"
_START_SECONDS = 60.0
_SETTLE_SECONDS = 0.3
# storescp --fork counts the CPU time of a child when it next wakes.
_SETTLE_FORK_SECONDS = 1.3


@dataclass(frozen=True)
class Server:
    """A running receiver; ``stored`` counts what it has, in its index where it has one."""

    name: str
    port: int
    pid: int
    stored: Callable[[], int]
    place: Place
    mode: str = ""
    settle_seconds: float = _SETTLE_SECONDS

    def cpu_seconds(self) -> float:
        """CPU time so far, children included, after the dust has settled."""
        time.sleep(self.settle_seconds)
        return cpu_seconds(self.pid)


@contextmanager
def node_receiver(place: Place, folder: Path, mode: str, *, processes: int = 1) -> Iterator[Server]:
    """`ainode run receiver`, so many on one port, with a database of their own and no other process of the node beside."""
    port = free_port()
    config = folder / "node.toml"
    config.write_text(
        f'[node]\nae_title = "BENCH"\ndata_dir = "{folder / "data"}"\n'
        f'[receive]\nport = {port}\nmode = "{mode}"\ndisk_reserve_bytes = 1000000\n'
    )
    (folder / "data").mkdir()
    upgrade(load(config))
    database = f"file:{folder / 'data' / 'node.db'}?mode=ro"

    def stored() -> int:
        connection = sqlite3.connect(database, uri=True, timeout=30)
        try:
            return int(connection.execute("SELECT count(*) FROM instances").fetchone()[0])
        finally:
            connection.close()

    command = [sys.executable, "-m", "node", "--config", str(config), "run", "receiver"]
    if processes > 1:
        command = [sys.executable, "-m", "tests.bench.child", "receivers", str(config), str(processes)]
    with _process(command, port, folder, prompt=False) as pid:
        yield Server(NODE, port, pid, stored, place, mode)


@contextmanager
def storescp(place: Place, folder: Path, *, prompt: bool = True, fork: bool = False) -> Iterator[Server]:
    """DCMTK's receiver: writes files, indexes nothing, syncs nothing."""
    port, out = free_port(), folder / "out"
    out.mkdir()
    command = [require("storescp"), *(["--fork"] if fork else []), "-od", str(out), str(port)]
    settle = _SETTLE_FORK_SECONDS if fork else _SETTLE_SECONDS
    with _process(command, port, folder, prompt=prompt) as pid:
        name = STORESCP + (" --fork" if fork else "")
        yield Server(name, port, pid, lambda: len(list(out.iterdir())), place, settle_seconds=settle)


@contextmanager
def orthanc(place: Place, folder: Path, *, prompt: bool = True) -> Iterator[Server]:
    """Orthanc as it comes: SQLite index, files synced (SyncStorageArea)."""
    port, http_port = free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomPort": port,
        "DicomAet": "BENCH",
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowEcho": True,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))

    def stored() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/statistics", timeout=10) as answer:
            return int(json.loads(answer.read())["CountInstances"])

    with _process([require("Orthanc"), str(folder / "orthanc.json")], port, folder, prompt=prompt) as pid:
        yield Server(ORTHANC, port, pid, stored, place)


@contextmanager
def _process(command: Sequence[str], port: int, folder: Path, *, prompt: bool) -> Iterator[int]:
    """Start, wait until the port answers, stop at the end."""
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(prompt=prompt), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkFailed(f"{command[0]} did not start: {(folder / 'log.txt').read_text()[-1500:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
