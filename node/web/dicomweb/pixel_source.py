"""Where in a stored file the pixel data lie, and single frames of them without reading the rest."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicom_sr.pixels import READ_ERRORS
from node.archive.bounded_stream import DEFLATED_SYNTAX, header_stream
from node.archive.headers import UNREADABLE
from node.archive.part10 import read_file_meta
from node.errors import ObjectRejected, SpoolDamaged
from node.web.dicomweb.failures import GONE, NOT_FOUND, refuse

BIG_ENDIAN = "1.2.840.10008.1.2.2"
_IMPLICIT = "1.2.840.10008.1.2"
_TAGS = {(0x7FE0, 0x0010): "7FE00010", (0x7FE0, 0x0008): "7FE00008", (0x7FE0, 0x0009): "7FE00009"}
_OFFSETS = (0x7FE00001, 0x7FE00002)
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Pixel data of a file.

    Attributes
    ----------
    header : Dataset
        What stands before them.
    tag, vr : str
        Pixel Data, Float Pixel Data or Double Float Pixel Data.
    start, length : int
        Of the value within the file; length None where it is encapsulated.
    """

    path: Path
    header: Dataset
    tag: str
    vr: str
    start: int
    length: int | None

    @property
    def syntax(self) -> str:
        """Transfer Syntax UID."""
        return str(self.header.file_meta.TransferSyntaxUID)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return max(1, int(self.header.get("NumberOfFrames") or 1))

    @property
    def bits_of_frame(self) -> int:
        """Bits of one frame, native."""
        samples = int(self.header.get("SamplesPerPixel") or 1)
        allocated = {"7FE00008": 32, "7FE00009": 64}.get(self.tag) or int(self.header.BitsAllocated)
        bits = int(self.header.Rows) * int(self.header.Columns) * samples * allocated
        # Chrominance of two pixels is shared (PS3.3 C.7.6.3.1.2).
        return bits * 2 // 3 if self.header.get("PhotometricInterpretation") == "YBR_FULL_422" else bits

    def frame(self, number: int) -> bytes:
        """One frame as stored: compressed, or native little endian. One-bit pixels begin at a byte.

        Parameters
        ----------
        number : int
            From 1.

        Raises
        ------
        HTTPException
            404: there is no such frame. 410: the stored file cannot be read.
        """
        if not 1 <= number <= self.frames:
            refuse(NOT_FOUND, f"there are frames 1 to {self.frames}")
        try:
            with self.path.open("rb") as stream:
                return self._encapsulated(stream, number) if self.length is None else self._native(stream, number)
        except (*READ_ERRORS, OSError):
            refuse(GONE, "the stored pixel data cannot be read")

    def _encapsulated(self, stream: BinaryIO, number: int) -> bytes:
        stream.seek(self.start)
        tables = [bytes(self.header[tag].value or b"") for tag in _OFFSETS if tag in self.header]
        offsets = (tables[0], tables[1]) if len(tables) == 2 and all(tables) else None
        return get_frame(stream, number - 1, number_of_frames=self.frames, extended_offsets=offsets)

    def _native(self, stream: BinaryIO, number: int) -> bytes:
        bits = self.bits_of_frame
        first, last = bits * (number - 1), bits * number
        begin, end = first // 8, -(-last // 8)
        if self.length is None or end > self.length:
            raise EOFError
        stream.seek(self.start + begin)
        data = stream.read(end - begin)
        if len(data) != end - begin:
            raise EOFError
        if bits % 8:
            return _aligned(data, first - 8 * begin, bits)
        return _swapped(data, self) if self.syntax == BIG_ENDIAN else data

    def value(self) -> Iterator[bytes]:
        """The whole native value in chunks, little endian."""
        left = self.length or 0
        with self.path.open("rb") as stream:
            stream.seek(self.start)
            while left and (chunk := stream.read(min(left, 1 << 20))):
                left -= len(chunk)
                yield _swapped(chunk, self) if self.syntax == BIG_ENDIAN else chunk


def read_stored(path: Path) -> tuple[Dataset, PixelElement | None]:
    """Header of a stored file, and where its pixel data are; None where it has none.

    Of a deflated file only the header is inflated, as far as headers reach: it counts as without pixel data.

    Raises
    ------
    HTTPException
        410: the file is gone, or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            meta = read_file_meta(stream)
            stream.seek(0)
            if meta.transfer_syntax_uid == DEFLATED_SYNTAX:
                inflated, _ = header_stream(stream)
                return read_partial(cast(BinaryIO, inflated), stop_when=_at_pixels), None
            header = dcmread(stream, stop_before_pixels=True)
            return header, _located(path, header, stream, meta.transfer_syntax_uid)
    except FileNotFoundError:
        refuse(GONE, "the file is not here any more")
    except (InvalidDicomError, ObjectRejected, SpoolDamaged, OSError, *UNREADABLE):
        refuse(GONE, "the stored file cannot be read")


def read_dataset(path: Path) -> Dataset:
    """Header of a stored file.

    Raises
    ------
    HTTPException
        410: the file is gone, or cannot be read.
    """
    return read_stored(path)[0]


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return f"{tag:08X}" in _TAGS.values()


@contextmanager
def readable() -> Iterator[None]:
    """Answers 410 where pixel data turn out to be damaged, or in a form nobody here can decode."""
    try:
        yield
    except READ_ERRORS:
        refuse(GONE, "the stored pixel data cannot be decoded")


def _located(path: Path, header: Dataset, stream: BinaryIO, syntax: str) -> PixelElement | None:
    head = stream.read(12)
    if len(head) < 12:
        return None
    order = ">" if syntax == BIG_ENDIAN else "<"
    group, number = struct.unpack(f"{order}HH", head[:4])
    tag = _TAGS.get((group, number))
    if tag is None:
        return None
    if syntax == _IMPLICIT:
        vr, length = "OW", struct.unpack("<I", head[4:8])[0]
        start = stream.tell() - 4
    else:
        vr, length = head[4:6].decode("latin-1"), struct.unpack(f"{order}I", head[8:12])[0]
        start = stream.tell()
    if syntax == _IMPLICIT:
        vr = {"7FE00008": "OF", "7FE00009": "OD"}.get(tag, vr)
    encapsulated = length == _UNDEFINED or UID(syntax).is_encapsulated
    return PixelElement(path, header, tag, vr, start, None if encapsulated else length)


def _aligned(data: bytes, skipped: int, bits: int) -> bytes:
    """Bits of one frame from where they begin within a byte (PS3.5 8.1.1: the first pixel is the lowest bit)."""
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[skipped : skipped + bits]
    return np.packbits(unpacked, bitorder="little").tobytes()


def _swapped(data: bytes, element: PixelElement) -> bytes:
    size = (
        8 if element.tag == "7FE00009" else 4 if element.tag == "7FE00008" else int(element.header.BitsAllocated) // 8
    )
    return np.frombuffer(data, f">u{size}").astype(f"<u{size}").tobytes() if size > 1 else data
