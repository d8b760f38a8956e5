"""The receiving lane: C-STORE data goes from the connection into its file in the association's own thread.

pynetdicom keeps negotiation, release and every other service. It hands each PDU through queues, threads and data
sets, which costs ten times what the work itself does. Where an association is established and a plain C-STORE request
comes next, the lane takes the whole message instead: fragments are moved together in the buffer they were read into,
hashed and written from there, and answered with a few bytes made by hand. A plain C-ECHO is answered likewise. Nothing
of a data set is held longer, and whatever is not a plain request is left in the buffer, untouched, for pynetdicom.

The lane also waits where pynetdicom's two threads look around a thousand times a second.

Underscored names of pynetdicom are used here and in ``lane_socket``; :func:`contract_violations` checks at start-up
that the installed version has and uses them. Where it does not, pynetdicom does everything by itself.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections.abc import Callable
from typing import cast

import pynetdicom
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket

from node.dicom.filing import Answer
from node.dicom.incoming import IncomingDataSet, StreamingProvider
from node.dicom.lane_socket import TICK_SECONDS, LaneSocket, TellingQueue
from node.dicom.store_command import (
    EchoRequest,
    StoreRequest,
    echo_response,
    read_echo_request,
    read_store_request,
    store_response,
)
from node.errors import ObjectRejected

logger = logging.getLogger(__name__)

MADE_FOR = "3.0."
"""Versions of pynetdicom whose inside is known here."""

_ESTABLISHED = "Sta6"
_P_DATA = 0x04
_PDU_HEADER_BYTES = _FRAGMENT_HEADER_BYTES = 6
# A C-STORE-RQ has some 250 bytes; what is longer is odd.
_LONGEST_COMMAND_BYTES = 4096
_COMMAND, _LAST = 0x01, 0x02
_heads = struct.Struct(">BBIIBB").unpack_from

FileInstance = Callable[[IncomingDataSet, StoreRequest], Answer]
"""Files a completely received instance; used up, whatever the answer."""


class _Violation(Exception):
    """The peer broke the upper layer protocol (PS3.8): its association is aborted."""


class _Interrupted(Exception):
    """Something else than data came in the middle of a data set, and still lies in the buffer."""


class _LaneProvider(DULServiceProvider):
    """pynetdicom's upper layer with the lane before its reading."""

    lane: ReceivingLane

    def _read_pdu_data(self) -> None:
        if not self.lane.take():
            super()._read_pdu_data()


class ReceivingLane:
    """The lane of one association.

    Parameters
    ----------
    association : Association
        An acceptor's, connected, not started, with a StreamingProvider.
    file_instance : callable
    """

    def __init__(self, association: Association, file_instance: FileInstance) -> None:
        self._association = association
        self._reception = cast(StreamingProvider, association.dimse)
        self._file_instance = file_instance
        self._wire = LaneSocket.take_over(association)
        # True while a message is under way: silence is then the connection's own time limit to judge.
        self.busy = False
        upper_layer = association.dul
        upper_layer.__class__ = _LaneProvider
        cast(_LaneProvider, upper_layer).lane = self
        # The waiting is done in LaneSocket.ready and in the checkpoint.
        upper_layer._run_loop_delay = 0.0
        checkpoint = _Checkpoint(self)
        association._reactor_checkpoint = checkpoint
        upper_layer.to_provider_queue = TellingQueue(self._wire.wake)
        upper_layer.to_user_queue = TellingQueue(checkpoint.set)
        association.dimse.msg_queue = TellingQueue(checkpoint.set)

    def close(self) -> None:
        """Release what the lane holds. Called when the association has ended."""
        if not self._association.dul.is_alive():
            self._wire.dispose()

    def has_news(self) -> bool:
        """Whether the association's reactor has something to look at."""
        return bool(self._association.dimse.msg_queue.qsize() or self._association.dul.to_user_queue.qsize())

    def take(self) -> bool:
        """Take messages as long as they are the lane's; False leaves the next, or what else comes, to pynetdicom."""
        upper_layer = self._association.dul
        if upper_layer.state_machine.current_state != _ESTABLISHED or self._reception.message is not None:
            return False
        while self._take_one():
            if not self._next_is_near():
                return True
        return False

    def _take_one(self) -> bool:
        """Take the next message; False where it is not the lane's."""
        upper_layer = self._association.dul
        self.busy = True
        try:
            request = self._request()
            if request is None:
                return False
            if isinstance(request, EchoRequest):
                self._wire.answer(echo_response(request))
            else:
                self._store(request)
        except _Interrupted:
            return False
        except (_Violation, ObjectRejected) as error:
            logger.warning("association aborted: %s", error)
            self._wire.spoil()
            upper_layer.event_queue.put("Evt19")
        except OSError as error:
            logger.info("association lost: %s", error)
            upper_layer.event_queue.put("Evt17")
        finally:
            upper_layer._idle_timer.restart()
            self.busy = False
        return True

    def _next_is_near(self) -> bool:
        """Wait a moment for the next message; False where pynetdicom has something to do, or nothing came.

        pynetdicom's own turn gives the processor away each time, which costs as much as receiving a small image.
        """
        upper_layer = self._association.dul
        if not upper_layer.event_queue.empty() or upper_layer.to_provider_queue.qsize() or upper_layer._kill_thread:
            return False
        return self._wire.ready

    def _request(self) -> StoreRequest | EchoRequest | None:
        """The request next in the buffer, read over; None, and nothing read over, where something else is next."""
        wire = self._wire
        wire.begin()
        if wire.view[wire.start] != _P_DATA:
            return None
        wire.need(_PDU_HEADER_BYTES + _FRAGMENT_HEADER_BYTES)
        at = wire.start + _PDU_HEADER_BYTES
        self._pdu_left = self._pdu_length(wire.start)
        length, context_id, control = self._fragment(at)
        if control & (_COMMAND | _LAST) != _COMMAND | _LAST or length > _LONGEST_COMMAND_BYTES:
            return None
        whole = _PDU_HEADER_BYTES + _FRAGMENT_HEADER_BYTES + length
        wire.need(whole)
        command = bytes(wire.view[wire.start + whole - length : wire.start + whole])
        request = read_store_request(command, context_id) or read_echo_request(command, context_id)
        context = self._association._accepted_cx.get(context_id)
        if request is None or context is None:
            return None
        if isinstance(request, EchoRequest) and not (
            context.abstract_syntax == Verification and self._pdu_left == _FRAGMENT_HEADER_BYTES + length
        ):
            return None
        wire.start += whole
        self._pdu_left -= _FRAGMENT_HEADER_BYTES + length
        return request

    def _store(self, request: StoreRequest) -> None:
        context = self._association._accepted_cx[request.context_id]
        incoming = self._reception.incoming(
            lambda: self._reception.begin_part(
                context, sop_class_uid=request.sop_class_uid, sop_instance_uid=request.sop_instance_uid
            )
        )
        try:
            self._receive(incoming, request.context_id)
            answer = self._file_instance(incoming, request)
        finally:
            incoming.discard()
        self._wire.answer(store_response(request, answer.status, answer.comment))

    def _receive(self, incoming: IncomingDataSet, context_id: int) -> None:
        """Read the fragments of one data set (PS3.8 annex E) into ``incoming``.

        Payload is moved down over the headers between it, and written when the buffer is nearly full: peers send 16 KiB
        at a time, and each piece hashed and written by itself costs as much as a large one.
        """
        wire = self._wire
        view = wire.view
        begin = put = wire.start
        fragment_left, last = 0, False
        while True:
            if fragment_left:
                count = min(fragment_left, wire.end - wire.start)
                if put != wire.start:
                    view[put : put + count] = view[wire.start : wire.start + count]
                put += count
                wire.start += count
                fragment_left -= count
            if not fragment_left and last:
                break
            header = _FRAGMENT_HEADER_BYTES if self._pdu_left else _PDU_HEADER_BYTES
            if fragment_left or wire.end - wire.start < header:
                incoming.check_time()
                if wire.has_room:
                    wire.fill_on()
                    continue
                incoming.write(view[begin:put])
                wire.fill()
                begin = put = wire.start
            elif self._pdu_left:
                fragment_left, last = self._data_fragment(context_id)
            else:
                fragment_left, last = self._next_pdu(context_id) or (0, False)
        incoming.write(view[begin:put])
        if self._pdu_left:
            raise _Violation("a PDU goes on behind the last fragment of a data set")

    def _next_pdu(self, context_id: int) -> tuple[int, bool] | None:
        """Read over the header of the next PDU of a data set, and of its fragment where there is but one.

        Returns
        -------
        tuple or None
            As :meth:`_data_fragment`; None where the fragment's header is yet to be read.
        """
        wire = self._wire
        if wire.end - wire.start >= _PDU_HEADER_BYTES + _FRAGMENT_HEADER_BYTES:
            kind, _, whole, length, context, control = _heads(wire.view, wire.start)
            # As nearly every PDU is; all others, wrong ones too, are looked at step by step.
            plain = kind == _P_DATA and whole == length + 4 <= wire.maximum_bytes and length >= 2
            if plain and context == context_id and not control & _COMMAND:
                wire.start += _PDU_HEADER_BYTES + _FRAGMENT_HEADER_BYTES
                self._pdu_left = 0
                return length - 2, bool(control & _LAST)
        if wire.view[wire.start] != _P_DATA:
            # An abort, most likely: the data set is given up and pynetdicom hears what comes.
            raise _Interrupted
        self._pdu_left = self._pdu_length(wire.start)
        wire.start += _PDU_HEADER_BYTES
        return None

    def _data_fragment(self, context_id: int) -> tuple[int, bool]:
        """Read over the header of a data fragment; return how much follows and whether it is the last."""
        length, context, control = self._fragment(self._wire.start)
        if control & _COMMAND or context != context_id:
            raise _Violation("a data set is interrupted by another message")
        self._wire.start += _FRAGMENT_HEADER_BYTES
        self._pdu_left -= _FRAGMENT_HEADER_BYTES + length
        return length, bool(control & _LAST)

    def _pdu_length(self, at: int) -> int:
        """Length of a P-DATA-TF PDU's content, from its header (PS3.8 9.3.5)."""
        length = int.from_bytes(self._wire.view[at + 2 : at + 6], "big")
        if not _FRAGMENT_HEADER_BYTES <= length <= self._wire.maximum_bytes:
            raise _Violation(f"a P-DATA PDU of {length} bytes announced, {self._wire.maximum_bytes} allowed")
        return length

    def _fragment(self, at: int) -> tuple[int, int, int]:
        """Payload length, context ID and control header of a fragment that must lie within its PDU."""
        view = self._wire.view
        length = int.from_bytes(view[at : at + 4], "big")
        if not 2 <= length <= self._pdu_left - 4:
            raise _Violation(f"a fragment of {length} bytes announced where {self._pdu_left} bytes of its PDU are left")
        return length - 2, view[at + 4], view[at + 5]


class _Checkpoint(threading.Event):
    """Stands in for the reactor's checkpoint: holds the reactor until there is news for it, or a tick has passed."""

    def __init__(self, lane: ReceivingLane) -> None:
        super().__init__()
        self._lane = lane

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for news. A message under way in the lane keeps the reactor from measuring silence meanwhile."""
        while not self._lane.has_news() and not super().wait(TICK_SECONDS) and self._lane.busy:
            continue
        self.clear()
        return True


def contract_violations() -> list[str]:
    """What the lane needs of pynetdicom and the system, and does not find; empty where it can work."""
    found = [] if pynetdicom.__version__.startswith(MADE_FOR) else [f"version {pynetdicom.__version__}"]
    association = Association(AE(), "acceptor")
    owners: tuple[tuple[object, str], ...] = (
        (os, "eventfd"),
        (association, "_reactor_checkpoint"),
        (association, "_accepted_cx"),
        (association, "_kill"),
        (association.dimse, "msg_queue"),
        (association.dimse, "message"),
        (association.dul, "_run_loop_delay"),
        (association.dul, "_idle_timer"),
        (association.dul, "_kill_thread"),
        (association.dul, "event_queue"),
        (association.dul, "to_provider_queue"),
        (association.dul, "to_user_queue"),
        (association.dul, "state_machine"),
        (AssociationSocket, "ready"),
        (AssociationSocket, "recv"),
        (AssociationSocket, "event_queue"),
    )
    found += [f"{name} is missing" for owner, name in owners if not hasattr(owner, name)]
    # Being there is not enough: these are what the library must still call, wait for, and read.
    uses: tuple[tuple[type, str, str], ...] = (
        (DULServiceProvider, "_is_transport_event", "_read_pdu_data"),
        (DULServiceProvider, "_is_transport_event", "ready"),
        (DULServiceProvider, "run_reactor", "_run_loop_delay"),
        (DULServiceProvider, "_process_recv_primitive", "to_provider_queue"),
        (DULServiceProvider, "send_pdu", "to_provider_queue"),
        (DULServiceProvider, "receive_pdu", "to_user_queue"),
        (Association, "_run_reactor", "_reactor_checkpoint"),
        (Association, "kill", "_reactor_checkpoint"),
        (AssociationSocket, "close", "_is_connected"),
    )
    for owner, method, name in uses:
        code = getattr(getattr(owner, method, None), "__code__", None)
        if code is None or name not in code.co_names:
            found.append(f"{owner.__name__}.{method} does not use {name}")
    return found
