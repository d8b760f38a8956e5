"""Whether the node is ready for work, and why not. Nothing in a reason is of a patient."""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from pathlib import Path

from sqlalchemy import select, update

from models.errors import NodeError
from node.archive.engine import Store
from node.archive.tables import instances, ledger_head
from node.errors import ProcessSilent, SpoolDamaged, SpoolFull
from node.expected import expected_processes
from node.pulse import beats
from node.settings import Settings

STALE_SECONDS = 10.0
"""A beat older than this is no sign of life."""

_VITAL = frozenset({"receiver", "scheduler", "dispatcher", "dispatcher-stat", "sender"})
_CONNECT_SECONDS = 2.0
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def problems(settings: Settings, store: Store) -> list[str]:
    """Everything that keeps the node from its work; empty where it is ready."""
    found = [database_problem(store), *_spool(settings, store), *_processes(settings), *_listeners(settings)]
    return [each for each in found if each is not None]


def database_problem(store: Store) -> str | None:
    """Why the database cannot be written to; None where it can. Changes nothing."""
    try:
        with store.write() as connection:
            connection.execute(update(ledger_head).where(ledger_head.c.id == -1).values(sequence=0))
    except NodeError as error:
        return str(error)
    return None


def _spool(settings: Settings, store: Store) -> list[str]:
    spool, reserve = settings.data_dir / "spool", settings.receive.disk_reserve_bytes
    try:
        free = shutil.disk_usage(settings.data_dir).free
    except OSError as error:
        return [f"{SpoolFull.code}: the data folder cannot be looked at ({error.strerror})"]
    found = []
    if free < reserve:
        found.append(f"{SpoolFull.code}: {free} bytes free, the reserve is {reserve}")
    if spool.is_dir() and not os.access(spool, os.W_OK | os.X_OK):
        found.append(f"{SpoolFull.code}: the spool cannot be written to; correct its owner and permissions")
    if _is_missing(spool, store):
        found.append(
            f"{SpoolDamaged.code}: the spool is empty although instances are indexed; is its file system mounted?"
        )
    return found


def _is_missing(spool: Path, store: Store) -> bool:
    """Whether files should be there and not even a folder of any study is."""
    if spool.is_dir() and any(each.is_dir() for each in spool.iterdir()):
        return False
    try:
        with store.read() as connection:
            return connection.execute(select(instances.c.id).limit(1)).first() is not None
    except NodeError:
        return False  # said already


def _processes(settings: Settings) -> list[str]:
    fresh = Counter(beat.process for beat in beats(settings.data_dir) if beat.age_seconds < STALE_SECONDS)
    wanted = Counter(each.process for each in expected_processes(settings) if each.process in _VITAL)
    return [
        f"{ProcessSilent.code}: {process}: {fresh[process]} of {count} give signs of life"
        for process, count in wanted.items()
        if fresh[process] < count
    ]


def _listeners(settings: Settings) -> list[str]:
    found = []
    for host, port in settings.receive_addresses:
        try:
            socket.create_connection((_EVERY_INTERFACE.get(host, host), port), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            found.append(f"nothing listens on {host}:{port} ({error.strerror or type(error).__name__})")
    return found
