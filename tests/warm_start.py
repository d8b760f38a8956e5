"""Starts the same script again and again without importing its modules each time.

A process imports them once and forks whoever is asked for: a process like any other, with its own memory, that can be
traced, killed and waited for. Only the second of importing is saved, of which tests that kill at every step have dozens.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_STARTER = """
import gc, json, os, signal, socket, sys, traceback
import importlib

link = socket.socket(fileno=int(sys.argv[1]))
gc.disable()
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
gc.freeze()
gc.enable()
link.send(b"{}")
living = set()
while (asked := socket.recv_fds(link, 1 << 20, 8)) and asked[0]:
    order, handles = json.loads(asked[0]), asked[1]
    if "wait" in order:
        pid, status = os.waitpid(order["wait"], os.WNOHANG)
        living.discard(pid)
        link.send(json.dumps({"code": os.waitstatus_to_exitcode(status) if pid else None}).encode())
        continue
    pid = os.fork()
    if pid:
        living.add(pid)
        for handle in handles:
            os.close(handle)
        link.send(json.dumps({"pid": pid}).encode())
        continue
    try:
        link.close()
        os.dup2(handles[0], 1)
        os.dup2(handles[1], 2)
        # Above all that may be in their way.
        moved = [os.dup2(handle, 200 + at) for at, handle in enumerate(handles[2:])]
        for handle in handles:
            os.close(handle)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        sys.argv = ["-c", *(str(moved[0]) if word == "HANDLE" else word for word in order["words"])]
        exec(compile(order["script"], "<script>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
for pid in living:
    os.kill(pid, signal.SIGKILL)
"""


class WarmStart:
    """A process that has imported ``modules`` and forks scripts.

    Parameters
    ----------
    modules : collection of str
        What the scripts import.
    """

    def __init__(self, modules: Collection[str]) -> None:
        self._turn = threading.Lock()
        self._link, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _STARTER, str(other.fileno()), json.dumps(list(modules))],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
                pass_fds=[other.fileno()],
            )
        self._link.settimeout(120)
        self._answer()

    def start(
        self, script: str, words: Sequence[str], *, errors: int, output: int | None = None, handle: int | None = None
    ) -> WarmProcess:
        """Run a script as ``python -c`` does, with this process's environment and current folder.

        Parameters
        ----------
        words : sequence of str
            Its arguments; the word ``HANDLE`` becomes the number of ``handle`` there.
        errors, output : int
            Descriptors of its standard error and output; the same for both without ``output``.
        handle : int or None
            A descriptor that it inherits.
        """
        handles = [errors if output is None else output, errors, *([] if handle is None else [handle])]
        order = {"script": script, "words": list(words), "environment": dict(os.environ), "folder": str(Path.cwd())}
        with self._turn:
            socket.send_fds(self._link, [json.dumps(order).encode()], handles)
            return WarmProcess(self, self._answer()["pid"])

    def run(self, script: str, words: Sequence[str], *, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a script to its end, as `subprocess.run` with both streams captured."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = self.start(script, words, output=output.fileno(), errors=errors.fileno())
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            for stream in (output, errors):
                stream.seek(0)
            return subprocess.CompletedProcess([*words], code, output.read().decode(), errors.read().decode())

    def ending(self, pid: int) -> int | None:
        """How a process ended, as `subprocess` says it; None while it lives."""
        with self._turn:
            self._link.send(json.dumps({"wait": pid}).encode())
            return self._answer()["code"]

    def close(self) -> None:
        """End; every process that it started ends with it."""
        self._link.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def _answer(self) -> dict[str, int]:
        content = self._link.recv(1 << 16)
        assert content, "the process that starts others has ended"
        return dict(json.loads(content))


class WarmProcess:
    """What tests use of `subprocess.Popen`, for a process that another one started."""

    def __init__(self, starter: WarmStart, pid: int) -> None:
        self._starter = starter
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended; None while it lives."""
        if self.returncode is None:
            self.returncode = self._starter.ending(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """How it ended, once it has."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a warm process", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)
