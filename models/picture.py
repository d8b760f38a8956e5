"""A slice as a picture for a model that takes ordinary images: 8 bit grey, PNG without any metadata."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LOW, _HIGH = 16, 232


def grey_picture(plane: npt.NDArray[Any], longest_side: int) -> npt.NDArray[np.uint8]:
    """Grey levels of one slice.

    From the 1st to the 99th percentile the scale is linear; what lies beyond is pressed together and not cut off, so that
    nothing of the patient becomes a flat area that would look drawn, and what was drawn into the image stays flat.

    Parameters
    ----------
    plane : numpy.ndarray
        Rows × columns, any number type.
    longest_side : int
        A larger slice is averaged over squares of whole pixels until it fits.
    """
    values = np.nan_to_num(plane.astype(np.float64))
    factor = -(-max(values.shape) // longest_side)
    if factor > 1:
        rows, columns = (size // factor * factor for size in values.shape)
        values = values[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor).mean((1, 3))
    low, high = np.percentile(values, [1, 99])
    if high <= low:
        low, high = float(values.min()), float(values.max()) or 1.0
    place = (values - low) / max(high - low, 1e-9)
    below, above = np.clip(-place, 0, None), np.clip(place - 1, 0, None)
    grey = _LOW + (_HIGH - _LOW) * np.clip(place, 0, 1)
    grey += (255 - _HIGH) * (1 - np.exp(-2 * above)) - _LOW * (1 - np.exp(-8 * below))
    return np.round(grey).astype(np.uint8)


def write_png(grey: npt.NDArray[np.uint8]) -> bytes:
    """PNG (ISO/IEC 15948) of rows × columns uint8: header, pixels, end, and nothing else. The same pixels, the same bytes."""
    rows, columns = grey.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    lines = np.zeros((rows, columns + 1), np.uint8)
    lines[:, 1:] = grey
    body = zlib.compress(lines.tobytes(), 6)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def read_png(content: bytes) -> npt.NDArray[np.uint8]:
    """Pixels of what :func:`write_png` wrote.

    Raises
    ------
    ValueError
        The bytes are anything else: another chunk, another kind of PNG, anything before or after.
    """
    if content[:8] != _SIGNATURE or len(content) < 45:
        raise ValueError("not a PNG")
    columns, rows, *kind = struct.unpack(">IIBBBBB", content[16:29])
    if kind != [8, 0, 0, 0, 0] or not 0 < rows * columns <= 1 << 26:
        raise ValueError("not an 8 bit grey PNG")
    try:
        unpacked = zlib.decompressobj().decompress(content[41:-16], rows * (columns + 1))
    except zlib.error as error:
        raise ValueError("no pixels can be unpacked") from error
    if len(unpacked) != rows * (columns + 1):
        raise ValueError("not as many pixels as announced")
    grey = np.frombuffer(unpacked, np.uint8).reshape(rows, columns + 1)[:, 1:].copy()
    if write_png(grey) != content:
        raise ValueError("holds more than pixels")
    return grey


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
