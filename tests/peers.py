"""Real peers the tests need: skip with a reason on a laptop, fail in CI."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path
from typing import NoReturn

import pytest

DEBIAN_PATHS = ("/usr/sbin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin")


def require(tool: str) -> str:
    """Return the path of ``tool``; skip where it is missing, fail where CI is set."""
    search = os.pathsep.join([os.environ.get("PATH", ""), *DEBIAN_PATHS, str(Path(sys.executable).parent)])
    if found := shutil.which(tool, path=search):
        return found
    missing(f"{tool} is not installed (see `make peers`)")


def require_file(path: Path, remedy: str = "make peers") -> Path:
    """Return ``path``; skip where it is missing, fail where CI is set."""
    if not path.exists():
        missing(f"{path} is not there (see `{remedy}`)")
    return path


def missing(message: str) -> NoReturn:
    """Skip the test; fail it where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
