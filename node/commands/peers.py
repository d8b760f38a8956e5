"""Names of peers on the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from node.errors import UsageError

if TYPE_CHECKING:
    from node.dicom.association import Peer
    from node.settings import Settings

_ADDRESS = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>.+):(?P<port>\d{1,5})")


def peer_of(settings: Settings, name: str) -> Peer:
    """A destination of node.toml by name, or a peer given as ``AE_TITLE@HOST:PORT``.

    Raises
    ------
    UsageError
        There is no such destination, or it is a DICOMweb server.
    """
    from node.dicom.association import Peer

    if name in settings.destination and settings.destination[name].url:
        raise UsageError(f"[destination.{name}] is a DICOMweb server; this command speaks DICOM only")
    if name in settings.destination:
        return Peer.of(settings.destination[name], settings.node.ae_title)
    if given := _ADDRESS.fullmatch(name):
        return Peer(
            ae_title=given["title"],
            host=given["host"].strip("[]"),
            port=int(given["port"]),
            calling_ae_title=settings.node.ae_title,
        )
    known = ", ".join(settings.destination) or "none"
    raise UsageError(f"there is no [destination.{name}] (known: {known}), and it has not the form AE_TITLE@HOST:PORT")
