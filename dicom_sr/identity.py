"""Who this node is, as it stands in every object."""

from __future__ import annotations

from dataclasses import dataclass

MANUFACTURER = "ainode project"
MODEL_NAME = "ainode"
ENCODER_VERSION = "1"
"""Part of every work key: raised whenever the same result would be encoded to other bytes."""

IMPLEMENTATION_CLASS_UID = "2.25.182064170531706337530290462310984921307"
"""Implementation Class UID (PS3.7 D.3.3.2) in files and associations of this product. Never changes."""

IMPLEMENTATION_VERSION_NAME = "AINODE_1"
"""Implementation Version Name (PS3.7 D.3.3.2.3), at most 16 characters. Not the release: same work, same bytes."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The installed node as a device.

    Attributes
    ----------
    device_uid : str
        Device Observer UID, made once per installation and persisted; ``offline`` runs use :data:`OFFLINE`.
    name : str
        Station Name (SH, 16 characters) and Device Observer Name.
    serial_number : str
        Device Serial Number.
    software_version : str
        Version of this distribution.
    institution : str
        Institution Name, empty when not configured.
    timezone_offset : str
        ``&ZZXX`` (PS3.3 C.12.1.1.8) of the site, empty when unknown.
    """

    device_uid: str
    name: str
    serial_number: str
    software_version: str
    institution: str = ""
    timezone_offset: str = ""


OFFLINE = NodeIdentity(
    device_uid="2.25.263416017297171187230921349586430617633",
    name="OFFLINE",
    serial_number="offline",
    software_version="0.1.0",
)
