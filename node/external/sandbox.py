"""Runs one program to its end, or to its deadline, with limits on what it takes and writes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.program_errors import NotIsolated, OutputTooLarge, ProgramFailed, ProgramLate
from node.confinement.privileges import Account, popen_words

_CONFINE = Path(__file__).with_name("confine.py")
_POLL_SECONDS = 0.1
_MEBIBYTE = 1 << 20
_MAXIMUM_FILES = 10_000
_OPEN_FILES, _SHOWN = 1024, 200


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may take: seconds of wall clock, MiB of address space and of output, processes."""

    seconds: float
    memory_mb: int
    output_mb: int
    processes: int

    def as_rlimits(self) -> dict[str, int]:
        """Limits of the kernel, each process."""
        return {
            "RLIMIT_AS": self.memory_mb * _MEBIBYTE,
            "RLIMIT_FSIZE": self.output_mb * _MEBIBYTE,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_NOFILE": _OPEN_FILES,
            "RLIMIT_CPU": int(self.seconds * (os.cpu_count() or 1)) + 1,
            "RLIMIT_CORE": 0,
        }


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of this machine and where the program sees it."""

    source: Path
    target: str
    writable: bool = False


def run_confined(
    command: Sequence[str],
    *,
    mounts: Sequence[Mount],
    output: Path,
    work: Path,
    environment: Mapping[str, str],
    limits: Limits,
    readable: Sequence[Path] = (),
    isolate: bool = True,
    tell: bool = True,
    user: Account | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run a program shut in by :mod:`node.external.confine`.

    Parameters
    ----------
    command : sequence of str
        Argument list, with paths as the program sees them.
    output : Path
        The folder of ``mounts`` that it writes to; watched while it runs.
    work : Path
        Empty folder for what running it needs.
    readable : sequence of Path
        Further folders it sees, read-only, under their own names.
    isolate : bool
        False runs it without namespaces: with limits and deadline, but it sees machine and network.
    tell : bool
        Whether its last words may stand in an error: not where it has seen a patient's name.
    user : Account or None
        Whom it runs as; None for our own user.
    stopped : callable
        Asked several times a second; True kills it.

    Raises
    ------
    NotIsolated, ProgramFailed, ProgramLate, OutputTooLarge
    """
    root = work / "root"
    root.mkdir()
    plan = {
        "parent": os.getpid(),
        "isolate": isolate,
        "root": str(root),
        "folder": "/tmp" if isolate else str(output),
        "readable": [str(each) for each in readable],
        "mounts": [(str(each.source), each.target, each.writable) for each in mounts],
        "temporary_mb": limits.output_mb,
        "command": list(command),
        "environment": dict(environment),
        "limits": limits.as_rlimits(),
    }
    reader, writer = os.pipe()
    try:
        with (work / "stderr").open("wb") as words:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_CONFINE), json.dumps(plan), str(writer)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                pass_fds=[writer],
                env={},
                start_new_session=True,
                **({} if user is None else popen_words(user)),
            )
        os.close(writer)
        try:
            code = watch(process, output, limits, stopped=stopped)
        finally:
            end(process)
        said = _line(reader)
    finally:
        os.close(reader)
    if said != "ok":
        raise NotIsolated(f"the program could not be shut in: {said or 'no word of why'}")
    if code:
        raise ProgramFailed(
            f"the program ended with {_ending(code)}{_last(work / 'stderr') if tell else ''}", code=code
        )


def watch(
    process: subprocess.Popen[bytes],
    output: Path,
    limits: Limits,
    *,
    kill: Callable[[], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Wait for a program's end while watching clock and output; its exit status.

    Parameters
    ----------
    kill : callable, optional
        Ends what does not end with the process, as a container does not with its client.

    Raises
    ------
    ProgramLate, OutputTooLarge
        It was killed, with everything it started.
    """
    started = time.monotonic()
    until = started + limits.seconds
    descriptor = os.pidfd_open(process.pid)
    try:
        while not select.select([descriptor], [], [], min(_POLL_SECONDS, max(0.0, until - time.monotonic())))[0]:
            late = time.monotonic() >= until or stopped()
            if late or _too_much(output, limits):
                if kill is not None:
                    kill()
                end(process)
                if late:
                    raise ProgramLate(f"the program was killed after {time.monotonic() - started:.0f} s")
                raise OutputTooLarge(f"the program wrote more than {limits.output_mb} MiB or {_MAXIMUM_FILES} files")
    finally:
        os.close(descriptor)
    if _too_much(output, limits):
        raise OutputTooLarge(f"the program wrote more than {limits.output_mb} MiB or {_MAXIMUM_FILES} files")
    return process.wait()


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program's process group, whether it ended or not: what it left behind goes, too."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing is left
    process.wait()


def _too_much(output: Path, limits: Limits) -> bool:
    """Whether the files below a folder are too many or too large; links are never followed."""
    size = count = 0
    for folder, inner, names in os.walk(output):
        count += len(inner)
        for name in names:
            count += 1
            try:
                size += Path(folder, name).lstat().st_size
            except FileNotFoundError:
                continue  # the program has just taken it away
        if count > _MAXIMUM_FILES or size > limits.output_mb * _MEBIBYTE:
            return True
    return False


def _line(reader: int) -> str:
    return os.read(reader, 500).decode("utf-8", "replace").strip() if select.select([reader], [], [], 0)[0] else ""


def _ending(code: int) -> str:
    number = code - 128 if code > 128 else -code
    names = {each.value: each.name for each in signal.Signals}
    return f"signal {names[number]}" if code not in (125, 127) and number in names else f"exit code {code}"


def _last(words: Path) -> str:
    lines = [
        line.strip() for line in words.read_bytes()[-4000:].decode("utf-8", "replace").splitlines() if line.strip()
    ]
    kept = "".join(each for each in lines[-1] if each.isprintable())[:_SHOWN] if lines else ""
    return f": {kept}" if kept else ""
