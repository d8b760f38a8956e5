"""Anonymous copies of a study's results, and of its images where they are wanted, as files."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.anonymous.anonymiser import Anonymiser, encoded
from dicom_sr.errors import AnonymisationRefused
from dicom_sr.write import WrittenFile

IMAGE_ROLE = "image"


@dataclass(slots=True)
class AnonymousExport:
    """What can be exported, and why the rest cannot.

    Attributes
    ----------
    files : list of WrittenFile
        Synced.
    left_out : Counter
        Reason with its code → how many objects.
    """

    files: list[WrittenFile] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def export_anonymous(anonymiser: Anonymiser, files: Iterable[tuple[str, Path]], folder: Path) -> AnonymousExport:
    """Write anonymous copies.

    Parameters
    ----------
    files : iterable of (str, Path)
        Role and Part 10 file of each object.
    folder : Path
        Existing. Copies are named after their own, new UIDs.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full.
    """
    export = AnonymousExport()
    for role, path in files:
        try:
            dataset = anonymiser.anonymise_in_place(dcmread(path))
        except AnonymisationRefused as error:
            export.left_out[str(error)] += 1
            continue
        export.files.append(_write(dataset, role, folder))
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return export


def _write(dataset: Dataset, role: str, folder: Path) -> WrittenFile:
    content = encoded(dataset)
    path = folder / f"{role}-{dataset.SOPInstanceUID}.dcm"
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return WrittenFile(
        role=role,
        path=path,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        digest=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )
