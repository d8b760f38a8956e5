"""Files to data sets: each file is read once and parsed once; what is no DICOM is told apart from what is broken."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from dicom_sr.digest import dataset_digest
from dicom_sr.errors import DuplicatePosition, SeriesRejected, Undecodable
from dicom_sr.pixels import READ_ERRORS, PixelElement, take_pixels

_NEEDED = ("SOPClassUID", "Modality", "SeriesNumber", "FrameOfReferenceUID", "Manufacturer", "ImageType")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Instance:
    """One object: header without pixel data, pixel data apart, transfer syntax, canonical digest."""

    header: Dataset
    pixels: PixelElement | None
    transfer_syntax_uid: str
    digest: str
    uid: str
    series_uid: str
    study_uid: str


def expand(paths: Iterable[Path]) -> list[Path]:
    """Files of ``paths`` with folders searched through, in name order; hidden files left out."""
    files: list[Path] = []
    for path in sorted(map(Path, paths)):
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        else:
            files.append(path)
    return files


def read_instances(paths: Sequence[Path]) -> tuple[list[Instance], list[tuple[str, SeriesRejected]]]:
    """Read files in any order; the result is sorted by SOP Instance UID.

    Returns
    -------
    instances : list of Instance
        Files that are no DICOM at all (no SOP Class UID) are left out; identical copies are kept once.
    rejected : list of (series UID, error)
        Files that cannot be read, series that hold two objects with one UID or objects without one.
    """
    found: dict[str, Instance] = {}
    nameless: dict[str, list[Instance]] = {}
    rejected: list[tuple[str, SeriesRejected]] = []
    for path in expand(paths):
        instance = _read(path, rejected)
        if instance is None:
            continue
        if not instance.uid:
            nameless.setdefault(instance.series_uid, []).append(instance)
            continue
        other = found.setdefault(instance.uid, instance)
        if other.digest != instance.digest:
            first, _ = sorted((other, instance), key=lambda i: i.digest)
            found[instance.uid] = first
            clash = DuplicatePosition("two objects share one SOP Instance UID", sop_instance_uids=[instance.uid])
            rejected.append((instance.series_uid, clash))
    for series_uid, instances in sorted(nameless.items()):
        error = Undecodable("objects without SOP Instance UID, which no result could reference", images=len(instances))
        rejected.append((series_uid, error))
    return [found[uid] for uid in sorted(found)], rejected


def find_studies(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by Study Instance UID, reading headers only; files that are no DICOM are left out."""
    studies: dict[str, list[Path]] = {}
    for path in expand(paths):
        try:
            header = dcmread(
                path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SOPClassUID"], force=True
            )
            uid = str(header.get("StudyInstanceUID", ""))
        except (OSError, *READ_ERRORS):
            _LOG.debug("one file has no readable header")
            continue
        if uid:
            studies.setdefault(uid, []).append(path)
    return studies


def _read(path: Path, rejected: list[tuple[str, SeriesRejected]]) -> Instance | None:
    data = path.read_bytes()
    series_uid = ""
    try:
        header = dcmread(io.BytesIO(data), force=True)
        if "SOPClassUID" not in header or "SOPInstanceUID" not in header:
            kind = header.file_meta.get("MediaStorageSOPClassUID")
            if kind is not None and kind != MediaStorageDirectoryStorage:
                rejected.append(("", Undecodable("a DICOM file without SOP Class or Instance UID", bytes=len(data))))
            return None
        # Values are converted when first touched: what everybody needs is touched here, where failing hurts one file.
        series_uid = str(header.get("SeriesInstanceUID", "") or "")
        uid, study_uid = (str(header.get(k, "") or "") for k in ("SOPInstanceUID", "StudyInstanceUID"))
        for keyword in _NEEDED:
            header.get(keyword)
        pixels = take_pixels(header)
        syntax = header.file_meta.get("TransferSyntaxUID")
    except (InvalidDicomError, *READ_ERRORS) as failure:
        fingerprint = hashlib.sha256(data).hexdigest()
        error = Undecodable(f"a file cannot be parsed ({type(failure).__name__})", bytes=len(data), sha256=fingerprint)
        rejected.append((series_uid, error))
        return None
    if syntax is None:
        # Without file meta only the default transfer syntax may be assumed (PS3.5 10.1), if it was what pydicom found.
        syntax = ImplicitVRLittleEndian if header.original_encoding == (True, True) else ""
    return Instance(header, pixels, str(syntax), dataset_digest(data), uid, series_uid, study_uid)
