"""What a running receiver asks of the system, recorded with strace; and faults put into single calls.

strace sees every call of the process, SQLite's included, so that nothing has to be believed about the code.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.network import wait_for
from tests.peers import require

STORAGE_CALLS = (
    "open,openat,creat,close,lseek,write,pwrite64,writev,pwritev,pwritev2,truncate,ftruncate,fallocate,fsync,fdatasync,"
    "sync_file_range,syncfs,sync,link,linkat,symlink,symlinkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,"
    "rmdir,sendfile,splice,copy_file_range"
)
NETWORK_CALLS = "sendto,sendmsg"

_LINE = re.compile(r"^(\d+) +(.*)$", re.DOTALL)
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+|\?)([^=]*)$", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HANDLE = re.compile(r"^(\d+|AT_FDCWD)<(.*?)>(?=,|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that succeeded.

    Attributes
    ----------
    begun : bool
        It has only begun; for network calls, since the peer may have the bytes before they return.
    path : str
        What its descriptor stands for.
    strings : tuple of bytes
        Its string arguments: contents and names.
    result : int
    """

    name: str
    begun: bool
    handle: int
    path: str
    strings: tuple[bytes, ...]
    arguments: str
    result: int


def require_tracing() -> str:
    """Path of strace; skips or fails where it is missing, skips where it may not attach."""
    strace = require("strace")
    probe = subprocess.Popen(["sleep", "30"])
    try:
        attached = subprocess.Popen([strace, "-p", str(probe.pid)], stderr=subprocess.PIPE, text=True)
        assert attached.stderr is not None
        said = attached.stderr.readline()
        attached.terminate()
        attached.wait(10)
        attached.stderr.close()
    finally:
        probe.kill()
        probe.wait(10)
    if "attached" not in said:
        pytest.skip(f"strace may not attach here: {said.strip()}")
    return strace


@contextmanager
def traced(pid: int, output: Path, *, calls: str, inject: Sequence[str] = (), content: bool = True) -> Iterator[None]:
    """Trace a process, every thread of it, until the block ends or the process does.

    Parameters
    ----------
    inject : sequence of str
        Faults as strace's ``-e inject=`` takes them, e.g. ``fsync:error=EIO:when=2``; counted per thread.
    content : bool
        Record what is written, whole.
    """
    command = [require("strace"), "-f", "-yy", "-xx", "-s", "1000000" if content else "256", "-e", f"trace={calls}"]
    command += [word for fault in inject for word in ("-e", f"inject={fault}")]
    said = output.with_suffix(".said")
    with said.open("w") as sink:
        tracer = subprocess.Popen([*command, "-o", str(output), "-p", str(pid)], stderr=sink)
    try:
        wait_for(lambda: "attached" in said.read_text() or tracer.poll() is not None, "strace")
        time.sleep(0.05)
        yield
    finally:
        # Asked to stop, strace waits for threads of a process that was killed and will never report again.
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGKILL if _dead(pid) else signal.SIGINT)
        try:
            tracer.wait(5)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait(5)


def _dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True


def calls_of(output: Path) -> list[Call]:
    """The calls of a recording in their order: network calls where they begin, all others where they end."""
    found: list[Call] = []
    open_calls: dict[str, str] = {}
    for line in output.read_text().splitlines():
        if not (parts := _LINE.match(line)):
            continue
        thread, text = parts.groups()
        if text.endswith("<unfinished ...>"):
            begun = text.removesuffix("<unfinished ...>").rstrip()
            open_calls[thread] = begun
            if begun.startswith(("sendto(", "sendmsg(")):
                found.append(_call(begun + ") = 0", begun=True))
            continue
        if resumed := _RESUMED.match(text):
            text = open_calls.pop(thread, "") + resumed.group(2)
            if text.startswith(("sendto(", "sendmsg(")):
                continue
        parsed = _CALL.match(text)
        if parsed and parsed.group(3) not in {"-1", "?"}:
            found.append(_call(text, begun=False))
    return found


def _call(text: str, *, begun: bool) -> Call:
    parts = _CALL.match(text)
    assert parts, text[:200]
    name, arguments, result, tail = parts.groups()
    handle, path = -1, ""
    if descriptor := _HANDLE.match(arguments):
        handle = -1 if descriptor.group(1) == "AT_FDCWD" else int(descriptor.group(1))
        path = _plain(descriptor.group(2))
    if name in {"open", "openat", "creat"} and (opened := re.match(r"<(.*)>", tail.strip(), re.DOTALL)):
        handle, path = int(result), _plain(opened.group(1))
    strings = tuple(bytes.fromhex(found.replace("\\x", "")) for found in _STRING.findall(arguments))
    return Call(name, begun, handle, path, strings, _STRING.sub('""', arguments), int(result))


def _plain(path: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda digits: chr(int(digits.group(1), 16)), path)
