"""Label masks in NIfTI-1 files, read with bounds: the file is somebody else's.

Format: https://nifti.nimh.nih.gov/nifti-1 (``nifti1.h``). One file (``n+1``), three axes, millimetres.
"""

from __future__ import annotations

import struct
import zlib
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.program_errors import OutputUnusable

_HEADER = 348
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_MILLIMETRES = (0, 2)
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_labels(content: bytes, maximum_bytes: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Labels of a file and their place.

    Parameters
    ----------
    content : bytes
        The file; may be compressed by gzip.
    maximum_bytes : int
        What it may hold when unpacked.

    Returns
    -------
    mask_zyx : numpy.ndarray
        uint8.
    affine_lps : numpy.ndarray
        4×4 float64, of (column, row, slice, 1).

    Raises
    ------
    OutputUnusable
    """
    data = _unpacked(content, maximum_bytes) if content[:2] == b"\x1f\x8b" else content
    if len(data) < _HEADER + 4 or data[344:348] != b"n+1\0":
        raise OutputUnusable("the mask is no NIfTI-1 file")
    order: Literal["<", ">"] = "<" if struct.unpack_from("<i", data)[0] == _HEADER else ">"
    dimensions = struct.unpack_from(f"{order}8h", data, 40)
    if (
        not 3 <= dimensions[0] <= 7
        or min(dimensions[1:4]) < 1
        or any(each > 1 for each in dimensions[4 : dimensions[0] + 1])
    ):
        raise OutputUnusable("the NIfTI file does not hold one volume")
    kind = _TYPES.get(struct.unpack_from(f"{order}h", data, 70)[0])
    if kind is None:
        raise OutputUnusable("the NIfTI file does not hold numbers")
    count, start = int(np.prod(dimensions[1:4], dtype=np.int64)), struct.unpack_from(f"{order}f", data, 108)[0]
    if not _HEADER <= start <= len(data) or start + count * np.dtype(kind).itemsize > len(data):
        raise OutputUnusable("the NIfTI file is cut short")
    values = np.frombuffer(data, np.dtype(kind).newbyteorder(order), count, int(start)).astype(np.float64)
    slope, intercept = struct.unpack_from(f"{order}2f", data, 112)
    if slope:
        values = values * slope + intercept
    if not ((values >= 0) & (values <= 255) & (values == np.rint(values))).all():
        raise OutputUnusable("the NIfTI file holds other values than labels 0 to 255")
    return values.astype(np.uint8).reshape(dimensions[3:0:-1]), _RAS_TO_LPS @ _affine(data, order)


def _unpacked(content: bytes, maximum_bytes: int) -> bytes:
    try:
        unpacker = zlib.decompressobj(wbits=31)
        data = unpacker.decompress(content, maximum_bytes)
    except zlib.error as error:
        raise OutputUnusable("the mask is no whole gzip file") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise OutputUnusable("the mask is cut short, or larger than may be when unpacked")
    return data


def _affine(data: bytes, order: str) -> npt.NDArray[np.float64]:
    """(i, j, k, 1) → mm, RAS: the s-form where there is one, else the q-form; without both a mask has no place."""
    if data[123] & 7 not in _MILLIMETRES:
        raise OutputUnusable("the NIfTI file does not count in millimetres")
    by_quaternion, by_matrix = struct.unpack_from(f"{order}2h", data, 252)
    affine = np.eye(4)
    if by_matrix > 0:
        affine[:3] = np.array(struct.unpack_from(f"{order}12f", data, 280)).reshape(3, 4)
        return affine
    if by_quaternion <= 0:
        raise OutputUnusable("the NIfTI file says nothing of its place in the patient")
    b, c, d, *offset = struct.unpack_from(f"{order}6f", data, 256)
    sign, *sizes = struct.unpack_from(f"{order}4f", data, 76)
    a = float(np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine[:3, :3] = rotation * np.array([sizes[0], sizes[1], sizes[2] * (-1.0 if sign < 0 else 1.0)])
    affine[:3, 3] = offset
    return affine
