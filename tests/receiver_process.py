"""Receivers as processes of their own, on one port, so that memory and descriptors are theirs alone."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node.archive.engine import open_store
from node.archive.index import RescanReport, rescan
from node.archive.spool import Spool, dataset_digest
from node.settings import Settings
from tests.migrated import upgrade
from tests.network import node_settings, wait_for
from tests.warm_start import WarmProcess, WarmStart

ROOT = Path(__file__).resolve().parent.parent

_CHILD = """
import logging, signal, socket, sys, threading
from pathlib import Path
from node.dicom.storage_scp import run_receiver
from node.listening import Listener
from node.settings import Settings
logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
listeners = {Listener.PLAIN: socket.socket(fileno=int(sys.argv[2]))}
run_receiver(Settings.model_validate_json(Path(sys.argv[1]).read_text()), stop, listeners)
"""


class ReceiverProcesses:
    """One or more receivers over one data folder.

    Attributes
    ----------
    settings : Settings
    port : int
        Where they listen; the same after :meth:`start` was called again.
    processes : list of Popen

    Parameters
    ----------
    environment : mapping or None
        Variables beside those of the tests.
    warm : WarmStart or None
        Forks them, where many are started one after the other; goes with no ``environment``.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        count: int = 1,
        environment: Mapping[str, str] | None = None,
        warm: WarmStart | None = None,
    ) -> None:
        self.settings = settings
        self.count = count
        self._warm = warm
        self.processes: list[subprocess.Popen[bytes] | WarmProcess] = []
        self._started = 0
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._listener = socket.create_server((settings.receive.host, 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        self._folder = settings.data_dir.parent
        self._folder.mkdir(parents=True, exist_ok=True)
        settings.data_dir.mkdir(exist_ok=True)
        upgrade(settings)

    def start(self) -> None:
        """Start them all and wait until each answers."""
        configuration = self._folder / "settings.json"
        configuration.write_text(self.settings.model_dump_json())
        handle = self._listener.fileno()
        with (self._folder / "log.txt").open("ab") as log:
            self.processes = [self._start_one(configuration, handle, log.fileno()) for _ in range(self.count)]
        # The kernel accepts on the socket before anybody serves it, so that connecting proves nothing.
        self._started += self.count
        wait_for(self._all_receive, "the receivers", seconds=60)

    def _start_one(self, configuration: Path, handle: int, errors: int) -> subprocess.Popen[bytes] | WarmProcess:
        if self._warm is not None:
            return self._warm.start(_CHILD, [str(configuration), "HANDLE"], errors=errors, handle=handle)
        words = [sys.executable, "-c", _CHILD, str(configuration), str(handle)]
        return subprocess.Popen(words, env=self._environment, pass_fds=[handle], stderr=errors)

    def stop(self) -> None:
        """Ask politely."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
                raise AssertionError("a receiver did not stop") from None

    def kill(self) -> None:
        """kill -9."""
        for process in self.processes:
            process.kill()
            process.wait(10)

    def close(self) -> None:
        """Kill what is left and give the port back."""
        self.kill()
        self._listener.close()

    @property
    def alive(self) -> bool:
        """Whether none has died."""
        return all(process.poll() is None for process in self.processes)

    def memory_bytes(self) -> int:
        """Resident memory of all of them."""
        return sum(_status(process.pid, "VmRSS") for process in self.processes) * 1024

    def peak_bytes(self) -> int:
        """Largest resident memory any of them ever had."""
        return max(_status(process.pid, "VmHWM") for process in self.processes) * 1024

    def forget_peak(self) -> None:
        """Let :meth:`peak_bytes` begin anew."""
        for process in self.processes:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        """Open files and sockets of all of them."""
        return sum(len(list(Path(f"/proc/{process.pid}/fd").iterdir())) for process in self.processes)

    def threads(self) -> int:
        """Threads of all of them."""
        return sum(_status(process.pid, "Threads") for process in self.processes)

    def log(self) -> str:
        """What they wrote to standard error."""
        return (self._folder / "log.txt").read_text(errors="replace")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        connection = sqlite3.connect(f"file:{self.settings.data_dir / 'node.db'}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def parts(self) -> list[str]:
        """Unfinished objects."""
        return [entry.name for entry in (self.settings.data_dir / "spool" / "incoming").iterdir()]

    def _all_receive(self) -> bool:
        assert self.alive, self.log()[-3000:]
        return self.log().count("receiving on ") >= self._started


@contextmanager
def receivers(
    folder: Path,
    *,
    count: int = 1,
    environment: Mapping[str, str] | None = None,
    warm: WarmStart | None = None,
    **sections: Any,
) -> Iterator[ReceiverProcesses]:
    """Running receivers until the block ends."""
    made = ReceiverProcesses(node_settings(folder, **sections), count=count, environment=environment, warm=warm)
    try:
        made.start()
        yield made
    finally:
        made.close()


def found_after_restart(settings: Settings) -> tuple[set[str], set[str], RescanReport]:
    """Open what lies in the data folder as a starting receiver does.

    Returns
    -------
    tuple
        SOP Instance UIDs with an index row and an intact file behind it, after the rescan; those with an index row
        before it; the rescan's report.
    """
    store = open_store(settings)
    try:
        spool = Spool(settings.data_dir / "spool", 0)
        before = {row[0] for row in _indexed(store)}
        report = rescan(store, spool)
        intact = set()
        for uid, path, digest in _indexed(store):
            file = spool.absolute(path)
            if file.exists() and dataset_digest(file) == digest:
                intact.add(uid)
        return intact, before, report
    finally:
        store.close()


def _indexed(store: Any) -> list[tuple[str, str, str]]:
    from sqlalchemy import select

    from node.archive.tables import instances

    with store.read() as connection:
        found = connection.execute(select(instances.c.sop_instance_uid, instances.c.path, instances.c.digest))
        return [(row.sop_instance_uid, row.path, row.digest) for row in found]


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise LookupError(key)
