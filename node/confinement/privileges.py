"""Capabilities, the network namespace, the user: what a process can lay down for good."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.confinement.libc import LIBC, checked, prctl

_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL = 38, 47, 4
_CAPABILITY_VERSION = 0x20080522
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_SETGID, _SETUID, _KILL = 6, 7, 5


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [(f"{name}_{half}", ctypes.c_uint32) for half in ("low", "high") for name in ("eff", "perm", "inh")]


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, with its main group."""

    name: str
    uid: int
    gid: int


def account(name: str) -> Account:
    """Look a user up.

    Raises
    ------
    LookupError
        There is none of that name.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise LookupError(f"there is no user {name}") from error
    return Account(name, found.pw_uid, found.pw_gid)


def popen_words(user: Account) -> dict[str, Any]:
    """Words for `subprocess.Popen` that make a process a user's; its files are its group's, too, and nobody else's."""
    return {"user": user.uid, "group": user.gid, "extra_groups": [], "umask": 0o007}


def why_not_as(user: Account) -> str:
    """Why this process cannot start another as that user; empty where it can, and can end it, too."""
    held = _capabilities("CapEff")
    missing = [name for bit, name in ((_SETUID, "SETUID"), (_SETGID, "SETGID"), (_KILL, "KILL")) if not held >> bit & 1]
    if missing:
        return f"this process lacks the capabilities {', '.join(f'CAP_{each}' for each in missing)}"
    if os.geteuid() != 0 and user.gid not in (os.getegid(), *os.getgroups()):
        return f"the node's user is not in the group {grp.getgrgid(user.gid).gr_name}"
    return ""


def lay_down() -> None:
    """Give up every capability, and never get one again, not by any program either. Raises OSError."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1, what="no_new_privs")
    if not _capabilities("CapPrm"):
        return  # a unit of systemd that has none may not ask for fewer either
    checked(LIBC.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0), "ambient capabilities")
    header = _Header(_CAPABILITY_VERSION, 0)
    checked(LIBC.capset(ctypes.byref(header), ctypes.byref(_Sets())), "capset")


def leave_network() -> None:
    """Go where there is no network, not even loopback; while the process has one thread.

    Raises
    ------
    OSError
        The machine, or whoever started us, does not allow that.
    """
    if LIBC.unshare(_NEW_NET) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    checked(LIBC.unshare(_NEW_USER | _NEW_NET), "network namespace")
    # The same user as before: files keep their owners.
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path("/proc/self", name).write_text(text, encoding="ascii")


def _capabilities(kind: str) -> int:
    """Bits of a set of this process (``CapEff``, ``CapPrm``); 0 where they are not known."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith(f"{kind}:")), 0)
