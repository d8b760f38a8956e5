"""What a program has written, read as data: regular files only, no link followed, nothing forwarded as it is."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread

from models.program_errors import OutputUnusable
from models.programs import ProgramRequest
from node.external.nifti_file import read_labels
from node.external.placing import Placement
from node.external.segmentation_file import SEGMENTATION_CLASSES, read_segmentation

_MEBIBYTE = 1 << 20
_NIFTI = (".nii", ".nii.gz")
_REPORT_BYTES = 4 * _MEBIBYTE


def written_files(folder: Path) -> list[Path]:
    """Every file below ``folder``, sorted.

    Raises
    ------
    OutputUnusable
        There is a link, a second name of another file, a pipe or a device among them.
    """
    found = []
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            about = path.lstat()
            if stat.S_ISDIR(about.st_mode):
                continue
            if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
                raise OutputUnusable("the program left a link, a pipe or a device among its files")
            found.append(path)
    return sorted(found)


def mask_of(
    request: ProgramRequest, files: Collection[Path], frames_of_reference: Collection[str]
) -> npt.NDArray[np.uint8] | None:
    """Labels on the grid of the request; None where there is no mask among the files.

    Raises
    ------
    OutputUnusable
        There are several, or it cannot be read or placed.
    """
    if request.mask == "none":
        return None
    wanted = _is_segmentation if request.mask == "seg" else _is_nifti
    masks = [path for path in files if wanted(path)]
    if len(masks) > 1:
        raise OutputUnusable(f"the program wrote {len(masks)} masks; one is read")
    if not masks:
        return None
    content = _content(masks[0], request.output_mb * _MEBIBYTE)
    if request.mask == "seg":
        return read_segmentation(content, request.grid, frames_of_reference)
    placement = Placement(request.grid)
    placement.add(*read_labels(content, 16 * request.grid.array_zyx.size + 65536))
    return placement.labels_zyx


def report_of(name: str, files: Collection[Path], folder: Path) -> Mapping[str, Any]:
    """Content of the program's JSON file; empty where none is wanted.

    Raises
    ------
    OutputUnusable
        It is missing, or no JSON object.
    """
    if not name:
        return {}
    if (path := folder / name) not in files:
        raise OutputUnusable(f"the program wrote no {name}")
    try:
        content = json.loads(_content(path, _REPORT_BYTES))
    except (ValueError, RecursionError) as error:
        raise OutputUnusable(f"{name} is no JSON") from error
    if not isinstance(content, dict):
        raise OutputUnusable(f"{name} holds no JSON object")
    return content


def _content(path: Path, maximum: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > maximum:
            raise OutputUnusable(f"a file is larger than {maximum} bytes")
        return file.read(maximum)


def _is_nifti(path: Path) -> bool:
    return path.name.endswith(_NIFTI)


def _is_segmentation(path: Path) -> bool:
    """By its content: what programs call their files is their own affair."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return False
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except Exception as error:
        raise OutputUnusable(f"a DICOM file cannot be read ({type(error).__name__})") from error
    kind = str(header.get("SOPClassUID", ""))
    if not kind:
        raise OutputUnusable("a DICOM file cannot be read (it does not say what it is)")
    return kind in SEGMENTATION_CLASSES
