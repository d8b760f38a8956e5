"""`ainode serve`: starts every process of the node, watches them, and stops them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node import log, name_conflict
from node.dicom.files import check_files
from node.errors import NodeError
from node.expected import expected_processes
from node.folder_lock import only_supervisor
from node.identity import load_identity
from node.listening import Listener, listening, pass_on
from node.liveness import Liveness
from node.notify_socket import NotifySocket
from node.process import PARENT_VARIABLE, stop_event
from node.pulse import Pulse, forget_dead
from node.report import NodeReport
from node.settings import Settings
from node.status import StatusServer, run_folder

_LOG = log.logger("supervisor")
_POLL_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 30.0
_STABLE_SECONDS = 60.0
_STOP_SECONDS = 8.0
# A wait for the database's lock may last half a minute, and is no reason to kill anybody.
WATCHDOG_SECONDS = 90.0
# After a pause of our own nobody's silence means anything.
_LATE_SECONDS = 5.0


@dataclass
class Child:
    """One process of the node and how it has fared.

    ``pause_seconds`` is what its next death costs: doubled by each early death, reset after a minute of life.
    ``heard`` is the monotonic time of its last heartbeat, ``ready`` and ``says`` what it told about itself.
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
    ready: bool = False
    says: str = ""
    heard: float = 0.0


class Supervisor:
    """Owns the listening socket, the lock of the data folder and the status socket; holds no database connection.

    Parameters
    ----------
    settings : Settings
        As every child will read them from ``config``.
    config : Path or None
        Handed to the children; None means the loopback defaults.
    liveness : Liveness or None
        Who watches this process itself.
    watchdog_seconds : float
        A child whose main loop is silent for so long is killed, and started again.
    """

    def __init__(
        self,
        settings: Settings,
        config: Path | None,
        *,
        liveness: Liveness | None = None,
        watchdog_seconds: float = WATCHDOG_SECONDS,
    ) -> None:
        self._settings = settings
        self._command = [sys.executable, "-P", "-m", "node"]
        if config is not None:
            self._command += ["--config", str(config.resolve())]
        self._children = _children(settings)
        self._liveness = (liveness or Liveness()).with_pulse(Pulse(settings.data_dir, "supervisor"))
        self._watchdog_seconds = watchdog_seconds
        self._notify_address = ""
        self._all_ready = False
        self.report = NodeReport(settings, self._processes)

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
            with (
                listening(self._settings) as listeners,
                NotifySocket(run_folder(self._settings.data_dir)) as notify_socket,
            ):
                self._notify_address = notify_socket.address
                status = StatusServer(self._settings.data_dir, self.report)
                status.start()
                bound = {name.replace("-", "_"): _bound(listener) for name, listener in listeners.items()}
                log.say(_LOG, 20, "node started", **bound, data_dir=self._settings.data_dir)
                try:
                    self._watch(stopping, listeners, notify_socket)
                finally:
                    self._liveness.stopping()
                    self._stop_all()
                    status.stop()
        log.say(_LOG, 20, "node stopped")
        return 0

    def _processes(self) -> list[dict[str, Any]]:
        return [
            {
                "name": child.name,
                "pid": child.pid,
                "running": child.pid is not None,
                "ready": child.ready,
                "says": child.says,
                "restarts": child.restarts,
                "last_ending": child.ending,
            }
            for child in self._children
        ]

    def _migrate(self) -> None:
        """Bring the schema up to date in a process of its own, so that this one stays small."""
        done = subprocess.run([*self._command, "db", "upgrade"], stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise NodeError("the database could not be prepared; the reason stands above")

    def _watch(
        self, stopping: threading.Event, listeners: Mapping[Listener, socket.socket], notify_socket: NotifySocket
    ) -> None:
        forget_dead(self._settings.data_dir)
        looked = time.monotonic()
        while not stopping.wait(_POLL_SECONDS):
            now = time.monotonic()
            self._listen(notify_socket, now, late=now - looked > _LATE_SECONDS)
            looked = now
            for child in self._children:
                if child.pid is not None:
                    self._kill_if_stuck(child, now)
                    self._reap(child, now)
                if child.pid is None and now >= child.start_at:
                    self._start(child, listeners, now)
            self._liveness.beat()

    def _listen(self, notify_socket: NotifySocket, now: float, *, late: bool) -> None:
        """Take note of what children say. Where we were stopped ourselves, everybody's time limit begins anew."""
        by_pid = {child.pid: child for child in self._children if child.pid is not None}
        for child in self._children if late else ():
            child.heard = now
        for pid, said in notify_socket.heard():
            if (speaker := by_pid.get(pid)) is None:
                continue
            speaker.heard = now
            speaker.ready = speaker.ready or said.get("READY") == "1"
            speaker.says = said.get("STATUS", speaker.says)
        if all(child.ready for child in self._children) != self._all_ready:
            self._all_ready = not self._all_ready
            if self._all_ready:
                self._liveness.ready(f"{len(self._children)} processes are ready")
            else:
                self._liveness.say("a process is being started again")

    def _kill_if_stuck(self, child: Child, now: float) -> None:
        """Kill a child that was ready and whose main loop has not turned since; how it ended is seen as ever."""
        if child.ready and now - child.heard > self._watchdog_seconds:
            silent = round(now - child.heard, 1)
            log.say(_LOG, 40, "process is stuck and is killed", name=child.name, pid=child.pid, silent_seconds=silent)
            _signal(child, signal.SIGKILL)

    def _start(self, child: Child, listeners: Mapping[Listener, socket.socket], now: float) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LISTEN_")}
        environment |= {PARENT_VARIABLE: str(os.getpid()), "PYTHONSAFEPATH": "1"}
        environment |= {
            "NOTIFY_SOCKET": self._notify_address,
            "WATCHDOG_USEC": str(int(self._watchdog_seconds * 1e6)),
        }
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
        child.started = child.heard = now
        child.ready, child.says = False, ""
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
        child.pid, child.ready, child.says = None, False, ""
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


def _children(settings: Settings) -> list[Child]:
    return [Child(each.name, each.words, listens=each.listens) for each in expected_processes(settings)]


def _bound(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"


def _signal(child: Child, number: signal.Signals) -> None:
    if child.pid is None:
        return
    try:
        os.kill(child.pid, number)
    except ProcessLookupError:
        pass  # it ended a moment ago; waitpid will tell
