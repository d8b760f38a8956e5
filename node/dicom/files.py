"""Tries out the files that the configuration names for connections: certificates, keys, users, passcodes."""

from __future__ import annotations

from datetime import datetime

from node.dicom import tls
from node.dicom.passcodes import Users, read_passcode
from node.settings import Settings


def check_files(settings: Settings) -> datetime | None:
    """Read what receiver and sender will read; return when the first of the node's certificates expires.

    Raises
    ------
    TlsUnusable, UsersUnusable
        Naming key, file and what is wrong.
    """
    if settings.receive.users is not None:
        Users(settings.receive.users)
    for destination in settings.destination.values():
        if destination.passcode_file is not None:
            read_passcode(destination.passcode_file)
    return tls.check(settings)
