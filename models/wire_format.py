"""The wire format of protocol buffers (protobuf.dev, "Encoding"): the fields of a message, without knowing its names."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _EIGHT, _SIZED, _FOUR = 0, 1, 2, 5


class Field(NamedTuple):
    """Number of a field, and what it holds: a whole number, or the bytes from ``first`` up to ``last``."""

    number: int
    value: int | None
    first: int
    last: int


def fields(data: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    """Every field of the message between two bytes but fixed numbers, which are stepped over.

    Raises
    ------
    ValueError, IndexError
        That is no message.
    """
    at = start
    while at < end:
        tag, at = _varint(data, at)
        kind, size = tag & 7, 0
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield Field(tag >> 3, value, at, at)
            continue
        if kind == _SIZED:
            size, at = _varint(data, at)
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise ValueError("no such wire type")
        if at + size > end:
            raise ValueError("cut short")
        if kind == _SIZED:
            yield Field(tag >> 3, None, at, at + size)
        at += size


def sized(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first and last byte of every field of bytes. Raises as :func:`fields`."""
    return ((each.number, each.first, each.last) for each in fields(data, start, end) if each.value is None)


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("too long a number")
