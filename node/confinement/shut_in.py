"""Puts the measures together: a process shuts itself in before it has read anything from outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from node.confinement import landlock, privileges, system_calls

_PACKAGES = Path(__file__).resolve().parents[2]
# Of /etc only what libraries look up: the rest may hold credentials.
_ETC: tuple[str, ...] = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "timezone",
    "alternatives",
    "nsswitch.conf",
    "passwd",
)
_ETC += ("group", "os-release", "mime.types", "OpenCL", "nvidia", "ssl/openssl.cnf")
_PROC: tuple[str, ...] = (
    "self",
    "cpuinfo",
    "meminfo",
    "stat",
    "version",
    "filesystems",
    "devices",
    "modules",
    "loadavg",
    "uptime",
)
_PROC += ("driver", "sys/vm", "sys/kernel/osrelease", "sys/kernel/threads-max", "sys/kernel/shmmax")
_DEVICES = ("null", "zero", "full", "random", "urandom", "dri", "kfd")
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/sys")


class Plan(BaseModel):
    """What a process is to keep.

    Attributes
    ----------
    readable, writable : list of Path
        Files and folders beyond this machine's libraries and devices.
    private : list of Path
        Files and folders that it must not see; named as a gap where they lie below something that it must.
    user : str
        The user of its own that it was started as; empty where it has none.
    no_user : str
        Why it does not have the one that is configured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    readable: list[Path] = Field(default_factory=list)
    writable: list[Path] = Field(default_factory=list)
    private: list[Path] = Field(default_factory=list)
    user: str = ""
    no_user: str = ""


class Confinement(BaseModel):
    """How a process is shut in.

    Attributes
    ----------
    holds : dict
        Measure (``user``, ``network``, ``files``, ``calls``, ``privileges``) → how.
    gaps : dict
        Measure → why this machine does not allow it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    holds: dict[str, str] = Field(default_factory=dict)
    gaps: dict[str, str] = Field(default_factory=dict)

    @property
    def words(self) -> str:
        """One line for people."""
        held = ", ".join(f"{name} ({how})" for name, how in self.holds.items()) or "nothing"
        gaps = "; ".join(f"{name}: {why}" for name, why in self.gaps.items())
        own = "" if "user" in self.holds else " as the node's own user"
        return f"shut in{own}: {held}" + (f"; NOT shut in: {gaps}" if gaps else "")


def shut_in(plan: Plan) -> Confinement:
    """Shut the calling process in, as far as the machine allows; cannot be undone. Call it before any thread is started."""
    if not sys.platform.startswith("linux"):
        return Confinement(gaps=dict.fromkeys(("user", "network", "files", "calls"), "this is not Linux"))
    holds, gaps = {}, {}
    if plan.user:
        holds["user"] = plan.user
    elif plan.no_user:
        gaps["user"] = plan.no_user
    version = landlock.version()
    signals = version < landlock.GUARDS_SIGNALS
    # In this order: each step needs what the next ones take away.
    allowed = list(_allowed(plan))
    for name, how, measure in _steps(allowed, version, signals=signals):
        try:
            measure()
            holds[name] = how
        except OSError as error:
            gaps[name] = (error.strerror or str(error)).lower()
    if "calls" in holds:
        # The filter refuses sockets by itself; without the namespace that is one wall less, and no gap.
        gaps.pop("network", None)
        holds["network"] = " and ".join(filter(None, (holds.get("network"), "no sockets")))
    if seen := sorted({str(path) for path in plan.private for folder, _ in allowed if path.is_relative_to(folder)}):
        gaps["files"] = f"it can read {', '.join(seen)}, which lies below a folder that it needs"
    return Confinement(holds=holds, gaps=gaps)


def _steps(
    allowed: list[tuple[Path, int]], version: int, *, signals: bool
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    yield "network", "a namespace without one", privileges.leave_network
    yield "privileges", "none", privileges.lay_down
    yield "files", f"Landlock {version}", lambda: landlock.restrict(allowed)
    yield "calls", "seccomp", lambda: system_calls.restrict(signals=signals)


def _allowed(plan: Plan) -> Iterator[tuple[Path, int]]:
    for each in (*_SYSTEM, *(f"/etc/{name}" for name in _ETC), *(f"/proc/{name}" for name in _PROC)):
        yield Path(each), landlock.READ
    for path in (*_python(), *plan.readable):
        yield path, landlock.READ
    yield Path("/dev"), landlock.READ_NAMES
    for name in _DEVICES:
        yield Path("/dev", name), landlock.DEVICE
    for path in Path("/dev").glob("nvidia*"):
        yield path, landlock.DEVICE
    for path in plan.writable:
        yield path, landlock.WRITE


def _python() -> Iterator[Path]:
    """Where the interpreter, its libraries and our packages lie."""
    yield from (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve())
    yield from (Path(each) for each in sys.path if each)
    yield from (_PACKAGES / name for name in ("node", "models", "dicom_sr"))
    yield from (Path(each) for each in os.environ.get("LD_LIBRARY_PATH", "").split(":") if each)
