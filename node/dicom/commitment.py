"""Storage Commitment Push Model (PS3.4 annex J): asking for proof, and reading the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from node.dicom.association import ClientAssociation, Proposal
from node.errors import CommitmentFailed, NoPresentationContext, ObjectRejected, PeerBusy

REQUEST_COMMITMENT = 1  # PS3.4 table J.3-1, Action Type ID
ALL_COMMITTED = 1  # PS3.4 table J.3-2, Event Type ID
SOME_FAILED = 2
COMMITMENT_SOP_CLASS = str(StorageCommitmentPushModel)
COMMITMENT_PROPOSAL = Proposal(COMMITMENT_SOP_CLASS)

# PS3.3 C.14.1.1 Failure Reason.
FAILURE_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0213: "resource limitation",
    0x0122: "referenced SOP class not supported",
    0x0119: "class and instance conflict",
    0x0131: "duplicate transaction UID",
}
NOT_MENTIONED = 0x0112
# PS3.7 10.1.1.1.8, statuses of an N-EVENT-REPORT response.
SUCCESS = 0x0000
INVALID_ARGUMENT = 0x0115
PROCESSING_FAILURE = 0x0110


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance by class and UID."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentAnswer:
    """What the provider said.

    Attributes
    ----------
    committed : frozenset of str
        SOP Instance UIDs the provider is now responsible for.
    failed : dict
        SOP Instance UID → Failure Reason (PS3.3 C.14.1.1).
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: dict[str, int] = field(default_factory=dict)


def request_commitment(association: ClientAssociation, transaction_uid: str, references: Sequence[Reference]) -> None:
    """Ask the peer to take responsibility (N-ACTION, PS3.4 J.3.2). The answer comes later, by N-EVENT-REPORT.

    Parameters
    ----------
    association : ClientAssociation
        Open; its proposals held :data:`COMMITMENT_PROPOSAL`.
    transaction_uid : str
        Persisted by the caller before this call: the answer may arrive before it returns.

    Raises
    ------
    NoPresentationContext
        The peer offers no storage commitment.
    PeerBusy
        Refused for the moment (resource limitation, processing failure).
    CommitmentFailed
        Refused for good.
    NoResponse
        No status came back; whether the request arrived is not known.
    """
    if not association.accepts(COMMITMENT_SOP_CLASS):
        raise NoPresentationContext(
            f"{association.peer}: offers no storage commitment", sop_class_uid=COMMITMENT_SOP_CLASS
        )
    with association.exchange() as connection:
        response, _ = connection.send_n_action(
            information(transaction_uid, references),
            REQUEST_COMMITMENT,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
    status = association.status_of(response, "the request for storage commitment")
    if status in (0x0110, 0x0213) or status >> 8 == 0xA7:
        raise PeerBusy(f"{association.peer}: cannot take a commitment request now (0x{status:04X})", status=status)
    if status != 0x0000:
        raise CommitmentFailed(f"{association.peer}: refused the commitment request (0x{status:04X})", status=status)


def information(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """Action information of a request, and event information of an answer where all succeeded."""
    dataset = Dataset()
    dataset.TransactionUID = UID(transaction_uid)
    dataset.ReferencedSOPSequence = DicomSequence(_item(reference) for reference in references)
    return dataset


def failure_information(
    transaction_uid: str, committed: Sequence[Reference], failed: Sequence[tuple[Reference, int]]
) -> Dataset:
    """Event information of an answer with failures (PS3.4 table J.3-2, event type 2)."""
    dataset = information(transaction_uid, committed)
    if not committed:
        del dataset.ReferencedSOPSequence
    items = []
    for reference, reason in failed:
        item = _item(reference)
        item.FailureReason = reason
        items.append(item)
    dataset.FailedSOPSequence = DicomSequence(items)
    return dataset


def send_answer(association: ClientAssociation, content: Dataset, event_type: int) -> None:
    """Report to a requestor on an association of our own (N-EVENT-REPORT, PS3.4 J.3.3).

    Raises
    ------
    PeerBusy
        It did not take the report.
    NoResponse
        No status came back.
    """
    with association.exchange() as connection:
        response, _ = connection.send_n_event_report(
            content, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    status = association.status_of(response, "the commitment answer")
    if status != SUCCESS:
        raise PeerBusy(f"{association.peer}: did not take the commitment answer (0x{status:04X})", status=status)


def references_of(dataset: Dataset) -> list[Reference]:
    """Referenced SOP Sequence as references.

    Raises
    ------
    ObjectRejected
        An item lacks its class or instance UID.
    """
    try:
        return [
            Reference(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
            for item in dataset.get("ReferencedSOPSequence") or ()
        ]
    except AttributeError as error:
        raise ObjectRejected("a Referenced SOP Sequence item lacks a UID") from error


def read_answer(dataset: Dataset) -> CommitmentAnswer:
    """Event information as a typed answer. The event type is not needed: the sequences say it all.

    Raises
    ------
    ObjectRejected
        No Transaction UID, or an item without its UIDs: the answer cannot be used.
    """
    transaction_uid = str(dataset.get("TransactionUID", ""))
    if not transaction_uid:
        raise ObjectRejected("a storage commitment answer without Transaction UID")
    try:
        failed = {
            str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason", NOT_MENTIONED))
            for item in dataset.get("FailedSOPSequence") or ()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ObjectRejected("a Failed SOP Sequence item lacks a UID or a readable reason") from error
    committed = frozenset(reference.sop_instance_uid for reference in references_of(dataset))
    # An instance in both lists is not proven.
    return CommitmentAnswer(transaction_uid, committed - failed.keys(), failed)


def answer_handler(take: Callable[[CommitmentAnswer], int]) -> tuple[Any, Callable[[evt.Event], tuple[int, None]]]:
    """Event and handler for :class:`ClientAssociation` where answers come on the association of the request.

    Parameters
    ----------
    take : callable
        Records an answer and returns the DIMSE status of the N-EVENT-REPORT response. It runs in a thread of its
        own.
    """

    def handle(event: evt.Event) -> tuple[int, None]:
        try:
            answer = read_answer(event.event_information)
        except ObjectRejected:
            return INVALID_ARGUMENT, None
        return take(answer), None

    return evt.EVT_N_EVENT_REPORT, handle


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(reference.sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(reference.sop_instance_uid)
    return item
