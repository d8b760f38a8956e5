"""Rendered objects as files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_sr.rendering import RenderedObject


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """An object on disk; ``digest`` is the SHA-256 (hex) of the whole file, ``size`` its length in bytes."""

    role: str
    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    transfer_syntax_uid: str
    digest: str
    size: int


def write_objects(objects: Sequence[RenderedObject], folder: Path) -> list[WrittenFile]:
    """Write each object as ``<role>-<SOP Instance UID>.dcm`` and make files and directory durable.

    Parameters
    ----------
    folder : Path
        Existing folder. A file of the same name is replaced: the same work gives the same bytes.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full.
    """
    written = [_write(rendered, folder) for rendered in objects]
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return written


def _write(rendered: RenderedObject, folder: Path) -> WrittenFile:
    content, dataset = rendered.encoded, rendered.dataset
    path = folder / f"{rendered.role}-{dataset.SOPInstanceUID}.dcm"
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return WrittenFile(
        role=rendered.role,
        path=path,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        digest=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )
