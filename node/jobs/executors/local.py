"""Runs jobs in a model-host child on this machine."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pydantic import ValidationError

from models.errors import NodeError
from node import log
from node.archive.placing import as_spool_error
from node.confinement.shut_in import Confinement
from node.errors import ChildDied, DeadlineExceeded, HostUntrusted, SpoolFull, UnexpectedFailure
from node.jobs import wire
from node.jobs.executor import RunAbandoned
from node.jobs.host_plan import NOT_CONFINED, HostPlan
from node.jobs.idle_tests import IdleTests, Turn
from node.jobs.program_starts import ProgramStart
from node.jobs.progress import ProgressBoard
from node.jobs.room import Room
from node.jobs.specification import JobSpec, ResultBundle
from node.remote.desk import RemoteDesk
from node.settings import Settings
from node.status import run_folder

_LOG = log.logger("executor")
_POLL_SECONDS = 0.2
_WARM_UP_SECONDS = 300.0
# What a child may know of its surroundings: no database, no proxy, no credentials.
_PASSED = frozenset({"PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT"})
_PASSED_PREFIXES = ("LC_", "OMP_", "CUDA_", "NVIDIA_", "ORT_", "PYTHON")


class Wished(Protocol):
    """Something that goes on on this side because the child asked for it."""

    done: threading.Event
    reply: dict[str, Any]

    def cut(self) -> None:
        """Stop it; what it started is gone when this returns."""
        ...


class LocalExecutor:
    """One child, spawned in advance and kept warm; killed with its whole process group at the deadline.

    Use it from one thread that outlives the child: the kernel ties the child's life to the thread that spawned it.

    Parameters
    ----------
    settings : Settings
        Where models lie, which ones rules name, threads, log level, how children are shut in.
    command : sequence of str or None
        The child's command line; its socket's file descriptor, our process id, the log level and the plan of its
        confinement are appended.
    clock : callable
        Monotonic seconds, for the daily self-test.

    Notes
    -----
    The child has no network and sees no file but those of its room (:mod:`node.jobs.room`). Where a run wants to ask a
    remote model or to have a program started, it says so over its socket, and :class:`node.remote.desk.RemoteDesk` or
    :class:`node.jobs.program_starts.ProgramStart` decide and act on this side; the run's deadline goes on counting. How
    far a text is goes to the :class:`node.jobs.progress.ProgressBoard`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        command: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._desk = RemoteDesk(settings)
        self._board = ProgressBoard(settings.data_dir)
        self._command = list(command or [sys.executable, "-P", "-m", "node.jobs.model_host"])
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._room: Room | None = None
        self._host = HostPlan(settings)
        self._confinement: Confinement | None = None
        self._cold = True
        self._warming = False
        self._preloads = True
        self._clock = clock
        self._idle = IdleTests((), clock)
        self._turn = Turn(run_folder(settings.data_dir))
        self._tested: str | None = None
        self._test_until = 0.0
        self._models: dict[str, dict[str, bool]] = {}

    @property
    def models(self) -> dict[str, dict[str, bool]]:
        """See `Executor.models`."""
        while self._warming and self._has_spoken():
            message = self._take(time.monotonic() + _WARM_UP_SECONDS, what="loading models")
            if message["kind"] != "hello":
                self._ready(message)
        return self._models

    def test_when_idle(self, approved: Callable[[], Mapping[str, str]]) -> bool:
        """See `Executor.test_when_idle`."""
        if self._tested is not None:
            self._hear_of_test(wait=False)
        elif not (self._cold or self._warming or self._child is None):
            model = self._idle.next()
            if model is not None and self._turn.take():
                self._tested, self._test_until = model, time.monotonic() + _WARM_UP_SECONDS
                self._send({**self._models_message(approved()), "kind": "test", "model": model})
        return self._tested is not None

    def _hear_of_test(self, *, wait: bool, abandoned: Callable[[], bool] = lambda: False) -> None:
        """Take the answer to a self-test, where it has come, or until it comes."""
        if not (wait or self._has_spoken() or time.monotonic() >= self._test_until):
            return
        told = self._await(self._test_until, abandoned, what="a self-test")
        self._models = told["models"]
        self._test_ended(passed=bool(told["passed"]))

    def _test_ended(self, *, passed: bool) -> None:
        if self._tested is not None:
            self._idle.asked(self._tested, passed=passed)
            self._tested = None
        self._turn.give()

    def _has_spoken(self) -> bool:
        return self._connection is not None and bool(select.select([self._connection], [], [], 0)[0])

    @property
    def confinement(self) -> Confinement | None:
        """See `Executor.confinement`."""
        return self._confinement

    @property
    def child_pid(self) -> int | None:
        """Process id of the child, None when there is none."""
        return self._child.pid if self._child else None

    def start(self, approved: Callable[[], Mapping[str, str]] = dict) -> None:
        """See `Executor.start`."""
        self._start(approved)

    def _start(self, approved: Callable[[], Mapping[str, str]], job: Sequence[str] = ()) -> None:
        self._spawn(job)
        if self._cold:
            self._send(self._warm_up_message(approved()))
            self._cold, self._warming = False, True

    def greeted(self, seconds: float) -> Confinement | None:
        """Start a child, if there is none, that loads nothing, and wait for it to say how it is shut in."""
        self._spawn()
        until = time.monotonic() + seconds
        while self._confinement is None and (left := until - time.monotonic()) > 0:
            assert self._connection is not None
            if select.select([self._connection], [], [], left)[0]:
                self._take(until, what="the start of a model host")
        return self._confinement

    def _spawn(self, job: Sequence[str] = ()) -> None:
        """Have a child that may see the models that rules name, and those of a ``job``."""
        models = [*self._wanted(), *job]
        if self._child is not None and self._child.poll() is None and not self._host.outdated(models):
            return
        self.discard()
        try:
            self._room = self._host.room()
        except OSError as error:
            raise _as_node_error(error) from error
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            words = [str(theirs.fileno()), str(os.getpid()), self._settings.log.level]
            self._child = subprocess.Popen(
                [*self._command, *words, *self._host.words(self._room, models)],
                stdin=subprocess.DEVNULL,
                # Whatever a library prints must not disturb a terminal or a pipe.
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(self._room),
                start_new_session=True,
                **self._host.as_user(),
            )
        self._connection = ours
        self._cold = True

    def run(self, spec: JobSpec, *, abandoned: Callable[[], bool]) -> ResultBundle:
        """See `Executor.run`."""
        if spec.status_only is None:
            self._prepare(spec, abandoned)
        else:
            # Loading the model may be what kills the child; its card is all that is needed to say that it failed.
            self._spawn(spec.models)
            self._await_ready(abandoned)
        assert self._room is not None
        room = self._room
        try:
            admitted = room.admit(spec)
        except OSError as error:
            raise _as_node_error(error) from error
        folders = self._folders(spec.models)
        self._send({"kind": "run", "spec": admitted.model_dump(mode="json"), "folders": folders})
        until = time.monotonic() + spec.deadline_seconds
        try:
            reply = self._served(spec, room, until, abandoned)
        finally:
            self._board.clear(spec.job_id)
        self._models = reply.get("models", self._models)
        try:
            bundle = room.collect(_bundle(reply), spec.output_dir)
        except HostUntrusted:
            self.discard()
            raise
        except OSError as error:
            raise _as_node_error(error) from error
        room.clear()
        return bundle

    def _prepare(self, spec: JobSpec, abandoned: Callable[[], bool]) -> None:
        """Have a child that is ready. Time spent on loading models is not the study's: its deadline starts then."""
        preloads = self._preloads
        self._start(lambda: spec.approved, spec.models)
        try:
            self._await_ready(abandoned)
        except (ChildDied, DeadlineExceeded):
            if not preloads:
                raise
            if self._preloads:
                self._stop_preloading()
            self._start(lambda: spec.approved, spec.models)
            self._await_ready(abandoned)

    def _stop_preloading(self) -> None:
        """One of the models that rules name ends or holds up every child that loads it: let its own runs show which one."""
        self._preloads = False
        log.say(_LOG, 40, "a model host did not survive loading models in advance: each is loaded when it is needed")

    def _served(self, spec: JobSpec, room: Room, until: float, abandoned: Callable[[], bool]) -> dict[str, Any]:
        """Give the child what it asks for until it has a result."""
        while (reply := self._await(until, abandoned, what="the run"))["kind"] != "result":
            if reply["kind"] == "similar":
                self._send(self._desk.similar(reply))
            elif reply["kind"] == "progress":
                self._progress(spec.job_id, reply)
            elif reply["kind"] == "program":
                start = ProgramStart(spec, reply, self._settings.external, room, self._host.user)
                self._ask(start, until, abandoned, what="a program ran")
            else:
                self._ask(self._desk.begin(spec, reply), until, abandoned, what="a remote model was asked")
        return reply

    def _progress(self, job: int, told: dict[str, Any]) -> None:
        try:
            self._board.note(job, told)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self.discard()
            raise HostUntrusted("the model host says how far a text is in words that are none") from error

    def _ask(self, call: Wished, until: float, abandoned: Callable[[], bool], *, what: str) -> None:
        """Wait for what the child wants done, while watching deadline and dispatcher; tell the child."""
        while not call.done.wait(min(_POLL_SECONDS, max(0.0, until - time.monotonic()))):
            late = time.monotonic() >= until
            if late or abandoned():
                call.cut()
                self.discard()
                if late:
                    raise DeadlineExceeded(f"the run was stopped while {what}")
                raise RunAbandoned("the run")
        self._send(call.reply)

    def _await_ready(self, abandoned: Callable[[], bool]) -> None:
        if self._tested is not None:
            self._hear_of_test(wait=True, abandoned=abandoned)
        if not self._warming:
            return
        self._ready(self._await(time.monotonic() + _WARM_UP_SECONDS, abandoned, what="loading models"))

    def _ready(self, ready: dict[str, Any]) -> None:
        self._warming = False
        self._models = ready.get("models", {})
        self._idle = IdleTests(self._wanted() if self._preloads else (), self._clock)
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
        if self._room is not None:
            self._room.remove()
            self._room = None
        self._warming = False
        self._test_ended(passed=False)

    def close(self) -> None:
        """See `Executor.close`."""
        self.discard()

    def _warm_up_message(self, approved: Mapping[str, str]) -> dict[str, Any]:
        models = self._wanted() if self._preloads else []
        return {**self._models_message(approved), "kind": "warm", "models": models}

    def _wanted(self) -> list[str]:
        """The models that rules name."""
        wanted = [model for rule in self._settings.rule for model in (rule.model, rule.report_model) if model]
        wanted += [prompt.model for prompt in self._settings.prompt]
        return list(dict.fromkeys(wanted))

    def _folders(self, job: Sequence[str] = ()) -> list[str]:
        """What the child is to take for all that is installed."""
        return [str(each) for each in self._host.folders([*self._wanted(), *job])]

    def _models_message(self, approved: Mapping[str, str]) -> dict[str, Any]:
        return {
            "folders": self._folders(),
            "threads": self._settings.jobs.threads,
            "approved": dict(approved),
            "require_approval": self._settings.models.require_approval,
        }

    def _send(self, message: dict[str, Any]) -> None:
        assert self._connection is not None
        try:
            wire.send(self._connection, message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._died() from error

    def _await(self, until: float, abandoned: Callable[[], bool], *, what: str) -> dict[str, Any]:
        """Wait for the child's answer while watching deadline and dispatcher; ``until`` is monotonic seconds."""
        started = time.monotonic()
        while True:
            assert self._connection is not None
            remaining = until - time.monotonic()
            if remaining <= 0:
                self.discard()
                raise DeadlineExceeded(f"{what} was stopped after {time.monotonic() - started:.1f} s")
            readable, _, _ = select.select([self._connection], [], [], min(remaining, _POLL_SECONDS))
            if readable:
                message = self._take(until, what=what)
                if message["kind"] != "hello":
                    return message
            elif abandoned():
                self.discard()
                raise RunAbandoned(what)

    def _take(self, until: float, *, what: str) -> dict[str, Any]:
        """The next message of the child, of which something has come; how the child is shut in is noted on the way."""
        assert self._connection is not None
        started = time.monotonic()
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
        if message["kind"] == "hello":
            self._note(message.get("confinement"))
        return message

    def _note(self, told: dict[str, Any] | None) -> None:
        """Remember how the child is shut in; say it once."""
        found = Confinement.model_validate(told) if told else NOT_CONFINED
        if found != self._confinement:
            log.say(_LOG, 30 if found.gaps else 20, f"model host is {found.words}")
        self._confinement = found

    def _died(self) -> ChildDied:
        """Clean up after a child that ended by itself, and say how it ended."""
        ending = "without a word"
        if self._child is not None:
            try:
                code = self._child.wait(timeout=5)
                ending = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            except subprocess.TimeoutExpired:
                ending = "its connection but not itself"
        was_warming = self._warming
        self.discard()
        log.say(_LOG, 40, "model host died", ending=ending)
        if was_warming and self._preloads:
            self._stop_preloading()
        return ChildDied(f"the model host ended {ending}", ending=ending)


def _as_node_error(error: OSError) -> NodeError:
    """What the dispatcher is told when a room cannot be filled or emptied."""
    full = as_spool_error(error)
    if isinstance(full, SpoolFull):
        return full
    return UnexpectedFailure(f"the model host's room cannot be used: {error.strerror or type(error).__name__}")


def _bundle(reply: dict[str, Any]) -> ResultBundle:
    try:
        return ResultBundle.model_validate(reply.get("bundle"))
    except ValidationError as error:
        raise HostUntrusted("the model host's answer has another form than an answer") from error


def _environment(room: Room) -> dict[str, str]:
    passed = {key: value for key, value in os.environ.items() if key in _PASSED or key.startswith(_PASSED_PREFIXES)}
    own = str(room.temporary)
    # Libraries write caches where these point.
    places = {"TMPDIR": own, "HOME": own, "XDG_CACHE_HOME": own, "CUDA_CACHE_PATH": own}
    return {**passed, **places, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _has_descriptor(stream: Any) -> bool:
    try:
        return bool(stream.fileno() >= 0)
    except (AttributeError, OSError, ValueError):
        return False
