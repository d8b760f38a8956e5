"""Stored typed results as files of the outbox, recorded with their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from models.errors import StoredResultDamaged
from models.stored_result import StoredResult, dump, load
from node.jobs.specification import StoredFile


def write_stored(stored: StoredResult, folder: Path) -> StoredFile:
    """Write a typed result into a folder."""
    content = dump(stored)
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"result-{digest[:16]}.zip"
    path.write_bytes(content)
    return StoredFile(path=path, digest=digest, size=len(content))


def read_stored(file: StoredFile) -> StoredResult:
    """Read a stored result, if it still has the bytes that were recorded.

    Raises
    ------
    StoredResultDamaged
        It is missing or differs from its digest.
    """
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise StoredResultDamaged(f"the stored result cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != file.digest:
        raise StoredResultDamaged("the stored result differs from its digest")
    return load(content)
