"""Seccomp: which calls of the kernel this process may make, for good. Needs no privilege.

What is taken away: every way to open a connection, to look into or to signal another process, to start a program, to
change a file's owner, mode or times (a study's files are links to those of the spool), and to change mounts, namespaces,
keys, clocks or the kernel. A call that is refused returns an error; nothing is killed by it.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; numbers from arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from node.confinement.libc import LIBC, checked

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_RETURN_ALLOW, _RETURN_ERROR = 0x7FFF0000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_ANY, _JUMP_NOT_BELOW, _AND, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_FAMILY_UNIX, _DATAGRAM, _KIND = 1, 2, 0xF
_NEW_NAMESPACES = 0x7E020080  # every CLONE_NEW… that clone(2) takes
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Name → number on x86-64 and on aarch64; where the latter has no such call, the one that does the same there.
_CALLS: dict[str, tuple[int, int]] = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "connect": (42, 203),
    "sendto": (44, 206),
    "accept4": (288, 242),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "prlimit64": (302, 261),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "mknod": (133, 33),
    "mknodat": (259, 33),
    "chmod": (90, 52),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, 55),
    "lchown": (94, 55),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, 88),
    "utimes": (235, 88),
    "futimesat": (261, 88),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "acct": (163, 89),
    "quotactl": (179, 60),
}
# Some return another error than "not permitted": what the libraries that ask can live with.
_ERRORS = {
    # As a socket that nobody listens on any more: CUDA asks for a service that is mostly not there.
    "connect": errno.ECONNREFUSED,
    "io_uring_setup": errno.ENOSYS,
    "io_uring_enter": errno.ENOSYS,
    "io_uring_register": errno.ENOSYS,
    # The C library then takes clone(2), whose flags can be looked at.
    "clone3": errno.ENOSYS,
    "bind": errno.EACCES,
    "listen": errno.EACCES,
    "accept": errno.EACCES,
    "accept4": errno.EACCES,
}
_TO_ITSELF = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")


@dataclass(frozen=True, slots=True)
class _Step:
    code: int
    value: int
    if_true: int = 0
    if_false: int = 0

    def packed(self) -> bytes:
        return struct.pack("=HBBI", self.code, self.if_true, self.if_false, self.value)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


def restrict(*, signals: bool) -> None:
    """Take the calls away from the calling thread, for good; its children inherit that. ``no_new_privs`` must be set.

    Parameters
    ----------
    signals : bool
        Also take away signals to any process but this one; needless where Landlock does it, and then harms those it forks.

    Raises
    ------
    OSError
        The kernel has no seccomp, or this architecture is not known here.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.EOPNOTSUPP, f"no list of system calls for {machine}")
    steps = b"".join(step.packed() for step in _program(*_ARCHITECTURES[machine], signals=signals))
    program = _Program(len(steps) // 8, steps)
    checked(LIBC.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0), "seccomp")


def _program(architecture: int, column: int, *, signals: bool) -> Iterator[_Step]:
    yield _Step(_LOAD, _ARCHITECTURE)
    yield _Step(_JUMP_EQUAL, architecture, if_true=1)
    yield _refusal(errno.EPERM)
    yield _Step(_LOAD, _NUMBER)
    if column == 0:
        yield _Step(_JUMP_NOT_BELOW, _X32, if_false=1)
        yield _refusal(errno.ENOSYS)
    for name, numbers in _CALLS.items():
        steps = list(_check(name, signals=signals))
        if steps:
            yield _Step(_JUMP_EQUAL, numbers[column], if_false=len(steps))
            yield from steps
    yield _Step(_RETURN, _RETURN_ALLOW)


def _check(name: str, *, signals: bool) -> Iterator[_Step]:
    """Steps that decide about one call; each way through them ends in a return."""
    if name in ("socket", "socketpair"):
        # No network. A Unix socket alone reaches nobody while connect is refused; a datagram's address would.
        yield from (_argument(0), _Step(_JUMP_EQUAL, _FAMILY_UNIX, if_true=1), _refusal(errno.EACCES))
        yield from (_argument(1), _Step(_AND, _KIND), _Step(_JUMP_EQUAL, _DATAGRAM, if_false=1))
        yield from (_refusal(errno.EACCES), _allowance())
    elif name == "sendto":
        # Its fifth argument is an address; both halves of it are looked at.
        yield from (_argument(4), _Step(_JUMP_EQUAL, 0, if_true=1), _refusal(errno.EACCES))
        yield from (_argument(4, high=True), _Step(_JUMP_EQUAL, 0, if_true=1), _refusal(errno.EACCES), _allowance())
    elif name == "clone":
        yield from (_argument(0), _Step(_JUMP_ANY, _NEW_NAMESPACES, if_false=1), _refusal(errno.EPERM), _allowance())
    elif name == "prlimit64":
        yield from (_argument(0), _Step(_JUMP_EQUAL, 0, if_true=2), _Step(_JUMP_EQUAL, os.getpid(), if_true=1))
        yield from (_refusal(errno.EPERM), _allowance())
    elif name in _TO_ITSELF:
        if signals:
            yield from (_argument(0), _Step(_JUMP_EQUAL, os.getpid(), if_true=1), _refusal(errno.EPERM), _allowance())
    elif name != "tkill" or signals:
        yield _refusal(_ERRORS.get(name, errno.EPERM))


def _argument(index: int, *, high: bool = False) -> _Step:
    """Load half of an argument (both architectures are little-endian)."""
    return _Step(_LOAD, _ARGUMENTS + 8 * index + (4 if high else 0))


def _refusal(code: int) -> _Step:
    return _Step(_RETURN, _RETURN_ERROR | code)


def _allowance() -> _Step:
    return _Step(_RETURN, _RETURN_ALLOW)
