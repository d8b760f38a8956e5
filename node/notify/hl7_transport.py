"""HL7 v2 over MLLP: a message is delivered when its own acknowledgement says that it was accepted."""

from __future__ import annotations

import time

from node.errors import NoResponse, NotificationRefused, PeerBusy
from node.notify import hl7_message
from node.notify.hl7_message import Acknowledgement
from node.notify.mllp import MllpConnection
from node.notify.notification_rows import Notification
from node.settings import Hl7Section

_ACCEPTED = frozenset({"AA", "CA"})
_REJECTED = frozenset({"AR", "CR"})
# Table 0357: message or version not supported, for good.
_NOT_SUPPORTED = frozenset({"200", "201", "202", "203"})
# Table 0357: duplicate key, which is our own earlier attempt; record locked, internal error.
_DUPLICATE, _PASSING = "205", frozenset({"206", "207"})


class Hl7Transport:
    """Sends notifications to one MLLP listener."""

    def __init__(self, section: Hl7Section) -> None:
        self._section = section

    def send(self, notification: Notification) -> str:
        """Send, wait for the acknowledgement of this message, and return its code.

        AE is about the content and final; AR is about the receiver's state and passing (chapter 2.9.2). An ERR segment
        may say otherwise: not supported is final, locked and internal errors pass, and a duplicate of an earlier attempt
        is as good as accepted.

        Raises
        ------
        NotificationUnusable
            No message can be made of it.
        PeerUnreachable, PeerNotTrusted
            No connection.
        NoResponse
            No acknowledgement of this message in time.
        PeerBusy, NotificationRefused
            It was not accepted: for the moment, or for good.
        """
        message = hl7_message.compose(notification, self._section)
        with MllpConnection(self._section) as connection:
            connection.send(message)
            until = time.monotonic() + self._section.response_timeout_seconds
            while True:
                answer = hl7_message.read_acknowledgement(connection.receive(until))
                # One of a message before, that came too late for it, is not ours.
                if answer is not None and answer.control_id == notification.control_id:
                    break
        return self._judged(answer, notification)

    def _judged(self, answer: Acknowledgement, notification: Notification) -> str:
        if answer.code in _ACCEPTED:
            return answer.code
        where = f"{self._section.host}:{self._section.port}"
        words = f"{where}: {answer.code} {answer.error_code} {answer.text}"
        words = " ".join(words.split())
        if answer.error_code == _DUPLICATE and notification.attempt > 1:
            return f"{answer.code} duplicate of an earlier attempt"
        if answer.error_code in _PASSING or (answer.code in _REJECTED and answer.error_code not in _NOT_SUPPORTED):
            raise PeerBusy(words)
        if answer.code in _REJECTED or answer.code in ("AE", "CE"):
            raise NotificationRefused(words)
        raise NoResponse(f"{where}: an acknowledgement without a code of table 0008")
