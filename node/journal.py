"""Log records for the systemd journal, with their facts as fields: ``journalctl AINODE_STUDY=1.2.3``.

The native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram a record, ``FIELD=value`` lines, values with line
breaks framed by their length. A record that the journal does not take goes to standard error, which systemd reads too.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Any

SOCKET = Path("/run/systemd/journal/socket")
_PREFIX = "AINODE_"
_LONGEST_NAME = 64
# syslog(3) levels; the prefix "<3>" before a line on standard error means the same to systemd (sd-daemon(3)).
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def is_connected(stream: Any = None) -> bool:
    """Whether standard error goes to the journal: ``JOURNAL_STREAM`` names its device and inode (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isdigit() and inode.isdigit()):
        return False
    try:
        found = os.fstat((stream or sys.stderr).fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISSOCK(found.st_mode) and (found.st_dev, found.st_ino) == (int(device), int(inode))


class JournalHandler(logging.StreamHandler[Any]):
    """Sends records to the journal.

    Parameters
    ----------
    process : str
        Which process of the node; field ``AINODE_PROCESS``.
    facts : str
        Attribute of a record with its facts, a dict; each becomes a field ``AINODE_<NAME>``.
    path : Path
        Of the journal's socket.
    """

    def __init__(self, process: str, facts: str, path: Path = SOCKET) -> None:
        super().__init__()
        self._process = process
        self._facts = facts
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; the formatter's line where it cannot be sent."""
        fields: dict[str, Any] = {
            "MESSAGE": self.format(record),
            "PRIORITY": priority(record.levelno),
            "SYSLOG_IDENTIFIER": "ainode",
            _PREFIX + "PROCESS": self._process,
            _PREFIX + "EVENT": record.getMessage(),
            **{_field(key): value for key, value in getattr(record, self._facts, {}).items()},
        }
        try:
            self._socket.sendto(b"".join(_line(key, str(value)) for key, value in fields.items()), self._path)
        except OSError:
            # Too long, or no journal: the line alone, by way of standard error.
            super().emit(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def priority(level: int) -> int:
    """The syslog priority of one of logging's levels."""
    return next((number for lowest, number in _PRIORITIES if level >= lowest), 7)


def _field(key: str) -> str:
    """Name of a field: capitals, digits and underscores."""
    letters = "".join(each if each.isascii() and each.isalnum() else "_" for each in key.upper())
    return (_PREFIX + letters)[:_LONGEST_NAME]


def _line(key: str, value: str) -> bytes:
    content = value.encode("utf-8", errors="replace")
    if b"\n" not in content:
        return b"%s=%s\n" % (key.encode(), content)
    return b"%s\n%s%s\n" % (key.encode(), struct.pack("<Q", len(content)), content)
