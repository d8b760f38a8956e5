"""The node's identity as a device: made once, kept in the data folder."""

from __future__ import annotations

import json
import os
import time
import uuid
from importlib import metadata
from pathlib import Path

from dicom_sr.identity import OFFLINE, NodeIdentity
from node.errors import ConfigError
from node.settings import Settings

FILE_NAME = "identity.json"


def load_identity(settings: Settings) -> NodeIdentity:
    """Read the node's identity; make its device UID on the first call.

    Parameters
    ----------
    settings : Settings
        ``data_dir`` is created when absent.

    Returns
    -------
    NodeIdentity
        The device UID (Device Observer UID, PS3.16 TID 1004) never changes during the life of the data folder. The
        serial number is derived from it. The offset from UTC is frozen at the same time, so that the bytes of a result do
        not depend on the season in which it is made again.

    Raises
    ------
    ConfigError
        The file exists but is not what this function wrote.
    """
    path = settings.data_dir / FILE_NAME
    if not path.exists():
        _create(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        device_uid, timezone_offset = str(content["device_uid"]), str(content["timezone_offset"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: not a readable identity file; restore it from a backup, because a new one gives new UIDs to old results"
        ) from error
    return NodeIdentity(
        device_uid=device_uid,
        name=settings.node.name[:16],
        serial_number=uuid.UUID(int=int(device_uid.removeprefix("2.25."))).hex[:16].upper(),
        software_version=metadata.version("ainode"),
        institution=settings.node.institution,
        timezone_offset=timezone_offset,
    )


def offline_identity() -> NodeIdentity:
    """The identity of runs without a configured node; its results have UIDs of their own."""
    return OFFLINE


def _create(path: Path) -> None:
    """Write a new identity. Of several processes at once one wins, and all read the winner's."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    content = {"device_uid": f"2.25.{uuid.uuid4().int}", "timezone_offset": time.strftime("%z")}
    with part.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(part, path)
    except FileExistsError:
        pass  # another process was first; its identity is the node's
    finally:
        part.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
