"""A model host whose runs try to get at what is not theirs, by the C library, past everything Python would refuse."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.jobs import execution, model_host
from node.jobs.specification import JobSpec, ResultBundle, WrittenObject

_LIBC = ctypes.CDLL(None, use_errno=True)


def _said(returned: int) -> str:
    return "allowed" if returned >= 0 else errno.errorcode[ctypes.get_errno()]


def _open(path: str, flags: int = os.O_RDONLY) -> str:
    return _said(_LIBC.open(path.encode(), flags, 0o600))


def _tcp(port: str) -> str:
    found = _LIBC.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
    if found < 0:
        return _said(found)
    address = struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", int(port), socket.inet_aton("127.0.0.1"))
    return _said(_LIBC.connect(found, address, len(address)))


def _unix(path: str) -> str:
    found = _LIBC.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
    address = struct.pack("=H", socket.AF_UNIX) + path.encode() + b"\0"
    return _said(found if found < 0 else _LIBC.connect(found, address, len(address)))


def _datagram(path: str) -> str:
    """A message without a connection, whose address no filter of ``connect`` sees."""
    return _said(_LIBC.socket(socket.AF_UNIX, socket.SOCK_DGRAM, 0))


def _program(path: str) -> str:
    words = (ctypes.c_char_p * 2)(path.encode(), None)
    return _said(_LIBC.execve(path.encode(), words, (ctypes.c_char_p * 1)(None)))


TRIES: dict[str, Callable[[str], str]] = {
    "read": _open,
    "write": lambda path: _open(path, os.O_WRONLY | os.O_CREAT),
    "empty": lambda path: _said(_LIBC.truncate(path.encode(), ctypes.c_long(0))),
    "mode": lambda path: _said(_LIBC.chmod(path.encode(), 0)),
    "remove": lambda path: _said(_LIBC.unlink(path.encode())),
    "link": lambda path: _said(_LIBC.symlink(b"/etc", path.encode())),
    "tcp": _tcp,
    "unix": _unix,
    "datagram": _datagram,
    "program": _program,
    "signal": lambda pid: _said(_LIBC.kill(int(pid), 0)),
    "trace": lambda pid: _said(_LIBC.ptrace(16, int(pid), 0, 0)),
    "memory": lambda pid: _open(f"/proc/{pid}/mem"),
    "environment": lambda pid: _open(f"/proc/{pid}/environ"),
    "namespace": lambda _: _said(_LIBC.unshare(0x10000000)),
}


def _execute(spec: JobSpec, registry: Callable[[], Any]) -> ResultBundle:
    if spec.rule == "lie":
        return _lie(spec)
    told = {}
    for name, wanted in json.loads(spec.parameters["tries"]).items():
        kind, target = wanted
        target = target.replace("{study}", str(spec.files[0])).replace("{out}", str(spec.output_dir))
        told[name] = TRIES[kind](target)
    told["uid"], told["study"] = os.getuid(), spec.files[0].read_text()
    told["seen"] = sorted(path.name for path in spec.files[0].parent.iterdir())
    return ResultBundle(outcome="found", summary=told, objects=[_object(spec, spec.output_dir / "result.dcm")])


def _object(spec: JobSpec, path: Path) -> WrittenObject:
    if path.parent == spec.output_dir:
        path.write_bytes(b"result")
    facts = dict.fromkeys(
        ("role", "profile", "sop_instance_uid", "sop_class_uid", "series_uid", "transfer_syntax_uid"), "1"
    )
    return WrittenObject(path=path, digest="", size=6, **facts)


def _lie(spec: JobSpec) -> ResultBundle:
    """Name somebody else's file as a result."""
    return ResultBundle(outcome="found", objects=[_object(spec, Path(spec.parameters["file"]))])


def _warm(message: dict[str, Any], registries: dict[Any, Any], tests: Any, chat: Any) -> dict[str, Any]:
    return {"kind": "ready", "seconds": 0.0, "problems": []}


if __name__ == "__main__":
    execution.execute_guarded = _execute  # type: ignore[assignment]
    model_host._warm = _warm  # type: ignore[assignment]
    os._exit(model_host.main(sys.argv[1:]))
