"""How much is measured and where, and what processes cost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")
Result = TypeVar("Result")
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkFailed(Exception):
    """Something was measured that is not what it should be; no figure comes of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder and the type of its file system."""

    filesystem: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Size:
    """How often and how many. ``images`` is instances by kind, ``stalling`` those for peers with Nagle's algorithm on,
    ``medsam_pixels`` the side of MedSAM's image."""

    repeats: int
    images: Mapping[str, int]
    stalling: int
    latencies: int
    studies: int
    shapes_zyx: tuple[tuple[int, int, int], ...]
    mask_zyx: tuple[int, int, int]
    medsam_pixels: int


FULL = Size(3, {"ct": 400, "mr": 2000, "cr": 24}, 30, 60, 5, ((28, 128, 128), (73, 112, 112)), (300, 512, 512), 1024)
QUICK = Size(1, {"ct": 4, "mr": 8, "cr": 4}, 3, 5, 1, ((28, 64, 64),), (40, 96, 96), 256)


@dataclass
class Stage:
    """What every measurement gets."""

    size: Size
    scratch: Place
    disk: Place

    @property
    def places(self) -> list[Place]:
        """Memory and disk; one where both are the same."""
        return [self.scratch] if self.scratch.filesystem == self.disk.filesystem else [self.scratch, self.disk]

    def folder(self, place: Place) -> Path:
        """A new empty folder; it goes with the stage."""
        return Path(tempfile.mkdtemp(dir=place.folder))


def place_of(folder: Path) -> Place:
    """A folder with the type of the file system below it, from the table of mounts."""
    best, found = -1, "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, filesystem, *_ = line.split()
        if folder.resolve().is_relative_to(mount) and len(mount) >= best:
            best, found = len(mount), filesystem
    return Place(found, folder)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, its living children and those it has waited for."""
    parents, times = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        parents[int(entry.name)] = int(fields[1])
        times[int(entry.name)] = sum(map(int, fields[11:15])) / _TICKS
    family, fresh = set(), {pid}
    while fresh:
        family |= fresh
        fresh = {child for child, parent in parents.items() if parent in fresh} - family
    return sum(times.get(member, 0.0) for member in family)


def alternate(
    repeats: int, actions: Sequence[Callable[[], Result]], *, prepare: Callable[[int], None] = lambda repeat: None
) -> list[list[Result]]:
    """Results by action. The order turns, so that nobody always comes first or after the same neighbour; a first
    round (number -1) warms up and does not count. ``prepare`` gets the number of each round before it begins."""
    results: list[list[Result]] = [[] for _ in actions]
    for repeat in range(-1, repeats):
        prepare(repeat)
        order = list(range(len(actions)))[:: 1 if repeat % 2 else -1]
        start = (repeat // 2) % len(actions)
        for index in order[start:] + order[:start]:
            result = actions[index]()
            if repeat >= 0:
                results[index].append(result)
    return results


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one measurement: wall, CPU of the receiver, CPU of the sender."""

    wall: float
    receiver_cpu: float = 0.0
    sender_cpu: float = 0.0


def timed(commands: Sequence[Sequence[str]], *, prompt: bool, timeout_seconds: float = 180.0) -> Sample:
    """Run commands at once and wait for all.

    Parameters
    ----------
    prompt : bool
        Sets TCP_NODELAY=1, which DCMTK reads; without it DCMTK has Nagle's algorithm on, its default.

    Raises
    ------
    BenchmarkFailed
        One of them failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    running = [
        subprocess.Popen(
            command, env=environment(prompt=prompt), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT
        )
        for command in commands
    ]
    said = [process.communicate(timeout=timeout_seconds)[1] for process in running]
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if any(process.returncode for process in running):
        raise BenchmarkFailed(f"{commands[0][0]} failed: {b''.join(said).decode(errors='replace')[-500:]}")
    return Sample(wall, sender_cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def in_child(*words: object) -> Any:
    """Run a function of :mod:`tests.bench.child` in a process of its own and return what it measured."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.child", *map(str, words)],
        cwd=ROOT,
        env=environment(prompt=False),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        raise BenchmarkFailed(f"{words[0]} failed: {done.stderr[-1500:]}")
    return json.loads(done.stdout)


def environment(*, prompt: bool) -> dict[str, str]:
    """Environment of a child, with DCMTK's switch set or surely not set."""
    kept = {name: value for name, value in os.environ.items() if name not in ("TCP_NODELAY", "PYTHONSAFEPATH")}
    return {**kept, "TCP_NODELAY": "1"} if prompt else kept
