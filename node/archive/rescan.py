"""Rebuilds the index from the files in the spool, which are the truth.

It goes study by study, because that is what the index finds rows by: what is known costs the listing of its folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sqlalchemy import select

from node.archive.engine import Store
from node.archive.headers import InstanceHeader, read_header
from node.archive.instance_index import record_instance, study_paths
from node.archive.part10 import FileMeta, read_file_meta
from node.archive.placing import NAME_DIGITS
from node.archive.spool import Spool, dataset_digest, study_folder
from node.archive.tables import instances
from node.errors import ObjectRejected, SpoolDamaged, SpoolError
from node.own_equipment import Origin, OwnEquipment

_BATCH = 50


@dataclass(slots=True)
class RescanReport:
    """What a rescan found.

    Attributes
    ----------
    seen : int
        Files in the spool.
    indexed : int
        Files that the index did not know and now does.
    damaged : list of str
        Relative paths of files that are not what their name promises; left alone, not indexed.
    unsynced : list of str
        Relative paths of files that the disk did not take when asked to; not indexed.
    missing : list of str
        Relative paths that the index names and the spool has not.
    """

    seen: int = 0
    indexed: int = 0
    damaged: list[str] = field(default_factory=list)
    unsynced: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    at: float
    size: int
    digest: str
    meta: FileMeta
    header: InstanceHeader


def rescan(
    store: Store,
    spool: Spool,
    *,
    outbox: Path | None = None,
    own: OwnEquipment | None = None,
    before: float | None = None,
    look_for_missing: bool = True,
) -> RescanReport:
    """Index every file that the index does not know; safe while the node runs, and to run again.

    Sender and receiver come from the file meta information, the time of arrival from the file's time. What was an
    association is not known any more. A file between its link and its index entry may be entered here first; the
    receiver then finds a duplicate.

    Parameters
    ----------
    outbox : Path or None
        Folder of frozen results. What an archive sent back of them is known by it, though the database that knew them is
        lost: else a node's own results would count as images that came late.
    own : OwnEquipment or None
        The node as a device: what names it was made by it, or from something it made.
    before : float or None
        Only files last written before this time, in seconds since the epoch: what a process left that died then.
    look_for_missing : bool
        Also whether every file is there that the index names.

    Raises
    ------
    StoreUnavailable
        What was entered before stays entered.
    """
    report = RescanReport()
    made_here = _made_here(outbox)
    for study in spool.studies():
        names = spool.names(study)
        report.seen += len(names)
        with store.read() as connection:
            known = study_paths(connection, Path(study).name)
        unknown = spool.by_age([f"{study}/{name}" for name in names if f"{study}/{name}" not in known])
        for batch in _batches(unknown):
            found = _synced(spool, list(_read(spool, batch, before, report)), report)
            if found:
                _enter(store, found, made_here, own)
            report.indexed += len(found)
    if look_for_missing:
        report.missing = list(_missing(store, spool))
    return report


def _enter(store: Store, found: Sequence[_Found], made_here: frozenset[str], own: OwnEquipment | None) -> None:
    with store.write() as connection:
        for file in found:
            origin = own.origin(file.header) if own else Origin()
            record_instance(
                connection,
                file.at,
                header=file.header,
                path=file.path,
                digest=file.digest,
                size=file.size,
                association_id=None,
                calling_ae_title=file.meta.sending_ae_title,
                called_ae_title=file.meta.receiving_ae_title,
                made_here=file.header.sop_instance_uid in made_here or origin.made_here,
                derived=origin.derived,
            )


def _synced(spool: Spool, found: list[_Found], report: RescanReport) -> list[_Found]:
    """Those that are on the disk: whoever received them may have died before it saw to that."""
    if not found:
        return []
    try:
        spool.sync([file.path for file in found])
    except (OSError, SpoolError):
        if len(found) == 1:
            report.unsynced.append(found[0].path)
            return []
        return [one for each in found for one in _synced(spool, [each], report)]
    return found


def _made_here(outbox: Path | None) -> frozenset[str]:
    """SOP Instance UIDs of frozen results; a file's name is ``<sop uid>-<digest>.dcm``."""
    if outbox is None:
        return frozenset()
    return frozenset(file.name.rpartition("-")[0] for file in outbox.glob("*/*/*.dcm"))


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(paths)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _read(spool: Spool, paths: list[str], before: float | None, report: RescanReport) -> Iterator[_Found]:
    for relative in paths:
        path = spool.absolute(relative)
        try:
            state = path.stat()
            if before is not None and state.st_mtime >= before:
                continue
            found = _Found(
                path=relative,
                at=state.st_mtime,
                size=state.st_size,
                digest=dataset_digest(path),
                meta=read_file_meta(path),
                header=read_header(path),
            )
            whole = _is_what_its_name_says(found)
        except FileNotFoundError:  # removed since it was listed
            continue
        except (SpoolDamaged, ObjectRejected):
            whole = False
        if whole:
            yield found
        else:
            report.damaged.append(relative)


def _is_what_its_name_says(found: _Found) -> bool:
    folder, name = str(Path(found.path).parent), Path(found.path).name
    promised = f"{found.header.sop_instance_uid}-{found.digest[:NAME_DIGITS]}"
    return folder == study_folder(found.header.study_uid) and name.startswith(promised)


def _missing(store: Store, spool: Spool) -> Iterator[str]:
    last = 0
    while True:
        with store.read() as connection:
            rows = connection.execute(
                select(instances.c.id, instances.c.path)
                .where(instances.c.id > last)
                .order_by(instances.c.id)
                .limit(1000)
            ).all()
        if not rows:
            return
        yield from (row.path for row in rows if not spool.absolute(row.path).exists())
        last = rows[-1].id
