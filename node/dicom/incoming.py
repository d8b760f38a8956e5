"""A data set on its way from the network to the spool: straight to disk, so that memory stays flat.

pynetdicom collects every data set in memory before it calls a handler. Here the data set of a C-STORE request is a
stream over a spool part instead; whatever else a peer sends stays in memory, within a small limit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    UnifiedProcedureStepEvent,
    Verification,
)

from node.archive.familiar_headers import FamiliarHeaders
from node.archive.headers import UNREADABLE
from node.archive.part10 import file_meta_bytes
from node.archive.spool import Part, Spool
from node.dicom.connection import hard_close
from node.errors import ObjectRejected, SpoolError, SpoolFull

logger = logging.getLogger(__name__)

# N-EVENT-REPORT and N-ACTION data sets: 50 000 instances in a commitment message have some 8 MB, and become as many
# objects of the library. Of items that are empty there would be a million.
MAXIMUM_MEMORY_BYTES = 8 * 1024 * 1024
_MAXIMUM_ITEMS = 50_000
_ITEM_TAG = b"\xfe\xff\x00\xe0"
# A command set has some 250 bytes.
_LONGEST_COMMAND_BYTES = 64 * 1024
# Without an asynchronous operations window (PS3.7 D.3.3.3), which is not negotiated here, a peer waits for each answer.
_MOST_UNANSWERED = 16
_A_RESPONSE = 0x8000
_C_CANCEL_RQ = 0x0FFF


_NO_STORAGE = (
    Verification,
    StorageCommitmentPushModel,
    ModalityPerformedProcedureStep,
    InstanceAvailabilityNotification,
    UnifiedProcedureStepEvent,
)


class IncomingDataSet(BytesIO):
    """Takes the fragments of one message.

    A failure while the data set still arrives is kept and raised by :meth:`take`, because the peer is owed a status
    and can only read it after it has sent everything.
    """

    def __init__(self, begin: Callable[[], Part | None], *, limit_bytes: int, limit_seconds: float) -> None:
        super().__init__()
        self._begin = begin
        self._limit_bytes = limit_bytes
        self._limit_seconds = limit_seconds
        self._deadline = time.monotonic() + limit_seconds
        self._received = 0
        self._items = 0
        self._last_bytes = b""
        self._begun = False
        self._part: Part | None = None
        self._failure: Exception | None = None

    def write(self, data: Any) -> int:
        """Append a fragment.

        Raises
        ------
        ObjectRejected
            A message other than C-STORE is larger than any meaningful one, or any one takes too long; the association
            is then aborted.
        """
        self.check_time()
        size = len(data)
        self._received += size
        if not self._begun:
            self._begun = True
            self._attempt(self._open)
        if self._failure is not None:
            return size
        if self._part is None:
            # With the end of the fragment before: a tag may lie across.
            content = self._last_bytes + bytes(data)
            self._items += content.count(_ITEM_TAG)
            self._last_bytes = content[-3:]
            if self._received > MAXIMUM_MEMORY_BYTES or self._items > _MAXIMUM_ITEMS:
                raise ObjectRejected(
                    f"a message of more than {MAXIMUM_MEMORY_BYTES} bytes or {_MAXIMUM_ITEMS} items that stores nothing"
                )
            return super().write(data)
        if self._received > self._limit_bytes:
            self._fail(ObjectRejected(f"the object is larger than the {self._limit_bytes} bytes allowed"))
        else:
            self._attempt(lambda: self._append(data))
        return size

    def check_time(self) -> None:
        """Raise ObjectRejected when the message has been under way for too long."""
        if time.monotonic() > self._deadline:
            raise ObjectRejected(f"a message did not arrive completely within {self._limit_seconds:g} s")

    def take(self) -> Part:
        """The complete part; the caller commits or discards it.

        Raises
        ------
        SpoolFull, OSError
            It could not be written.
        ObjectRejected
            Too large, or there was no data set.
        """
        if self._failure is not None:
            raise self._failure
        if self._part is None:
            raise ObjectRejected("a C-STORE request without data set")
        return self._part

    def discard(self) -> None:
        """Forget what has arrived. Does nothing to a committed part."""
        if self._part is not None:
            self._part.discard()

    def _open(self) -> None:
        self._part = self._begin()

    def _append(self, data: Any) -> None:
        if self._part is not None:
            self._part.write_dataset(data)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (SpoolError, OSError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self.discard()


class _IncomingCommand(BytesIO):
    """Takes the fragments of a command set, of which pynetdicom would collect as many as come."""

    def __init__(self, check_time: Callable[[], None]) -> None:
        super().__init__()
        self._check_time = check_time

    def write(self, data: Any) -> int:
        """Append a fragment; ObjectRejected where there are too many, or it takes too long."""
        self._check_time()
        if self.tell() + len(data) > _LONGEST_COMMAND_BYTES:
            raise ObjectRejected(f"a command set of more than {_LONGEST_COMMAND_BYTES} bytes")
        return super().write(data)


class StreamingProvider(DIMSEServiceProvider):
    """pynetdicom's DIMSE provider with :class:`IncomingDataSet` in the place of a memory buffer.

    What it is asked, and has not answered yet, is bounded: each request that waits holds memory, a file or a thread.

    Parameters
    ----------
    association : Association
        The acceptor's.
    spool : Spool
    limit_bytes : int
        Largest data set of a C-STORE request.
    limit_seconds : float
        Longest time from the first fragment of a message to the last.
    """

    def __init__(self, association: Association, spool: Spool, *, limit_bytes: int, limit_seconds: float) -> None:
        super().__init__(association)
        self._spool = spool
        self._limit_bytes = limit_bytes
        self._limit_seconds = limit_seconds
        self._latest: IncomingDataSet | None = None
        self._headers = FamiliarHeaders()
        # Calling and called AE title, once the association stands.
        self._titles: tuple[str, str] | None = None
        self._counting = threading.Lock()
        self._unanswered = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """As the base class, with the data set streamed."""
        if self.message is None:
            message = DIMSEMessage()
            self._latest = self.incoming(lambda: self._begin(message))
            message.data_set = self._latest
            message.encoded_command_set = _IncomingCommand(self._latest.check_time)
            self.message = message
        current = self.message
        try:
            if self._unanswered >= _MOST_UNANSWERED:
                raise ObjectRejected(f"{_MOST_UNANSWERED} requests wait, and the peer sends more without an answer")
            super().receive_primitive(primitive)
            if self.message is None and _is_request(current):
                self._count(1)
        except ObjectRejected as error:
            self._give_up(str(error))
        except UNREADABLE as error:
            self._give_up(f"a command set that is none ({type(error).__name__})")

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """As the base class; a response makes room for another request."""
        super().send_msg(primitive, context_id)
        if getattr(primitive, "MessageIDBeingRespondedTo", None) is not None:
            self._count(-1)

    def incoming(self, begin: Callable[[], Part | None]) -> IncomingDataSet:
        """A data set within this association's limits."""
        return IncomingDataSet(begin, limit_bytes=self._limit_bytes, limit_seconds=self._limit_seconds)

    def begin_part(self, context: PresentationContext, *, sop_class_uid: str, sop_instance_uid: str) -> Part:
        """A part of the spool that has its file meta information.

        Raises
        ------
        ObjectRejected
            The UIDs are not ASCII, or the context was negotiated for another service.
        SpoolFull
            No file can be made, or written to.
        """
        if context.abstract_syntax in _NO_STORAGE:
            raise ObjectRejected("a C-STORE request on a context that is for no storage")
        transfer_syntax_uid = str(context.transfer_syntax[0])
        if self._titles is None:
            self._titles = str(self.assoc.requestor.ae_title).strip(), called_ae_title(self.assoc)
        sending, receiving = self._titles
        try:
            meta = file_meta_bytes(
                sop_class_uid=sop_class_uid,
                sop_instance_uid=sop_instance_uid,
                transfer_syntax_uid=transfer_syntax_uid,
                sending_ae_title=sending,
                receiving_ae_title=receiving,
            )
        except UnicodeEncodeError as error:
            raise ObjectRejected("the UIDs of the C-STORE request are not ASCII") from error
        try:
            part = self._spool.begin()
        except OSError as error:
            raise SpoolFull(f"no file can be made in the spool ({error.strerror})") from error
        part.transfer_syntax_uid = transfer_syntax_uid
        part.scan = self._headers.scan
        try:
            part.write(meta)
        except (SpoolError, OSError):
            part.discard()
            raise
        return part

    def discard(self) -> None:
        """Forget what never became complete, or was never looked at. Called when the association has ended."""
        if self._latest is not None:
            self._latest.discard()
        while self.msg_queue.qsize():
            _, request = self.msg_queue.get_nowait()
            if isinstance(data_set := getattr(request, "DataSet", None), IncomingDataSet):
                data_set.discard()

    def _give_up(self, reason: str) -> None:
        """Not by an abort: pynetdicom would go on reading for as long as this peer sends."""
        logger.warning("connection closed: %s", reason)
        self.discard()
        hard_close(self.assoc, reset=True)

    def _count(self, change: int) -> None:
        with self._counting:
            self._unanswered = max(0, self._unanswered + change)

    def _begin(self, message: DIMSEMessage) -> Part | None:
        if not isinstance(message, C_STORE_RQ):
            return None
        context = self.assoc._accepted_cx.get(message.context_id or 0)
        if context is None:
            raise ObjectRejected("a C-STORE request on a context that was not accepted")
        command = message.command_set
        try:
            named = (str(command.AffectedSOPClassUID), str(command.AffectedSOPInstanceUID))
        except AttributeError as error:
            raise ObjectRejected("the C-STORE request lacks its UIDs") from error
        return self.begin_part(context, sop_class_uid=named[0], sop_instance_uid=named[1])


def _is_request(message: DIMSEMessage) -> bool:
    """Whether a complete message wants an answer (PS3.7 annex E.1)."""
    field = int(message.command_set.CommandField)
    return not field & _A_RESPONSE and field != _C_CANCEL_RQ


def called_ae_title(association: Association) -> str:
    """The title the requestor asked for; one node may answer to several."""
    request = association.requestor.primitive
    return str(request.called_ae_title).strip() if request is not None else ""
