"""Files of the outbox: finished objects on their way from a job's folder to being frozen."""

from __future__ import annotations

import hashlib
from pathlib import Path

from node.archive.placing import NAME_DIGITS, Folders, as_spool_error, link_into_place, sync_file
from node.archive.spool import study_folder
from node.errors import SpoolDamaged
from node.jobs.specification import StoredFile, WrittenObject


def place(outbox: Path, written: WrittenObject, *, study_uid: str) -> WrittenObject:
    """Move an object's file into the outbox and return it with its path relative to the outbox.

    The file loses its name in the job's folder, so that nothing that happens there reaches frozen bytes. Placing the
    same object again gives the same path; so a dispatcher killed between this and ``outbox.freeze`` leaves a file that
    the next attempt uses.

    Parameters
    ----------
    outbox : Path
        Made where it is missing; on the same file system as ``written.path``.
    written : WrittenObject
        With the absolute path of its file.

    Raises
    ------
    SpoolDamaged
        The file is missing or is not what its digest says.
    SpoolFull
        The disk is full.
    """
    name = f"{written.sop_instance_uid}-{written.digest[:NAME_DIGITS]}.dcm"
    try:
        relative = _place(outbox, written.path, written.digest, f"{study_folder(study_uid)}/{name}")
    except (FileNotFoundError, ValueError) as error:
        what = "gone" if isinstance(error, FileNotFoundError) else "not what was written"
        raise SpoolDamaged(f"the file of the {written.role} object is {what}", sop=written.sop_instance_uid) from error
    except OSError as error:
        raise as_spool_error(error) from error
    return written.model_copy(update={"path": relative})


def place_result(outbox: Path, stored: StoredFile, *, study_uid: str) -> StoredFile:
    """Move a stored typed result into the outbox, beside the objects made from it; as :func:`place`.

    Raises
    ------
    SpoolDamaged
        The file is missing or is not what its digest says.
    SpoolFull
        The disk is full.
    """
    wanted = f"{study_folder(study_uid)}/result-{stored.digest[:NAME_DIGITS]}.zip"
    try:
        relative = _place(outbox, stored.path, stored.digest, wanted)
    except (FileNotFoundError, ValueError) as error:
        raise SpoolDamaged("the file of a stored result is gone, or not what was written") from error
    except OSError as error:
        raise as_spool_error(error) from error
    return stored.model_copy(update={"path": relative})


def _place(outbox: Path, source: Path, digest: str, wanted: str) -> Path:
    """Raise ValueError where the file differs from its digest."""
    outbox.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not source.exists() and file_digest(outbox / wanted) == digest:
        return Path(wanted)
    if file_digest(source) != digest:
        raise ValueError("the file differs from its digest")
    source.chmod(0o440)
    sync_file(source)
    relative = link_into_place(
        source,
        Folders(outbox),
        wanted,
        same=lambda path: file_digest(path) == digest,
        intact=lambda path: file_digest(path)[:NAME_DIGITS] == digest[:NAME_DIGITS],
    )
    source.unlink()
    return Path(relative)


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a whole file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
