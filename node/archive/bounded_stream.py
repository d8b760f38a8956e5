"""A header is read through this, so that what it costs is bounded by us and not by who wrote it.

A data set of 8 MB may hold a million empty items, for which a DICOM library makes a million objects; one of 10 MB in
the deflated transfer syntax may hold ten gigabytes.
"""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

from node.archive.part10 import file_meta_bytes, read_file_meta
from node.errors import ObjectRejected, SpoolDamaged

DEFLATED_SYNTAX = "1.2.840.10008.1.2.1.99"
_EXPLICIT_SYNTAX = "1.2.840.10008.1.2.1"

# An element costs two or three reads, an item two. A thousand referenced images have some ten thousand.
MAXIMUM_READS = 120_000
MAXIMUM_BYTES = 32 * 1024 * 1024
# One value. What pydicom decodes at once, the character set of an item, becomes many times as much.
_LONGEST_READ_BYTES = 8 * 1024 * 1024
# What a deflated data set is inflated to. Pixels lie behind it.
_INFLATED_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


class BoundedStream:
    """Reads from a stream until it has been too much. Seeking costs nothing."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._reads = 0
        self._bytes = 0

    def read(self, size: int = -1) -> bytes:
        """As the stream's.

        Raises
        ------
        ObjectRejected
            Too many reads, or too many bytes, at once or together.
        """
        content = self._stream.read(size if 0 <= size <= _LONGEST_READ_BYTES else _LONGEST_READ_BYTES + 1)
        self._reads += 1
        self._bytes += len(content)
        if self._reads > MAXIMUM_READS or self._bytes > MAXIMUM_BYTES or len(content) > _LONGEST_READ_BYTES:
            raise ObjectRejected("the header has more elements or bytes than any meaningful one")
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As the stream's."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As the stream's."""
        return self._stream.tell()


def header_stream(stream: BinaryIO) -> tuple[BoundedStream, str | None]:
    """The stream to read a file's header from, and the transfer syntax where it is not the one that stream names.

    A deflated data set is inflated as far as a header can reach.

    Raises
    ------
    ObjectRejected
        It is said to be deflated and is not.
    """
    start = stream.tell()
    try:
        meta = read_file_meta(stream)
    except SpoolDamaged:
        meta = None
    if meta is None or meta.transfer_syntax_uid != DEFLATED_SYNTAX:
        stream.seek(start)
        return BoundedStream(stream), None
    plain = file_meta_bytes(
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        transfer_syntax_uid=_EXPLICIT_SYNTAX,
    )
    return BoundedStream(io.BytesIO(plain + _inflated(stream))), DEFLATED_SYNTAX


def _inflated(stream: BinaryIO) -> bytes:
    """Beginning of a raw deflate stream's content (PS3.5 A.5)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = bytearray()
    try:
        while len(content) < _INFLATED_BYTES and not inflater.eof:
            deflated = inflater.unconsumed_tail or stream.read(_CHUNK_BYTES)
            if not deflated:
                break
            content += inflater.decompress(deflated, _INFLATED_BYTES - len(content))
    except zlib.error as error:
        raise ObjectRejected("the data set is not deflated, as its transfer syntax says") from error
    return bytes(content)
