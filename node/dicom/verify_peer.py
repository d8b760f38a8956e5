"""What a peer accepts and how fast it answers: the facts behind ``ainode verify-peer``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.commitment import COMMITMENT_PROPOSAL
from node.dicom.query import FIND_PROPOSAL

# What this node's results are, and what proves them.
RESULT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR Storage
    "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text SR Storage
)
_VERIFICATION = str(Verification)


@dataclass(frozen=True, slots=True)
class ContextReport:
    """One SOP class as the peer sees it; ``transfer_syntax`` is None where it was not accepted."""

    abstract_syntax: str
    transfer_syntax: str | None

    @property
    def name(self) -> str:
        """Name of the SOP class, or its UID where it has none."""
        return UID(self.abstract_syntax).name


@dataclass(frozen=True, slots=True)
class PeerReport:
    """Result of :func:`verify_peer`, times in seconds.

    Attributes
    ----------
    echo_seconds : float or None
        Round trip of the C-ECHO, None when the peer does not accept the Verification class.
    echo_status : int or None
        0x0000 is success.
    """

    association_seconds: float
    echo_seconds: float | None
    echo_status: int | None
    contexts: tuple[ContextReport, ...]


def verify_peer(peer: Peer, *, sop_classes: Sequence[str] = RESULT_CLASSES) -> PeerReport:
    """Open an association, ask what is accepted, send a C-ECHO.

    Raises
    ------
    PeerUnreachable, NoPresentationContext, NoResponse
        As :class:`ClientAssociation` and its exchanges.
    """
    proposals = [Proposal(_VERIFICATION), *map(Proposal, sop_classes), COMMITMENT_PROPOSAL, FIND_PROPOSAL]
    with ClientAssociation(peer, proposals) as association:
        accepted = dict(association.accepted)
        seconds: float | None = None
        status: int | None = None
        if _VERIFICATION in accepted:
            started = time.monotonic()
            with association.exchange() as connection:
                response = connection.send_c_echo()
            seconds = time.monotonic() - started
            status = association.status_of(response, "C-ECHO")
        return PeerReport(
            association_seconds=association.negotiation_seconds,
            echo_seconds=seconds,
            echo_status=status,
            contexts=tuple(ContextReport(p.abstract_syntax, accepted.get(p.abstract_syntax)) for p in proposals),
        )
