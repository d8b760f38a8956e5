"""Asking a running node how it is, over a Unix socket, with the standard library alone."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node.errors import NodeNotRunning

SOCKET_NAME = "status.sock"
SUMMARY_NAME = "summary.json"
_TIMEOUT_SECONDS = 5.0


def run_folder(data_dir: Path) -> Path:
    """Folder of sockets and locks."""
    return data_dir / "run"


def ask(data_dir: Path) -> dict[str, Any]:
    """Ask the node of a data folder.

    Returns
    -------
    dict
        See `node.supervisor.Supervisor.report`.

    Raises
    ------
    NodeNotRunning
        Nobody answers.
    """
    try:
        with _short(run_folder(data_dir)) as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_TIMEOUT_SECONDS)
            client.connect(f"{folder}/{SOCKET_NAME}")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        report = json.loads(answer)
    except (OSError, ValueError) as error:
        raise NodeNotRunning(f"no node answers in {data_dir}") from error
    return dict(report)


class StatusServer:
    """Answers every connection with one JSON document and closes it.

    Parameters
    ----------
    data_dir : Path
        The socket is ``data_dir/run/status.sock``; a leftover one is replaced (the supervisor holds the lock).
    report : callable
        Makes the document; called in this server's thread.
    """

    def __init__(self, data_dir: Path, report: Callable[[], dict[str, Any]]) -> None:
        self._path = run_folder(data_dir) / SOCKET_NAME
        self._report = report
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)

    def start(self) -> None:
        """Bind and answer in a thread of its own."""
        self._path.unlink(missing_ok=True)
        with _short(self._path.parent) as folder:
            self._socket.bind(f"{folder}/{SOCKET_NAME}")
        self._path.chmod(0o600)
        self._socket.listen(8)
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._path.unlink(missing_ok=True)
        # A thread in accept() is not woken by close() alone.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # never listened
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(_TIMEOUT_SECONDS)
                try:
                    connection.sendall(json.dumps(self._report(), ensure_ascii=False).encode("utf-8"))
                except OSError:
                    continue  # whoever asked did not wait


def publish(data_dir: Path, summary: dict[str, Any]) -> None:
    """Leave a summary for the supervisor's answer; a reader sees the old or the new one, never half of one."""
    path = run_folder(data_dir) / SUMMARY_NAME
    part = path.with_suffix(".part")
    part.write_text(json.dumps(summary, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


def published(data_dir: Path) -> dict[str, Any]:
    """The summary last published, empty when there is none."""
    try:
        return dict(json.loads((run_folder(data_dir) / SUMMARY_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Yield a short name of a folder: addresses of Unix sockets have only 107 bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}" if Path("/proc/self/fd").is_dir() else str(folder)
    finally:
        os.close(descriptor)
