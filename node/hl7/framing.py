"""Minimal Lower Layer Protocol: blocks out of a stream (HL7 Transport Specification: MLLP, R1)."""

from __future__ import annotations

from node.errors import Hl7Rejected

START, END = b"\x0b", b"\x1c\r"


class BlockReader:
    """Takes bytes as they come and gives whole messages.

    Parameters
    ----------
    maximum_bytes : int
        Of one message.
    """

    def __init__(self, maximum_bytes: int) -> None:
        self._maximum = maximum_bytes
        self._received = bytearray()

    @property
    def begun(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._received)

    def feed(self, data: bytes) -> list[bytes]:
        """Messages that are complete now. What stands outside of a block is skipped.

        Raises
        ------
        Hl7Rejected
            A message is longer than allowed: nothing that follows on this connection can be read.
        """
        self._received += data
        blocks: list[bytes] = []
        while True:
            start = self._received.find(START)
            if start < 0:
                self._received.clear()
                return blocks
            del self._received[:start]
            end = self._received.find(END)
            if end < 0:
                if len(self._received) > self._maximum:
                    raise Hl7Rejected(f"a message of more than {self._maximum} bytes")
                return blocks
            if end > self._maximum:
                raise Hl7Rejected(f"a message of more than {self._maximum} bytes")
            blocks.append(bytes(self._received[1:end]))
            del self._received[: end + len(END)]


def framed(message: bytes) -> bytes:
    """A message as a block."""
    return START + message + END
