"""Messages between a dispatcher and its model host: length-prefixed JSON over a stream socket."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct(">I")
MAXIMUM_BYTES = 256 * 1024**2


class WireBroken(Exception):
    """The other side went away in the middle of a message, or talks nonsense. Never leaves the executor or the host."""


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message."""
    body = json.dumps(message, ensure_ascii=False, allow_nan=False).encode("utf-8")
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Receive one message; None when the other side closed between two messages.

    Raises
    ------
    WireBroken
        It closed within a message, or announced more than `MAXIMUM_BYTES`.
    """
    head = _exactly(connection, _LENGTH.size, may_end=True)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAXIMUM_BYTES:
        raise WireBroken(f"a message of {length} bytes was announced")
    body = _exactly(connection, length)
    message = json.loads(body or b"null")
    if not isinstance(message, dict):
        raise WireBroken("a message is not an object")
    return message


def _exactly(connection: socket.socket, count: int, *, may_end: bool = False) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        try:
            chunk = connection.recv(min(count - len(received), 1 << 20))
        except ConnectionResetError as error:
            raise WireBroken("the connection was reset") from error
        if not chunk:
            if may_end and not received:
                return None
            raise WireBroken(f"{len(received)} of {count} bytes came")
        received += chunk
    return bytes(received)
