"""Shuts a program in and runs it: started as a script of its own, with the standard library alone.

The program sees read-only system folders, its own files and its input (read-only), its output folder, a ``/tmp`` in memory, and
nothing else: no network (not even loopback), no other process, no other file of this machine. Namespaces of Linux do it
(user, mount, pid, net, ipc, uts), so nobody has to be root. Its own process 1 dies with us, and with it everything it forked,
however often and however well hidden.

Usage: ``python -I -S confine.py PLAN STATUS_FD``; PLAN is JSON, see :class:`node.external.sandbox.Sandbox`. ``STATUS_FD`` gets
one line: ``ok`` just before the program starts, else why it was not started.
"""
# ruff: noqa: PTH103, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH211

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any, NoReturn

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL = 1, 38, 47, 4
_NEW_NS, _NEW_UTS, _NEW_IPC = 0x00020000, 0x04000000, 0x08000000
_NEW_USER, _NEW_PID, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR = 442  # the same on every architecture
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID = 1, 2
_NOBODY = 65534
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Of /etc only what the dynamic loader, time and certificates need: the rest may hold credentials.
_ETC = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/alternatives",
    "/etc/ssl/certs",
)
_DEVICES = ("null", "zero", "full", "random", "urandom")


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def main() -> int:
    """Run the plan; the exit status is the program's, 128 + signal where one killed it."""
    plan, status = json.loads(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(status, False)
    _die_with(int(plan["parent"]))
    try:
        if not plan["isolate"]:
            return _start(plan, status)
        _enter_namespaces()
    except OSError as error:
        return _refuse(status, error)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        _first_process(plan, status, reader)
    os.close(reader)
    os.close(status)
    os.write(writer, b"g")
    return _status_of(os.waitpid(child, 0)[1])


def _first_process(plan: dict[str, Any], status: int, reader: int) -> NoReturn:
    """Process 1 of the new namespace: when it ends, the kernel kills every other process there."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    code = 125
    try:
        if os.read(reader, 1) == b"g":
            _change_root(plan)
            code = _start(plan, status)
    except OSError as error:
        code = _refuse(status, error)
    os._exit(code)


def _start(plan: dict[str, Any], status: int) -> int:
    """Fork, exec, and wait; strays are reaped on the way."""
    child = os.fork()
    if child == 0:
        try:
            os.chdir(plan["folder"])
            _limit(plan["limits"])
            _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            _LIBC.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
            os.write(status, b"ok\n")
            os.execve(plan["command"][0], plan["command"], plan["environment"])
        except OSError as error:
            sys.stderr.write(f"{plan['command'][0]}: {error.strerror}\n")
        os._exit(127)
    while True:
        pid, ended = os.wait()
        if pid == child:
            return _status_of(ended)


def _enter_namespaces() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _call(_LIBC.unshare(_NEW_USER | _NEW_NS | _NEW_PID | _NEW_NET | _NEW_IPC | _NEW_UTS), "unshare")
    # Nobody inside: the program has no capability once it is started, not even in here.
    for name, text in (("setgroups", "deny"), ("uid_map", f"{_NOBODY} {uid} 1"), ("gid_map", f"{_NOBODY} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _change_root(plan: dict[str, Any]) -> None:
    root = plan["root"]
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for path in (*_SYSTEM, *_ETC):
        _show(root, path)
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{root}/dev/{name}", writable=True)
    for path, megabytes in (("/tmp", plan["temporary_mb"]), ("/dev/shm", plan["temporary_mb"])):
        os.makedirs(root + path, exist_ok=True)
        _mount("tmpfs", root + path, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={megabytes}m,mode=1777")
    # After the empty folders: what it may read can lie below one of them.
    for path in plan["readable"]:
        _show(root, path)
    for source, target, writable in plan["mounts"]:
        _bind(source, root + target, writable=writable)
    os.makedirs(f"{root}/proc")
    try:
        _mount("proc", f"{root}/proc", "proc", _MS_NOSUID | _MS_NODEV)
    except OSError:
        pass  # not where a container hides parts of its own; hardly a program needs it
    os.chdir(root)
    _call(_LIBC.pivot_root(b".", b"."), "pivot_root")
    _call(_LIBC.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")


def _show(root: str, path: str) -> None:
    """``path`` of this machine in the new root, read-only; links as links, what there is not left out."""
    if os.path.islink(path):
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(os.readlink(path), root + path)
    elif os.path.exists(path):
        _bind(path, root + path, writable=False)


def _bind(source: str, target: str, *, writable: bool) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    _mount(source, target, None, _MS_BIND | _MS_REC)
    if not writable:
        # Recursive, as the older remount is not: what is mounted below must not stay writable.
        wanted = _MountAttr(_ATTR_RDONLY | _ATTR_NOSUID, 0, 0, 0)
        sized = ctypes.c_size_t(ctypes.sizeof(wanted))
        place = target.encode()
        _call(
            _LIBC.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, place, _AT_RECURSIVE, ctypes.byref(wanted), sized),
            "mount_setattr",
        )


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if each is None else each.encode() for each in (source, target, kind)]
    _call(_LIBC.mount(*words, ctypes.c_ulong(flags), None if data is None else data.encode()), f"mount {target}")


def _limit(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


def _die_with(parent: int) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _call(returned: int, what: str) -> None:
    if returned != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _refuse(status: int, error: OSError) -> int:
    os.write(status, f"{error.strerror or error}\n".encode())
    return 125


def _status_of(ended: int) -> int:
    code = os.waitstatus_to_exitcode(ended)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
