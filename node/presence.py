"""Which processes of a node run where no supervisor started them: each holds a locked file of its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from node.errors import ConfigError
from node.status import run_folder

_FOLDER = "present"
NAME_VARIABLE = "AINODE_PROCESS"
"""Names one of several processes of a kind, as ``dispatcher-2``."""


@contextmanager
def present(data_dir: Path, name: str) -> Iterator[None]:
    """Say for the length of a block that this process runs. The kernel takes the lock back, however the process ends."""
    folder = run_folder(data_dir) / _FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _own_file(folder, os.environ.get(NAME_VARIABLE) or name) as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
        # A process that stops as asked is not missed. The file stays: a successor may have it open already.
        file.truncate(0)


def processes(data_dir: Path) -> list[dict[str, Any]]:
    """Every process that said so and did not take its leave; a dead one has ``running`` false.

    Returns
    -------
    list of dict
        Keys as those of the supervisor's report (`node.report.node_report`); whoever restarts them counts restarts.
    """
    folder = run_folder(data_dir) / _FOLDER
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [found for file in files if (found := _look(file)) is not None]


def _own_file(folder: Path, name: str) -> IO[str]:
    """A file that nobody else has locked; of two processes with one name the second gets its number added."""
    for candidate in (name, f"{name}-{os.getpid()}"):
        file = (folder / candidate).open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        return file
    raise ConfigError(f"{folder / name}: two processes have this name; give each its own {NAME_VARIABLE}")


def _look(path: Path) -> dict[str, Any] | None:
    with path.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            running = False
        except BlockingIOError:
            running = True
        pid = file.read()
    if not running and not pid:
        return None
    return {
        "name": path.name,
        "pid": int(pid) if running and pid.isdigit() else None,
        "running": running,
        "ready": running,
        "says": "",
        "restarts": 0,
        "last_ending": "",
    }
