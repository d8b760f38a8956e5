"""Landlock: which files this process may open, for good. Linux 5.13 or later; needs no privilege.

Source: Linux, Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from node.confinement.libc import LIBC, checked

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << n for n in range(6))
_MAKE_DIR, _MAKE_FILE = 1 << 7, 1 << 8
_TRUNCATE, _DEVICE_CONTROL = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL
# How many kinds of access to files each version knows: links across folders came with 2, truncation with 3, devices with 5.
_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15}
_KNOWN_LATER = 16
_TCP, _ABSTRACT_AND_SIGNALS = 0b11, 0b11

READ = _READ_FILE | _READ_DIR
READ_NAMES = _READ_DIR
WRITE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _TRUNCATE
DEVICE = READ | _WRITE_FILE | _DEVICE_CONTROL

GUARDS_TRUNCATION = 3
"""From this version on a file that may only be read cannot be emptied either."""
GUARDS_SIGNALS = 6
"""From this version on other processes can be reached neither by signals nor by abstract sockets."""


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "network", "scope")]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """Landlock's version in the running kernel, 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)))


def restrict(allowed: Iterable[tuple[Path, int]]) -> int:
    """Take every access to files from the calling thread that ``allowed`` does not give; its children inherit that.

    Call it while the process has one thread. From version 4 on TCP is taken away, too, from 6 on signals to other processes
    and abstract sockets.

    Parameters
    ----------
    allowed : iterable of (Path, int)
        Files and folders, with :data:`READ`, :data:`READ_NAMES`, :data:`WRITE` or :data:`DEVICE` for them and all below;
        what is not there is left out.

    Returns
    -------
    int
        The version.

    Raises
    ------
    OSError
        The kernel has no Landlock, or it is off.
    """
    found = version()
    if found == 0:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock")
    handled = (1 << _KNOWN.get(found, _KNOWN_LATER)) - 1
    wanted = _Ruleset(handled, _TCP, _ABSTRACT_AND_SIGNALS)
    size = 8 if found < 4 else 16 if found < GUARDS_SIGNALS else 24
    ruleset = checked(
        LIBC.syscall(_CREATE_RULESET, ctypes.byref(wanted), ctypes.c_size_t(size), 0), "landlock_create_ruleset"
    )
    try:
        for path, access in allowed:
            _allow(ruleset, path, access & handled)
        checked(LIBC.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return found


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there, or may not be seen, needs no rule
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _OF_FILES
        rule = _Beneath(access, place)
        checked(LIBC.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0), f"landlock_add_rule {path}")
    finally:
        os.close(place)
