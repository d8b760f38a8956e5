"""Copies of a study's images for a program: without identity unless its card says otherwise."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.anonymous.anonymiser import Anonymiser, encoded
from dicom_sr.errors import AnonymisationRefused
from models.program_errors import InputWithheld


@dataclass(frozen=True, slots=True)
class HandedOver:
    """How many images, and the frames of reference they lie in."""

    count: int
    frames_of_reference: frozenset[str]


def hand_over(files: Sequence[Path], folder: Path, *, deidentified: bool, model_digest: str) -> HandedOver:
    """Write copies of ``files`` into ``folder``, named as mercure names them (``SERIES#INSTANCE.dcm``).

    Raises
    ------
    InputWithheld
        One of them cannot be de-identified.
    """
    places = set()
    anonymiser = Anonymiser(_key(files, model_digest)) if deidentified else None
    for path in files:
        if anonymiser is None:
            dataset: Dataset = dcmread(path, stop_before_pixels=True)
        else:
            try:
                dataset = anonymiser.anonymise_in_place(dcmread(path))
            except AnonymisationRefused as error:
                raise InputWithheld(f"an image cannot be de-identified ({error.code})") from error
        target = folder / f"{dataset.SeriesInstanceUID}#{dataset.SOPInstanceUID}.dcm"
        if anonymiser is None:
            shutil.copyfile(path, target)
        else:
            target.write_bytes(encoded(dataset))
        places.add(str(dataset.get("FrameOfReferenceUID", "") or ""))
    return HandedOver(len(files), frozenset(places - {""}))


def _key(files: Sequence[Path], model_digest: str) -> bytes:
    """The same run gives a program the same bytes; what it is made of, a program does not get to see."""
    uids = sorted(str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in files)
    return hashlib.sha256("\0".join(("program input", model_digest, *uids)).encode()).digest()


def series_files(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Series Instance UID → its files, in the order of their SOP Instance UIDs."""
    found: dict[str, dict[str, Path]] = {}
    for path in files:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
        found.setdefault(str(header.SeriesInstanceUID), {})[str(header.SOPInstanceUID)] = path
    return {series: [by_uid[uid] for uid in sorted(by_uid)] for series, by_uid in found.items()}
