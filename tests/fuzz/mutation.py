"""Random changes to bytes, of the kinds that break parsers."""

from __future__ import annotations

import random
from collections.abc import Sequence

INTERESTING = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xfe",
    b"\x7f\xff",
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\xdd\xe0",
)
INTERESTING += (b"SQ", b"UN", b"OB", b"\x08\x00\x05\x00", b"\xe0\x7f\x10\x00", b"\\", b"\x1b$B")


def mutated(dice: random.Random, corpus: Sequence[bytes]) -> bytes:
    """One of the corpus with a few changes."""
    content = bytearray(dice.choice(corpus))
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        at = dice.randrange(len(content) + 1)
        length = dice.choice((1, 1, 2, 4, 8, 64))
        match dice.randrange(6):
            case 0:
                content[at : at + length] = dice.randbytes(length)
            case 1:
                del content[at : at + length]
            case 2:
                content[at:at] = dice.randbytes(length)
            case 3:
                chunk = dice.choice(INTERESTING)
                content[at : at + len(chunk)] = chunk
            case 4:
                other = dice.choice(corpus)
                begin = dice.randrange(len(other) + 1)
                content[at : at + length] = other[begin : begin + length * 4]
            case _:
                del content[at:]
    return bytes(content)
