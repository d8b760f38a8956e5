"""Files of the outbox: finished objects on their way from a job's folder to being frozen."""

from __future__ import annotations

import hashlib
from pathlib import Path

from node.archive.placing import NAME_DIGITS, Folders, as_spool_error, link_into_place, sync_file
from node.archive.spool import study_folder
from node.errors import SpoolDamaged
from node.jobs.specification import WrittenObject


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
    outbox.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        wanted = f"{study_folder(study_uid)}/{name}"
        if not written.path.exists() and file_digest(outbox / wanted) == written.digest:
            return written.model_copy(update={"path": Path(wanted)})
        if file_digest(written.path) != written.digest:
            raise SpoolDamaged(f"the {written.role} object is not what was written", sop=written.sop_instance_uid)
        written.path.chmod(0o440)
        sync_file(written.path)
        relative = link_into_place(
            written.path,
            Folders(outbox),
            wanted,
            same=lambda path: file_digest(path) == written.digest,
            intact=lambda path: file_digest(path)[:NAME_DIGITS] == written.digest[:NAME_DIGITS],
        )
        written.path.unlink()
    except FileNotFoundError as error:
        raise SpoolDamaged(f"the file of the {written.role} object is gone", sop=written.sop_instance_uid) from error
    except OSError as error:
        raise as_spool_error(error) from error
    return written.model_copy(update={"path": Path(relative)})


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a whole file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
