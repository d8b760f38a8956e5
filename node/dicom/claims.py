"""What this node negotiates, read from the very lists the receiver and the clients use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import UnifiedProcedureStepEvent, Verification  # type: ignore[attr-defined]

from node.dicom.association import PLAIN_TRANSFER_SYNTAXES, Proposal
from node.dicom.availability import IAN_SOP_CLASS
from node.dicom.commitment import COMMITMENT_PROPOSAL
from node.dicom.evidence_scp import evidence_contexts
from node.dicom.query import FIND_PROPOSAL
from node.dicom.retrieve import GET_SOP_CLASS, MOVE_SOP_CLASS, STORED_CLASSES, STORED_SYNTAXES
from node.dicom.storage_scp import supported_contexts
from node.dicom.verify_peer import SYNTAXES
from node.dicom.workitem_events import event_contexts
from node.dicom.workitem_scu import PULL_PROPOSAL, WATCH_PROPOSAL
from node.dicom.worklist import WORKLIST_PROPOSAL
from node.settings import CANARY, Settings

_EVENT = str(UnifiedProcedureStepEvent)
_ROOT = "1.2.840.10008.5.1.4.1.1."


@dataclass(frozen=True, slots=True)
class Claim:
    """One SOP class as this node negotiates it.

    Attributes
    ----------
    service : str
        Service class, for people.
    sop_class_uid : str
    transfer_syntaxes : tuple of str
    as_scu, as_scp : bool
        Roles of this node.
    """

    service: str
    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]
    as_scu: bool = False
    as_scp: bool = False

    @property
    def name(self) -> str:
        """Name of the SOP class."""
        return UID(self.sop_class_uid).name

    @property
    def roles(self) -> str:
        """As PS3.2 writes them."""
        return "/".join([*(["SCU"] if self.as_scu else []), *(["SCP"] if self.as_scp else [])])


def accepted_services(settings: Settings) -> list[Claim]:
    """Everything but storage that the receiver accepts, with this node's role."""
    found = [*supported_contexts(), *evidence_contexts(settings.evidence), *event_contexts(settings)]
    return [_accepted(context) for context in found]


def accepted_storage() -> tuple[list[str], list[str]]:
    """SOP classes and transfer syntaxes the receiver stores; private and newer ones are accepted too."""
    classes = sorted({str(each.abstract_syntax) for each in AllStoragePresentationContexts}, key=_in_order)
    return classes, [str(each) for each in AllTransferSyntaxes]


def _accepted(context: PresentationContext) -> Claim:
    uid = str(context.abstract_syntax)
    syntaxes = tuple(str(each) for each in context.transfer_syntax)
    # Commitment and events of workitems: the peer that tells us is the SCP, and opens the association.
    return Claim(_SERVICES.get(uid, ""), uid, syntaxes, as_scu=bool(context.scu_role), as_scp=uid != _EVENT)


def proposed_services(settings: Settings) -> list[Claim]:
    """Everything but storage that this node proposes, as far as the configuration makes it do so."""
    dicom = {name: each for name, each in settings.destination.items() if not each.url and name != CANARY}
    sources = {
        settings.priors.archive,
        settings.reconcile.archive if settings.reconcile.fetch else None,
        *settings.watch,
        *(each.archive for each in settings.workitems.values()),
        *(each.archive for each in settings.prompt),
    }
    asked = {
        settings.arrival.archive,
        settings.evidence.commitment_archive,
        settings.reconcile.archive,
        settings.retention.archive,
    }
    # Archives may speak DICOMweb only: these are asked by QIDO-RS.
    archives, fetches = (sources | asked) & dicom.keys(), bool(sources & dicom.keys())
    managers = [each for each in settings.workitems.values() if not each.url]
    wanted: list[tuple[bool, Proposal]] = [
        (bool(dicom), Proposal(str(Verification))),
        (any(each.commitment for each in dicom.values()), COMMITMENT_PROPOSAL),
        (any(each.verify for each in dicom.values()) or bool(archives), FIND_PROPOSAL),
        (fetches, Proposal(MOVE_SOP_CLASS)),
        (fetches, Proposal(GET_SOP_CLASS)),
        (bool(settings.worklist), WORKLIST_PROPOSAL),
        (bool(managers), PULL_PROPOSAL),
        (any(each.events for each in managers), WATCH_PROPOSAL),
        (any(each.availability for each in settings.destination.values()), Proposal(IAN_SOP_CLASS)),
    ]
    found = [_proposed(proposal) for holds, proposal in wanted if holds]
    if settings.evidence.answer_commitment:
        found.append(
            Claim(
                _SERVICES[COMMITMENT_PROPOSAL.abstract_syntax],
                COMMITMENT_PROPOSAL.abstract_syntax,
                PLAIN_TRANSFER_SYNTAXES,
                as_scp=True,
            )
        )
    return found


def retrieved_storage() -> tuple[list[str], list[str]]:
    """SOP classes and transfer syntaxes proposed, as SCP, together with C-GET."""
    return [_ROOT + tail for tail in STORED_CLASSES], list(STORED_SYNTAXES)


def sent_syntaxes() -> Sequence[str]:
    """Transfer syntaxes results are offered in."""
    return SYNTAXES


def _proposed(proposal: Proposal) -> Claim:
    return Claim(
        _SERVICES.get(proposal.abstract_syntax, ""), proposal.abstract_syntax, proposal.transfer_syntaxes, as_scu=True
    )


def _in_order(uid: str) -> list[int]:
    return [int(part) for part in uid.split(".")]


_SERVICES = {
    str(Verification): "Verification",
    COMMITMENT_PROPOSAL.abstract_syntax: "Storage Commitment",
    FIND_PROPOSAL.abstract_syntax: "Query/Retrieve",
    MOVE_SOP_CLASS: "Query/Retrieve",
    GET_SOP_CLASS: "Query/Retrieve",
    WORKLIST_PROPOSAL.abstract_syntax: "Basic Worklist Management",
    IAN_SOP_CLASS: "Instance Availability Notification",
    "1.2.840.10008.3.1.2.3.3": "Modality Performed Procedure Step",
    PULL_PROPOSAL.abstract_syntax: "Unified Worklist and Procedure Step",
    WATCH_PROPOSAL.abstract_syntax: "Unified Worklist and Procedure Step",
    _EVENT: "Unified Worklist and Procedure Step",
}
