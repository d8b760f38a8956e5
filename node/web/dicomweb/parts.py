"""multipart/related answers, written as they go: files are never held in memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi.responses import Response, StreamingResponse

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part whose content is a file."""

    content_type: str
    path: Path
    size: int
    location: str = ""

    def content(self) -> Iterator[bytes]:
        """The file in chunks."""
        with self.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True, slots=True)
class BytesPart:
    """A part in memory."""

    content_type: str
    data: bytes
    location: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def content(self) -> Iterator[bytes]:
        """The bytes."""
        yield self.data


@dataclass(frozen=True, slots=True)
class LazyPart:
    """A part that is read when it is its turn."""

    content_type: str
    size: int
    read: Callable[[], Iterable[bytes]]
    location: str = ""

    def content(self) -> Iterator[bytes]:
        """The bytes."""
        yield from self.read()


Part = FilePart | BytesPart | LazyPart


def answer(parts: Sequence[Part], part_type: str, *, status: int = 200, warning: str = "") -> Response:
    """A multipart answer of known length, in order of the parts.

    A file that is gone by the time it is its turn cuts the answer short, which its length then shows.
    """
    boundary = uuid.uuid4().hex
    heads = [_head(boundary, part, first=number == 0) for number, part in enumerate(parts)]
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")
    length = sum(map(len, heads)) + sum(part.size for part in parts) + len(tail)
    headers = {"Content-Length": str(length)}
    if warning:
        headers["Warning"] = f'299 ainode "{warning}"'
    body = _gathered(_pieces(zip(heads, parts, strict=True), tail))
    media_type = f'multipart/related; type="{part_type}"; boundary={boundary}'
    return StreamingResponse(body, status, headers, media_type)


def _head(boundary: str, part: Part, *, first: bool) -> bytes:
    lines = [f"{'' if first else chr(13) + chr(10)}--{boundary}", f"Content-Type: {part.content_type}"]
    lines.append(f"Content-Length: {part.size}")
    if part.location:
        lines.append(f"Content-Location: {part.location}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _pieces(parts: Iterable[tuple[bytes, Part]], tail: bytes) -> Iterator[bytes]:
    for head, part in parts:
        yield head
        yield from part.content()
    yield tail


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces together: each chunk of an answer costs a change of threads."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
