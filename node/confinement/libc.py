"""The C library, for calls of the kernel that Python has no function for."""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)


def checked(returned: int, what: str) -> int:
    """What a call returned.

    Raises
    ------
    OSError
        It returned an error; ``what`` stands in front of the reason.
    """
    if returned < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return returned


def prctl(option: int, argument: int = 0, *, what: str) -> None:
    """``prctl(2)`` with one argument; raises OSError."""
    checked(LIBC.prctl(option, ctypes.c_ulong(argument), 0, 0, 0), what)
