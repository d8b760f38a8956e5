"""Who may use a data folder: one supervisor, any number of processes beside it, nobody while a backup is put back."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from node.errors import ConfigError
from node.status import run_folder

_SUPERVISOR = "supervisor.lock"
_PROCESSES = "processes.lock"


@contextmanager
def only_supervisor(data_dir: Path) -> Iterator[None]:
    """Hold the lock of a data folder.

    Raises
    ------
    ConfigError
        Another node is running in it, or it cannot be written to.
    """
    with _locked(data_dir, _SUPERVISOR, fcntl.LOCK_EX):
        yield


@contextmanager
def one_process(data_dir: Path) -> Iterator[None]:
    """Be one of the processes that use a data folder without a supervisor, as units of their own.

    Raises
    ------
    ConfigError
        A backup is being put back into it, or it cannot be written to.
    """
    with _locked(data_dir, _PROCESSES, fcntl.LOCK_SH):
        yield


@contextmanager
def nobody_else(data_dir: Path) -> Iterator[None]:
    """Keep every process of the node out.

    Raises
    ------
    ConfigError
        One is running, or the folder cannot be written to.
    """
    with _locked(data_dir, _SUPERVISOR, fcntl.LOCK_EX), _locked(data_dir, _PROCESSES, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(data_dir: Path, name: str, kind: int) -> Iterator[IO[str]]:
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        run_folder(data_dir).mkdir(exist_ok=True, mode=0o700)
        lock_file = (run_folder(data_dir) / name).open("w")
    except OSError as error:
        raise ConfigError(
            f"node.data_dir: {data_dir} cannot be written to ({error.strerror}); correct the path or its permissions"
        ) from error
    with lock_file as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"node.data_dir: a node is running in {data_dir}; stop it, or choose another") from error
        yield lock
