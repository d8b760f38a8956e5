"""WADO-RS frames and bulk data (PS3.18 10.4.1.5, 10.4.1.6): compressed as stored, or native."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from fastapi.responses import Response, StreamingResponse
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from node.web.dicomweb import parts
from node.web.dicomweb.failures import BAD_REQUEST, GONE, NOT_ACCEPTABLE, NOT_FOUND, TOO_LARGE, refuse
from node.web.dicomweb.media_types import FRAME_TYPES, OCTETS, MediaType
from node.web.dicomweb.pixel_source import BIG_ENDIAN, PixelElement, read_stored, readable

_NATIVE = "1.2.840.10008.1.2.1"
_NATIVE_SYNTAXES = frozenset({"1.2.840.10008.1.2", _NATIVE, BIG_ENDIAN})
_MOST_FRAMES = 10_000
_EAGER_BYTES = 64 << 20
_MOST_BYTES = 1 << 30
_LONGEST_PATH = 512
_PATH = re.compile(r"[0-9A-Fa-f]{8}(?:/\d{1,6}/[0-9A-Fa-f]{8})*")


def frames(path: Path, numbers: str, wanted: Sequence[MediaType]) -> Response:
    """Some frames, each a part; one alone as a plain body where a client asks so.

    Parameters
    ----------
    numbers : str
        From 1, with commas between.

    Raises
    ------
    HTTPException
        400: no list of numbers. 404: no such frame, or no pixel data. 406: no type a client takes can be given.
    """
    source = required_pixels(path)
    chosen = frame_numbers(numbers, source.frames)
    return _answer(source, chosen, wanted)


def required_pixels(path: Path) -> PixelElement:
    """Pixel data of a file.

    Raises
    ------
    HTTPException
        404: it has none. 410: its header does not say how they are laid out.
    """
    _, source = read_stored(path)
    if source is None:
        refuse(NOT_FOUND, "the instance has no pixel data")
    with readable():
        if source.bits_of_frame <= 0 or source.frames <= 0:
            raise ValueError
    return source


def frame_numbers(text: str, count: int) -> list[int]:
    """Frame numbers from a path.

    Raises
    ------
    HTTPException
        400: not a list of numbers. 404: one that is not there.
    """
    pieces = text.split(",")
    if len(pieces) > _MOST_FRAMES:
        refuse(BAD_REQUEST, f"more than {_MOST_FRAMES} frames in one request")
    if any(not (piece.isascii() and piece.isdigit() and len(piece) <= 9) for piece in pieces):
        refuse(BAD_REQUEST, "frames are whole numbers from 1 with commas between")
    found = [int(piece) for piece in pieces]
    if len(set(found)) < len(found):
        refuse(BAD_REQUEST, "a frame is named twice")
    if any(not 1 <= number <= count for number in found):
        refuse(NOT_FOUND, f"there are frames 1 to {count}")
    return found


def bulk_data(path: Path, element: str, wanted: Sequence[MediaType]) -> Response:
    """Value of one element, named by its path within the data set: ``ggggeeee``, or ``ggggeeee/item/ggggeeee``.

    Raises
    ------
    HTTPException
        400: no such path. 404: the data set has no such value. 406: see :func:`frames`.
    """
    if len(element) > _LONGEST_PATH or not _PATH.fullmatch(element):
        refuse(BAD_REQUEST, "bulk data are named by tag, or by tag/item/tag within sequences")
    header, source = read_stored(path)
    if source is not None and element.upper() == source.tag:
        return _whole_value(source, wanted)
    return _octets(parts.BytesPart(OCTETS, _value(header, element)), wanted)


def native(source: PixelElement, number: int) -> bytes:
    """One frame decoded: little endian, pixel by pixel.

    Raises
    ------
    HTTPException
        410: it cannot be decoded.
    """
    if source.syntax in _NATIVE_SYNTAXES:
        return source.frame(number)
    with readable():
        array = np.ascontiguousarray(pixel_array(source.path, index=number - 1, raw=False))
        return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _whole_value(source: PixelElement, wanted: Sequence[MediaType]) -> Response:
    if source.length is None:
        return _answer(source, list(range(1, source.frames + 1)), wanted)
    if source.path.stat().st_size < source.start + source.length:
        refuse(GONE, "the stored pixel data cannot be read")
    return _octets(parts.LazyPart(OCTETS, source.length, source.value), wanted)


def _answer(source: PixelElement, chosen: Sequence[int], wanted: Sequence[MediaType]) -> Response:
    stored = FRAME_TYPES.get(source.syntax, OCTETS)
    compressed = source.length is None
    for each in wanted:
        if not (each.is_multipart or each.name == "*/*" or len(chosen) == 1):
            continue
        as_stored = each.transfer_syntax in ("*", source.syntax) or (each.inner == stored and not each.transfer_syntax)
        if compressed and as_stored and (each.takes(stored) or each.takes(OCTETS)):
            _check_size(source.path.stat().st_size)
            kind = f"{stored}; transfer-syntax={source.syntax}"
            return _given([parts.BytesPart(kind, source.frame(number)) for number in chosen], stored, each)
        is_native = each.transfer_syntax in ("", _NATIVE) or (each.transfer_syntax == "*" and not compressed)
        if each.takes(OCTETS) and (is_native or (not compressed and as_stored)):
            return _given(_native_parts(source, chosen), OCTETS, each)
    refuse(
        NOT_ACCEPTABLE,
        f'ask for multipart/related; type="{OCTETS}" (native) or; transfer-syntax=*: stored as {source.syntax}',
    )


def _native_parts(source: PixelElement, chosen: Sequence[int]) -> list[parts.Part]:
    kind = f"{OCTETS}; transfer-syntax={_NATIVE}"
    size = -(-source.bits_of_frame // 8)
    if source.syntax in _NATIVE_SYNTAXES and size * len(chosen) > _EAGER_BYTES:
        return [parts.LazyPart(kind, size, partial(_alone, source, number)) for number in chosen]
    _check_size(size * len(chosen))
    return [parts.BytesPart(kind, native(source, number)) for number in chosen]


def _alone(source: PixelElement, number: int) -> list[bytes]:
    return [source.frame(number)]


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        refuse(TOO_LARGE, "these frames are too large to be given at once; ask for fewer")


def _given(made: Sequence[parts.Part], kind: str, asked: MediaType) -> Response:
    """Parts, or the only one as a plain body where a client asks so."""
    if asked.is_multipart or asked.name == "*/*":
        return parts.answer(made, kind)
    headers = {"Content-Length": str(made[0].size)}
    return StreamingResponse(made[0].content(), headers=headers, media_type=kind)


def _octets(part: parts.Part, wanted: Sequence[MediaType]) -> Response:
    for each in wanted:
        if each.takes(OCTETS):
            return _given([part], OCTETS, each)
    refuse(NOT_ACCEPTABLE, f'ask for multipart/related; type="{OCTETS}"')


def _value(dataset: Dataset, path: str) -> bytes:
    *above, last = path.split("/")
    for tag, item in zip(above[::2], above[1::2], strict=True):
        found = dataset.get(int(tag, 16))
        if found is None or found.VR != "SQ" or int(item) >= len(found.value):
            refuse(NOT_FOUND, "the data set has no such item")
        dataset = found.value[int(item)]
    found = dataset.get(int(last, 16))
    if found is None or not isinstance(found.value, bytes):
        refuse(NOT_FOUND, "the data set has no binary value there")
    return found.value
