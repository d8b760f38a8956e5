"""Runs jobs in a model-host child on this machine."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from node import log
from node.errors import ChildDied, DeadlineExceeded
from node.jobs import wire
from node.jobs.executor import RunAbandoned
from node.jobs.progress import ProgressBoard
from node.jobs.specification import JobSpec, ResultBundle
from node.remote.desk import RemoteDesk
from node.settings import Settings

_LOG = log.logger("executor")
_POLL_SECONDS = 0.2
_WARM_UP_SECONDS = 300.0
# What a child may know of its surroundings: no database, no proxy, no credentials.
_PASSED = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT"})
_PASSED_PREFIXES = ("LC_", "OMP_", "CUDA_", "NVIDIA_", "ORT_", "PYTHON")


class LocalExecutor:
    """One child, spawned in advance and kept warm; killed with its whole process group at the deadline.

    Use it from one thread that outlives the child: the kernel ties the child's life to the thread that spawned it.

    Parameters
    ----------
    settings : Settings
        Where models lie, which ones rules name, threads, log level.
    command : sequence of str or None
        The child's command line; its socket's file descriptor, our process id and the log level are appended.

    Notes
    -----
    The child has no network. Where a run wants to ask a remote model, it says so over its socket, and
    :class:`node.remote.desk.RemoteDesk` decides and calls on this side; the run's deadline goes on counting. How far a text
    is goes to the :class:`node.jobs.progress.ProgressBoard`.
    """

    def __init__(self, settings: Settings, *, command: Sequence[str] | None = None) -> None:
        self._settings = settings
        self._desk = RemoteDesk(settings)
        self._board = ProgressBoard(settings.data_dir)
        self._command = list(command or [sys.executable, "-P", "-m", "node.jobs.model_host"])
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._cold = True
        self._warming = False
        self._models: dict[str, dict[str, bool]] = {}

    @property
    def models(self) -> dict[str, dict[str, bool]]:
        """See `Executor.models`."""
        if self._warming and self._connection is not None and select.select([self._connection], [], [], 0)[0]:
            self._await_ready(abandoned=lambda: False)
        return self._models

    @property
    def child_pid(self) -> int | None:
        """Process id of the child, None when there is none."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """See `Executor.start`."""
        self._spawn()
        if self._cold:
            self._send(self._warm_up_message())
            self._cold, self._warming = False, True

    def _spawn(self) -> None:
        if self._child is not None and self._child.poll() is None:
            return
        self.discard()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._child = subprocess.Popen(
                [*self._command, str(theirs.fileno()), str(os.getpid()), self._settings.log.level],
                stdin=subprocess.DEVNULL,
                # Whatever a library prints must not disturb a terminal or a pipe.
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                start_new_session=True,
            )
        self._connection = ours
        self._cold = True

    def run(self, spec: JobSpec, *, abandoned: Callable[[], bool]) -> ResultBundle:
        """See `Executor.run`."""
        if spec.status_only is None:
            self.start()
        else:
            # No model is needed to say that it failed; loading it may be what kills the child.
            self._spawn()
        if self._warming:
            # Time spent on loading models is not the study's: the deadline starts when the child is ready.
            self._await_ready(abandoned)
        self._send({"kind": "run", "spec": spec.model_dump(mode="json")})
        until = time.monotonic() + spec.deadline_seconds
        try:
            reply = self._served(spec, until, abandoned)
        finally:
            self._board.clear(spec.job_id)
        self._models = reply.get("models", self._models)
        return ResultBundle.model_validate(reply["bundle"])

    def _served(self, spec: JobSpec, until: float, abandoned: Callable[[], bool]) -> dict[str, Any]:
        """Give the child what it asks for until it has a result."""
        while (reply := self._await(until, abandoned, what="the run"))["kind"] != "result":
            if reply["kind"] == "similar":
                self._send(self._desk.similar(reply))
            elif reply["kind"] == "progress":
                self._board.note(spec.job_id, reply)
            else:
                self._ask(spec, reply, until, abandoned)
        return reply

    def _ask(self, spec: JobSpec, wish: dict[str, Any], until: float, abandoned: Callable[[], bool]) -> None:
        """Have a remote model asked, or not, while watching deadline and dispatcher; tell the child."""
        call = self._desk.begin(spec, wish)
        while not call.done.wait(min(_POLL_SECONDS, max(0.0, until - time.monotonic()))):
            late = time.monotonic() >= until
            if late or abandoned():
                call.cut()
                self.discard()
                if late:
                    raise DeadlineExceeded("the run was stopped while a remote model was asked")
                raise RunAbandoned("the run")
        self._send(call.reply)

    def _await_ready(self, abandoned: Callable[[], bool]) -> None:
        ready = self._await(time.monotonic() + _WARM_UP_SECONDS, abandoned, what="loading models")
        self._warming = False
        self._models = ready.get("models", {})
        log.say(_LOG, 20, "model host is ready", pid=self.child_pid, seconds=f"{ready['seconds']:.2f}")

    def discard(self) -> None:
        """See `Executor.discard`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._child is not None:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # the whole group is gone already
            self._child.wait()
            self._child = None
        self._warming = False

    def close(self) -> None:
        """See `Executor.close`."""
        self.discard()

    def _warm_up_message(self) -> dict[str, Any]:
        wanted = [model for rule in self._settings.rule for model in (rule.model, rule.report_model) if model]
        wanted += [prompt.model for prompt in self._settings.prompt]
        return {
            "kind": "warm",
            "model_folders": [str(folder) for folder in self._settings.models.folders],
            "threads": self._settings.jobs.threads,
            "models": list(dict.fromkeys(wanted)),
        }

    def _send(self, message: dict[str, Any]) -> None:
        assert self._connection is not None
        try:
            wire.send(self._connection, message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._died() from error

    def _await(self, until: float, abandoned: Callable[[], bool], *, what: str) -> dict[str, Any]:
        """Wait for the child's answer while watching deadline and dispatcher; ``until`` is monotonic seconds."""
        assert self._connection is not None
        started = time.monotonic()
        while True:
            remaining = until - time.monotonic()
            if remaining <= 0:
                self.discard()
                raise DeadlineExceeded(f"{what} was stopped after {time.monotonic() - started:.1f} s")
            readable, _, _ = select.select([self._connection], [], [], min(remaining, _POLL_SECONDS))
            if readable:
                break
            if abandoned():
                self.discard()
                raise RunAbandoned(what)
        try:
            # A child that stalls within a message is the deadline's business as well.
            self._connection.settimeout(max(0.001, until - time.monotonic()))
            message = wire.receive(self._connection)
            self._connection.settimeout(None)
        except TimeoutError as error:
            self.discard()
            raise DeadlineExceeded(f"{what} was stopped after {time.monotonic() - started:.1f} s") from error
        except wire.WireBroken as error:
            raise self._died() from error
        if message is None:
            raise self._died()
        return message

    def _died(self) -> ChildDied:
        """Clean up after a child that ended by itself, and say how it ended."""
        ending = "without a word"
        if self._child is not None:
            try:
                code = self._child.wait(timeout=5)
                ending = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            except subprocess.TimeoutExpired:
                ending = "its connection but not itself"
        self.discard()
        log.say(_LOG, 40, "model host died", ending=ending)
        return ChildDied(f"the model host ended {ending}", ending=ending)


def _environment() -> dict[str, str]:
    passed = {key: value for key, value in os.environ.items() if key in _PASSED or key.startswith(_PASSED_PREFIXES)}
    return {**passed, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _has_descriptor(stream: Any) -> bool:
    try:
        return bool(stream.fileno() >= 0)
    except (AttributeError, OSError, ValueError):
        return False
