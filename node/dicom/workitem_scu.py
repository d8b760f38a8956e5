"""Workitems by DIMSE: Unified Procedure Step Pull as a user (PS3.4 CC.2)."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepWatch,
)

from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.query import find
from node.dicom.workitem_data import claim_information, search_identifier
from node.errors import NoPresentationContext
from node.settings import WorkitemsSection
from node.workitem import StepState
from node.workitem_manager import EVERY_WORKITEM, Reply

# N-SET, N-GET and N-ACTION name the class Push, whatever class the context is for (PS3.4 CC.3.1).
_CLASS = UID(str(UnifiedProcedureStepPush))
_CONTEXT = UID(str(UnifiedProcedureStepPull))
_WATCH = UID(str(UnifiedProcedureStepWatch))
_CHANGE_STATE = 1
_SUBSCRIBE = 3
PULL_PROPOSAL, WATCH_PROPOSAL = Proposal(str(_CONTEXT)), Proposal(str(_WATCH))
# PS3.4 tables CC.2.1-2 and CC.2.6-2. Warnings 0xB304 and 0xB306 say that it is so already.
_REPLIES = {
    0x0000: Reply.DONE,
    0x0001: Reply.DONE,
    0xB304: Reply.DONE,
    0xB305: Reply.DONE,
    0xB306: Reply.DONE,
    0x0107: Reply.DONE,
    0x0116: Reply.DONE,
    0xC300: Reply.ENDED,
    0xC301: Reply.TAKEN,
    0xC302: Reply.TAKEN,
    0xC307: Reply.UNKNOWN,
    0x0112: Reply.UNKNOWN,
    0xC310: Reply.NOT_CLAIMED,
    0xC311: Reply.ENDED,
}


def peer_of(section: WorkitemsSection, own_ae_title: str) -> Peer:
    """The peer that a ``[workitems.NAME]`` section describes."""
    assert section.ae_title is not None and section.port is not None  # the settings hold all three or a url
    return Peer(
        ae_title=section.ae_title,
        host=section.host,
        port=section.port,
        calling_ae_title=section.calling_ae_title or own_ae_title,
        connect_timeout_seconds=section.connect_timeout_seconds,
        response_timeout_seconds=section.response_timeout_seconds,
        tls=section.tls,
        username=section.username,
        passcode_file=section.passcode_file,
    )


class WorkitemScu:
    """A manager reached by DIMSE; see :class:`node.workitem_manager.WorkitemManager`."""

    def __init__(self, peer: Peer) -> None:
        self._association = ClientAssociation(peer, [PULL_PROPOSAL, WATCH_PROPOSAL])

    def __enter__(self) -> Self:
        self._association.__enter__()
        if not self._association.accepts(str(_CONTEXT)):
            raise NoPresentationContext(
                f"{self._association.peer}: offers no {_CONTEXT.name}", sop_class_uid=str(_CONTEXT)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._association.__exit__(kind, error, trace)

    def subscribe(self, ae_title: str) -> bool:
        """Have events of every workitem sent to an AE (PS3.4 CC.2.3); False where this manager does not."""
        if not self._association.accepts(str(_WATCH)):
            return False
        content = Dataset()
        content.ReceivingAE, content.DeletionLock = ae_title, "FALSE"
        with self._association.exchange() as association:
            response, _ = association.send_n_action(content, _SUBSCRIBE, _CLASS, UID(EVERY_WORKITEM), meta_uid=_WATCH)
        return self._reply(response, "N-ACTION") is Reply.DONE

    def search(self, limit: int) -> list[Dataset]:
        return find(self._association, search_identifier(), model=str(_CONTEXT), limit=limit)[:limit]

    def retrieve(self, uid: str) -> Dataset | None:
        with self._association.exchange() as association:
            response, content = association.send_n_get([], _CLASS, UID(uid), meta_uid=_CONTEXT)
        return content if self._reply(response, "N-GET") is Reply.DONE else None

    def change_state(self, uid: str, transaction_uid: str, state: StepState) -> Reply:
        content = claim_information(transaction_uid, state)
        with self._association.exchange() as association:
            response, _ = association.send_n_action(content, _CHANGE_STATE, _CLASS, UID(uid), meta_uid=_CONTEXT)
        return self._reply(response, "N-ACTION")

    def update(self, uid: str, transaction_uid: str, content: Dataset) -> Reply:
        content.TransactionUID = UID(transaction_uid)
        with self._association.exchange() as association:
            response, _ = association.send_n_set(content, _CLASS, UID(uid), meta_uid=_CONTEXT)
        return self._reply(response, "N-SET")

    def _reply(self, response: Dataset, what: str) -> Reply:
        return _REPLIES.get(self._association.status_of(response, what), Reply.REFUSED)
