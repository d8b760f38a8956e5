"""The node's identity as a device: made once, kept in the data folder."""

from __future__ import annotations

import json
import time
import uuid
from importlib import metadata
from pathlib import Path

from dicom_sr.identity import OFFLINE, NodeIdentity
from node.errors import ConfigError
from node.kept_file import create_once
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
    content = {"device_uid": f"2.25.{uuid.uuid4().int}", "timezone_offset": time.strftime("%z")}
    create_once(path, json.dumps(content).encode("utf-8"), mode=0o644)
