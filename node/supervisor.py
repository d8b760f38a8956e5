"""`ainode serve`: starts every process of the node, watches them, and stops them."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from node import log, name_conflict
from node.dicom.files import check_files
from node.errors import ConfigError, NodeError
from node.expected import expected_processes
from node.identity import load_identity
from node.listening import Listener, listening, pass_on
from node.monitor.alarms import standing_alarms
from node.process import PARENT_VARIABLE, stop_event
from node.pulse import Pulse, forget_dead
from node.settings import Settings
from node.status import StatusServer, published, run_folder

_LOG = log.logger("supervisor")
_POLL_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 30.0
_STABLE_SECONDS = 60.0
_STOP_SECONDS = 8.0


@dataclass
class Child:
    """One process of the node and how it has fared.

    ``pause_seconds`` is what its next death costs: doubled by each early death, reset after a minute of life.
    """

    name: str
    words: tuple[str, ...]
    listens: bool = False
    pid: int | None = None
    restarts: int = 0
    started: float = 0.0
    start_at: float = 0.0
    pause_seconds: float = _FIRST_PAUSE_SECONDS
    ending: str = field(default="")


class Supervisor:
    """Owns the listening socket, the lock of the data folder and the status socket; holds no database connection.

    Parameters
    ----------
    settings : Settings
        As every child will read them from ``config``.
    config : Path or None
        Handed to the children; None means the loopback defaults.
    """

    def __init__(self, settings: Settings, config: Path | None) -> None:
        self._settings = settings
        self._command = [sys.executable, "-P", "-m", "node"]
        if config is not None:
            self._command += ["--config", str(config.resolve())]
        self._children = _children(settings)
        self._since = time.monotonic()
        self._started_at = time.time()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Returns the exit code.

        Raises
        ------
        NameConflict, ConfigError
            Nothing was started.
        NodeError
            The database could not be brought to this version's schema.
        """
        name_conflict.check()
        stopping = stop_event()
        with only_supervisor(self._settings.data_dir):
            load_identity(self._settings)
            check_files(self._settings)
            self._migrate()
            with listening(self._settings) as listeners:
                status = StatusServer(self._settings.data_dir, self.report)
                status.start()
                bound = {name.replace("-", "_"): _bound(listener) for name, listener in listeners.items()}
                log.say(_LOG, 20, "node started", **bound, data_dir=self._settings.data_dir)
                try:
                    self._watch(stopping, listeners)
                finally:
                    self._stop_all()
                    status.stop()
        log.say(_LOG, 20, "node stopped")
        return 0

    def report(self) -> dict[str, Any]:
        """What `ainode status --json` prints: stable keys, no patient data."""
        receive = self._settings.receive
        return {
            "node": self._settings.node.name,
            "ae_title": self._settings.node.ae_title,
            "version": metadata.version("ainode"),
            "pid": os.getpid(),
            "started_at": self._started_at,
            "uptime_seconds": round(time.monotonic() - self._since, 1),
            "data_dir": str(self._settings.data_dir),
            "listen": {"host": receive.host, "port": receive.port if receive.plain else None},
            "listen_tls": {"host": receive.host, "port": receive.tls.port} if receive.tls.enabled else None,
            "mode": receive.mode,
            "survives_power_cut": receive.mode == "instance",
            "processes": [
                {
                    "name": child.name,
                    "pid": child.pid,
                    "running": child.pid is not None,
                    "restarts": child.restarts,
                    "last_ending": child.ending,
                }
                for child in self._children
            ],
            "disk": {"free_bytes": _free_bytes(self._settings.data_dir), "reserve_bytes": receive.disk_reserve_bytes},
            "alarms": [
                {"alarm": str(each.alarm), "subject": each.subject, "words": each.words, "since": each.raised_at}
                for each in standing_alarms(self._settings.data_dir)
            ],
            "summary": published(self._settings.data_dir),
        }

    def _migrate(self) -> None:
        """Bring the schema up to date in a process of its own, so that this one stays small."""
        done = subprocess.run([*self._command, "db", "upgrade"], stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise NodeError("the database could not be prepared; the reason stands above")

    def _watch(self, stopping: threading.Event, listeners: Mapping[Listener, socket.socket]) -> None:
        pulse = Pulse(self._settings.data_dir, "supervisor")
        forget_dead(self._settings.data_dir)
        while not stopping.wait(_POLL_SECONDS):
            pulse.beat()
            now = time.monotonic()
            for child in self._children:
                if child.pid is not None:
                    self._reap(child, now)
                if child.pid is None and now >= child.start_at:
                    self._start(child, listeners, now)
        pulse.end()

    def _start(self, child: Child, listeners: Mapping[Listener, socket.socket], now: float) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LISTEN_")}
        environment |= {PARENT_VARIABLE: str(os.getpid()), "PYTHONSAFEPATH": "1"}
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        if child.listens:
            actions += pass_on(listeners, environment)
        child.pid = os.posix_spawn(
            sys.executable,
            [*self._command, "run", *child.words],
            environment,
            file_actions=actions,
            # A process group of its own: Ctrl-C reaches the supervisor only, which then stops the others in order.
            setpgroup=0,
        )
        child.started = now
        log.say(_LOG, 10, "process started", name=child.name, pid=child.pid)

    def _reap(self, child: Child, now: float) -> None:
        assert child.pid is not None
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        child.ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if now - child.started >= _STABLE_SECONDS:
            child.pause_seconds = _FIRST_PAUSE_SECONDS
        log.say(_LOG, 40, "process died", name=child.name, pid=pid, ending=child.ending, pause=child.pause_seconds)
        child.pid = None
        child.restarts += 1
        child.start_at = now + child.pause_seconds
        child.pause_seconds = min(child.pause_seconds * 2, _LONGEST_PAUSE_SECONDS)

    def _stop_all(self) -> None:
        """SIGTERM to all, SIGKILL to whoever is left after eight seconds."""
        for child in self._children:
            _signal(child, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while any(child.pid for child in self._children) and time.monotonic() < deadline:
            for child in self._children:
                if child.pid is not None and os.waitpid(child.pid, os.WNOHANG)[0]:
                    child.pid = None
            time.sleep(_POLL_SECONDS)
        for child in self._children:
            if child.pid is not None:
                log.say(_LOG, 30, "process did not stop and was killed", name=child.name, pid=child.pid)
                _signal(child, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = None


@contextmanager
def only_supervisor(data_dir: Path) -> Iterator[None]:
    """Hold the lock of a data folder.

    Raises
    ------
    ConfigError
        Another node is running in it, or it cannot be written to.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        run_folder(data_dir).mkdir(exist_ok=True, mode=0o700)
        lock_file = (run_folder(data_dir) / "supervisor.lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"node.data_dir: {data_dir} cannot be written to ({error.strerror}); correct the path or its permissions"
        ) from error
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"node.data_dir: a node is running in {data_dir}; stop it, or choose another") from error
        yield


def _children(settings: Settings) -> list[Child]:
    return [Child(each.name, each.words, listens=each.listens) for each in expected_processes(settings)]


def _bound(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None  # unmounted under us; whoever writes there says so


def _signal(child: Child, number: signal.Signals) -> None:
    if child.pid is None:
        return
    try:
        os.kill(child.pid, number)
    except ProcessLookupError:
        pass  # it ended a moment ago; waitpid will tell
