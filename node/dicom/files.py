"""Tries out the files that the configuration names for connections: certificates, keys, users, passcodes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

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
    for secret in secret_files(settings):
        read_passcode(secret)
    return tls.check(settings)


def secret_files(settings: Settings) -> list[Path]:
    """Every file whose first line is a passcode or secret that this node shows somebody."""
    sections = [*settings.destination.values(), *settings.web_source.values(), *settings.channel.values()]
    files = [getattr(section, key, None) for section in sections for key in ("passcode_file", "secret_file")]
    files += [each.client_secret_file for section in sections if (each := getattr(section, "oauth", None)) is not None]
    return [file for file in files if file is not None]
