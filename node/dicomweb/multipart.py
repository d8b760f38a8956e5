"""multipart/related (RFC 2387) read as it comes: no part is ever held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message

from node.errors import WebAnswerUnusable

_LONGEST_HEADERS = 64 * 1024


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part begins; names of its header fields are in lower case."""

    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the part that began last."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The part is complete."""


Event = PartBegins | PartData | PartEnds


def boundary_of(content_type: str) -> str:
    """Boundary of a multipart answer.

    Raises
    ------
    WebAnswerUnusable
        It is no multipart answer.
    """
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_maintype() != "multipart" or not isinstance(boundary, str) or not boundary:
        raise WebAnswerUnusable("the answer is not multipart/related")
    return boundary


class PartReader:
    """Cuts a stream at its boundary, chunk by chunk. What is kept never exceeds a chunk and a boundary.

    Attributes
    ----------
    ended : bool
        The last boundary was read.
    """

    def __init__(self, boundary: str) -> None:
        self.delimiter = b"\r\n--" + boundary.encode("ascii")
        self.buffer = b"\r\n"
        self.inside = False
        self.ended = False

    def take(self, chunk: bytes) -> Iterator[Event]:
        """Events that another chunk completes."""
        self.buffer += chunk
        while not self.ended and (event := self._next()) is not None:
            yield event

    def _next(self) -> Event | None:
        return self._in_part() if self.inside else self._between()

    def _in_part(self) -> Event | None:
        at = self.buffer.find(self.delimiter)
        if at < 0:
            # The end may be the beginning of a delimiter.
            safe = len(self.buffer) - len(self.delimiter) + 1
            if safe <= 0:
                return None
            data, self.buffer = self.buffer[:safe], self.buffer[safe:]
            return PartData(data)
        if at > 0:
            data, self.buffer = self.buffer[:at], self.buffer[at:]
            return PartData(data)
        self.inside = False
        return PartEnds()

    def _between(self) -> Event | None:
        at = self.buffer.find(self.delimiter)
        if at < 0:
            # A preamble, which says nothing.
            self.buffer = self.buffer[-len(self.delimiter) :]
            return None
        rest = self.buffer[at + len(self.delimiter) :]
        if rest.startswith(b"--"):
            self.ended = True
            return None
        lines_end = rest.find(b"\r\n\r\n")
        if lines_end < 0:
            if len(rest) > _LONGEST_HEADERS:
                raise WebAnswerUnusable("a part of the answer has no end of its headers")
            self.buffer = self.buffer[at:]
            return None
        self.buffer, self.inside = rest[lines_end + 4 :], True
        return PartBegins(_headers(rest[:lines_end]))


def read_parts(chunks: Iterable[bytes], boundary: str) -> Iterator[Event]:
    """Events of a multipart body: for each part its beginning, its bytes, its end.

    Raises
    ------
    WebAnswerUnusable
        The body ends before its last boundary, so that the last part may lack its end.
    """
    reader = PartReader(boundary)
    for chunk in chunks:
        yield from reader.take(chunk)
    if not reader.ended:
        raise WebAnswerUnusable("the answer ends before its last boundary")


def _headers(lines: bytes) -> dict[str, str]:
    found = {}
    for line in lines.decode("latin-1").split("\r\n"):
        name, separator, value = line.partition(":")
        if separator:
            found[name.strip().lower()] = value.strip()
    return found
