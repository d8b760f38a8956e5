"""Copies of the database, with lists of the files that belong to it; and putting them back.

The spool is the truth and the index is derived, so that an older copy is made whole again by a rescan: what was received
since is found by its files, runs again, and gives the same objects with the same UIDs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from node.archive import postgresql_dump, tables
from node.archive.engine import Dialect, store_url
from node.errors import BackupUnusable, StoreSchemaMismatch
from node.folder_lock import nobody_else
from node.settings import Settings

MANIFEST = "backup.json"
FORMAT = 1
DATABASE = "node.db"
DUMP = "node.pgdump"
IDENTITY = "identity.json"
SECRET = "secret.key"
_TREES = ("spool", "outbox")
_CHUNK = 1 << 20


@dataclass
class Backup:
    """What stands in ``backup.json``.

    Attributes
    ----------
    created_at : float
        When the copy of the database was begun, seconds since the epoch.
    version, revision : str
        Of the program and of the schema.
    dialect : str
        Kind of database.
    files : dict
        Name in the folder → SHA-256.
    trees : dict
        ``spool`` and ``outbox`` → number and bytes of the files; their names stand in ``spool.txt`` and ``outbox.txt``.
    """

    created_at: float
    version: str
    revision: str
    dialect: str
    files: dict[str, str] = field(default_factory=dict)
    trees: dict[str, dict[str, int]] = field(default_factory=dict)
    format: int = FORMAT


@dataclass
class Restored:
    """What a restore found: the copy, and how many files of its lists are not here any more."""

    backup: Backup
    missing: dict[str, int]


def back_up(settings: Settings, folder: Path, *, files: bool = False, secrets: bool = False) -> Backup:
    """Copy the database as it is at one moment, while the node runs, into a new folder.

    Parameters
    ----------
    files : bool
        Copy received files and results too, by hard links where the folder is on the same file system.
    secrets : bool
        Copy the configuration's whole folder with its keys and passcodes, and the node's secret. Else node.toml and
        routing.toml alone, without a password in ``store.url``.

    Raises
    ------
    BackupUnusable
        The folder exists, there is no database, or the database's own tool failed. Nothing is left behind.
    """
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        raise BackupUnusable(f"{folder} exists; name a new folder") from error
    except OSError as error:
        raise BackupUnusable(f"{folder} cannot be made ({error.strerror})") from error
    try:
        return _fill(settings, folder, files=files, secrets=secrets)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def put_back(settings: Settings, folder: Path) -> Restored:
    """Put a copy back in the place of the database, with the node stopped. What was there is kept beside it.

    Raises
    ------
    BackupUnusable
        It is damaged, or of another kind of database. Nothing was changed.
    StoreSchemaMismatch
        A newer version made it.
    ConfigError
        A process of the node is running.
    """
    backup = examine(settings, folder)
    with nobody_else(settings.data_dir):
        if backup.dialect == Dialect.SQLITE:
            _put_back_sqlite(settings, folder)
        else:
            postgresql_dump.restore(store_url(settings), folder / DUMP, settings.data_dir / f"{DUMP}.before-restore")
        for name in (IDENTITY, SECRET):
            if (folder / name).exists():
                _copy(folder / name, settings.data_dir / name)
        for tree in _TREES:
            _link_tree(folder / tree, settings.data_dir / tree)
    return Restored(backup, {tree: _count_missing(settings, folder, tree) for tree in _TREES})


def examine(settings: Settings, folder: Path) -> Backup:
    """Read a copy's list and hold every file against it; errors as :func:`put_back`."""
    from node.archive import migration

    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise BackupUnusable(f"{folder}: format {content['format']} is not known to this version")
        backup = Backup(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupUnusable(f"{folder} holds no copy made by `ainode db backup`") from error
    for name, digest in backup.files.items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise BackupUnusable(f"the copy is damaged: {name} is not what was written")
    if backup.dialect != _dialect(settings):
        raise BackupUnusable(f"the copy is of {backup.dialect}, store.url names another kind of database")
    if not migration.known(backup.revision):
        raise StoreSchemaMismatch(
            f"the copy has revision {backup.revision} of version {backup.version}, which this version does not know; "
            "install that version or a later one",
            needed=tables.REVISION,
        )
    return backup


def _fill(settings: Settings, folder: Path, *, files: bool, secrets: bool) -> Backup:
    url = store_url(settings)
    dialect = _dialect(settings)
    created_at = time.time()
    if dialect is Dialect.SQLITE:
        revision = _copy_sqlite(Path(str(url.database)), folder / DATABASE)
    else:
        revision = postgresql_dump.dump(url, folder / DUMP)
    backup = Backup(created_at, metadata.version("ainode"), revision, str(dialect))
    for name in (IDENTITY, SECRET) if secrets else (IDENTITY,):
        if (settings.data_dir / name).exists():
            _copy(settings.data_dir / name, folder / name)
    if settings.source is not None:
        _copy_configuration(settings.source, folder / "config", secrets=secrets)
    # After the database: what its rows name is listed, unless it was removed meanwhile.
    for tree in _TREES:
        if files:
            _link_tree(settings.data_dir / tree, folder / tree)
        backup.trees[tree] = _list_tree((folder if files else settings.data_dir) / tree, folder / f"{tree}.txt")
    top = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] not in _TREES]
    backup.files = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(top)}
    _write(folder / MANIFEST, json.dumps(asdict(backup), indent=2) + "\n")
    return backup


def _dialect(settings: Settings) -> Dialect:
    return Dialect.SQLITE if store_url(settings).get_backend_name() == Dialect.SQLITE else Dialect.POSTGRESQL


def _copy_sqlite(source: Path, target: Path) -> str:
    """SQLite's online backup: one consistent state, while others write. Returns the revision."""
    if not source.exists():
        raise BackupUnusable(f"there is no database {source}")
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
        # One file, readable from a read-only medium.
        copy.execute("PRAGMA journal_mode=DELETE")
        (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise BackupUnusable(f"the database is damaged: {verdict}")
        (revision,) = copy.execute("SELECT version_num FROM alembic_version").fetchone()
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    return str(revision)


def _put_back_sqlite(settings: Settings, folder: Path) -> None:
    target = Path(str(store_url(settings).database))
    part = target.with_name(f"{target.name}.part")
    _copy(folder / DATABASE, part)
    for suffix in ("", "-wal", "-shm"):
        old = target.with_name(target.name + suffix)
        if old.exists():
            old.replace(old.with_name(f"{old.name}.before-restore"))
    part.replace(target)


def _copy_configuration(source: Path, folder: Path, *, secrets: bool) -> None:
    if secrets:
        shutil.copytree(source.parent, folder, ignore_dangling_symlinks=True)
        return
    folder.mkdir(mode=0o700)
    for path in (source, source.with_name("routing.toml")):
        if path.exists():
            _write(folder / path.name, without_password(path.read_text(encoding="utf-8")))


def without_password(text: str) -> str:
    """A configuration without the only secret that may stand in it: the password of ``store.url``."""
    return re.sub(r'(?m)^(\s*url\s*=\s*["\'][a-z+0-9]+://[^:/@"\']*):[^@"\']*@', r"\1:REMOVED@", text)


def _link_tree(source: Path, target: Path) -> None:
    """Bring every file of a tree over that is not there yet. Files of the spool and of the outbox never change."""
    for path in _files(source):
        wanted = target / path.relative_to(source)
        if wanted.exists():
            continue
        wanted.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.link(path, wanted)
        except FileNotFoundError:
            continue  # removed since it was listed
        except OSError:
            _copy(path, wanted)


def _list_tree(folder: Path, target: Path) -> dict[str, int]:
    count = size = 0
    with target.open("w", encoding="utf-8") as listed:
        for path in _files(folder):
            try:
                each = path.stat().st_size
            except FileNotFoundError:
                continue
            listed.write(f"{path.relative_to(folder).as_posix()}\t{each}\n")
            count, size = count + 1, size + each
    return {"files": count, "bytes": size}


def _count_missing(settings: Settings, folder: Path, tree: str) -> int:
    names = (folder / f"{tree}.txt").read_text(encoding="utf-8").splitlines()
    return sum(not (settings.data_dir / tree / name.partition("\t")[0]).exists() for name in names)


def _files(folder: Path) -> Iterator[Path]:
    """Finished files: what is still being received lies in ``incoming``."""
    for path in sorted(folder.glob("*/*/*")) if folder.is_dir() else ():
        if path.is_file() and path.suffix != ".part":
            yield path


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _write(path: Path, content: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
