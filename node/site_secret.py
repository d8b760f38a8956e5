"""The node's own secret: made once, kept in the data folder, never shown. What is derived from it cannot be guessed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

from node.errors import ConfigError
from node.kept_file import create_once
from node.settings import ProfileSection, Settings

FILE_NAME = "secret.key"
_BYTES = 32


def site_key(data_dir: Path, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose; the same for the life of the data folder.

    Raises
    ------
    ConfigError
        The file of the secret cannot be read, or is not what this function wrote.
    """
    path = data_dir / FILE_NAME
    if not path.exists():
        create_once(path, secrets.token_hex(_BYTES).encode("ascii"))
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: not a readable secret; restore it from a backup, because a new one gives exported studies new names"
        ) from error
    if len(secret) != _BYTES:
        raise ConfigError(f"{path}: has not {_BYTES} bytes; restore it from a backup")
    return hmac.new(secret, purpose.encode("utf-8"), hashlib.sha256).digest()


def anonymisation_key(settings: Settings, profiles: Iterable[ProfileSection]) -> str:
    """Hex key of anonymous exports; empty where no profile asks for one."""
    if not any(profile.anonymous for profile in profiles):
        return ""
    return site_key(settings.data_dir, "anonymous export").hex()
