"""What a peer accepts and how fast it answers: the facts behind ``ainode verify-peer``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.commitment import COMMITMENT_PROPOSAL
from node.dicom.query import FIND_PROPOSAL

# What this node's results are.
RESULT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR Storage
    "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text SR Storage
)
# What stands in for them where a peer refuses one.
OTHER_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR Storage
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR Storage
    "1.2.840.10008.5.1.4.1.1.88.59",  # Key Object Selection Document Storage
    "1.2.840.10008.5.1.4.1.1.11.1",  # Grayscale Softcopy Presentation State Storage
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage
    "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color Secondary Capture Image Storage
    "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF Storage
    "1.2.840.10008.5.1.4.1.1.481.3",  # RT Structure Set Storage
    "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map Storage
)
SYNTAXES = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian), str(RLELossless))
_VERIFICATION = str(Verification)
# Not in every installed dictionary.
_NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
_ECHOES = 5


@dataclass(frozen=True, slots=True)
class ContextReport:
    """One SOP class as the peer sees it.

    Attributes
    ----------
    transfer_syntaxes : tuple of str
        Those accepted, of those asked for; empty where the class is refused.
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the SOP class, or its UID where it has none."""
        return _NAMES.get(self.abstract_syntax) or UID(self.abstract_syntax).name

    @property
    def transfer_syntax(self) -> str | None:
        """The first accepted; None where the class is refused."""
        return self.transfer_syntaxes[0] if self.transfer_syntaxes else None


@dataclass(frozen=True, slots=True)
class PeerReport:
    """Result of :func:`verify_peer`, times in seconds.

    Attributes
    ----------
    echo_seconds : float or None
        Median round trip of a C-ECHO, None when the peer does not accept the Verification class.
    echo_status : int or None
        0x0000 is success.
    """

    association_seconds: float
    echo_seconds: float | None
    echo_status: int | None
    contexts: tuple[ContextReport, ...]

    @property
    def storage(self) -> Mapping[str, tuple[str, ...]]:
        """Storage SOP Class UID → transfer syntaxes accepted, for every class asked for."""
        classes = (*RESULT_CLASSES, *OTHER_CLASSES)
        return {
            each.abstract_syntax: each.transfer_syntaxes for each in self.contexts if each.abstract_syntax in classes
        }

    def accepts(self, abstract_syntax: str) -> bool:
        """Whether any context for a SOP class was accepted."""
        return any(each.transfer_syntaxes for each in self.contexts if each.abstract_syntax == abstract_syntax)


def verify_peer(peer: Peer, *, sop_classes: Sequence[str] = (*RESULT_CLASSES, *OTHER_CLASSES)) -> PeerReport:
    """Open an association, ask for each class and transfer syntax whether it is accepted, send C-ECHOs.

    Raises
    ------
    PeerUnreachable, NoPresentationContext, NoResponse
        As :class:`ClientAssociation` and its exchanges.
    """
    # One context for each syntax: a peer answers a context with one of the syntaxes only.
    storage = [Proposal(each, (syntax,)) for each in sop_classes for syntax in SYNTAXES]
    proposals = [Proposal(_VERIFICATION), *storage, COMMITMENT_PROPOSAL, FIND_PROPOSAL]
    with ClientAssociation(peer, proposals) as association:
        accepted: dict[str, list[str]] = {}
        for abstract, transfer in association.accepted:
            accepted.setdefault(abstract, []).append(transfer)
        seconds, status = _echo(association) if _VERIFICATION in accepted else (None, None)
        asked = dict.fromkeys(proposal.abstract_syntax for proposal in proposals)
        return PeerReport(
            association_seconds=association.negotiation_seconds,
            echo_seconds=seconds,
            echo_status=status,
            contexts=tuple(ContextReport(abstract, tuple(accepted.get(abstract, ()))) for abstract in asked),
        )


def _echo(association: ClientAssociation) -> tuple[float, int]:
    taken, status = [], 0
    for _ in range(_ECHOES):
        started = time.monotonic()
        with association.exchange() as connection:
            response = connection.send_c_echo()
        taken.append(time.monotonic() - started)
        status = status or association.status_of(response, "C-ECHO")
    return statistics.median(taken), status
