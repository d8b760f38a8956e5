"""The archive that is asked for earlier studies, to be recognised when it sends them."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from functools import cached_property

from node.dicom.connection import plain_address
from node.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AskedArchive:
    """AE title and host of the destination that ``priors.archive`` names."""

    ae_title: str
    host: str

    @classmethod
    def of(cls, settings: Settings) -> AskedArchive | None:
        """None where no archive is asked, or none by DICOM."""
        archive = settings.destination.get(settings.priors.archive or "")
        return cls(archive.ae_title, archive.host) if archive is not None and archive.host else None

    def sends_as(self, calling_ae_title: str, address: str) -> bool:
        """Whether a sender is this archive: by its title, or by where it comes from."""
        return calling_ae_title == self.ae_title or address in self._addresses

    @cached_property
    def _addresses(self) -> frozenset[str]:
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            logger.warning("the address of the archive of earlier studies is unknown (%s)", error.strerror)
            return frozenset()
        return frozenset(plain_address(str(each[4][0])) for each in found)
