"""What a message does: one transaction, and the acknowledgement that says whether it did."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from sqlalchemy import Connection

from node.archive import hl7_messages, orders, patient_changes, signed_reports
from node.archive.engine import Store
from node.doorbell import DISPATCHER, SCHEDULER, ring
from node.errors import Hl7Error, Hl7Rejected, StoreUnavailable
from node.hl7 import orders as order_messages
from node.hl7 import patients, reports
from node.hl7.acknowledgement import Code, acknowledgement
from node.hl7.message import Message, read
from node.settings import Hl7InboundSection

logger = logging.getLogger(__name__)

_REPORT = ("ORU", "R01")
_UNEXPECTED = "the message failed in a way nobody foresaw"


class Inbox:
    """Takes messages for one node. Safe to share between threads.

    Parameters
    ----------
    section : Hl7InboundSection
    store : Store
    bells : Path
        Folder of the doorbells.
    """

    def __init__(self, section: Hl7InboundSection, store: Store, bells: Path) -> None:
        self._section = section
        self._store = store
        self._bells = bells

    def take(self, data: bytes) -> bytes | None:
        """Carry a message out and return its acknowledgement, None where its sender wants none.

        AA is given when what the message says is committed to the store; so is AA for one that came before, and for an
        event that says nothing to this node. AE: its content cannot be used, now or later. AR: it cannot be read, or
        the store is away and it should be sent again.
        """
        message: Message | None = None
        try:
            message = read(data, self._section.character_set)
            fresh = self._carry_out(message)
        except Hl7Rejected as error:
            logger.warning("an HL7 message was rejected: %s", error)
            return acknowledgement(message, Code.REJECTED, condition=error.condition, words=error.message, raw=data)
        except Hl7Error as error:
            logger.warning("an HL7 message %s cannot be used: %s", "^".join(message.kind) if message else "?", error)
            return acknowledgement(message, Code.ERROR, condition=error.condition, words=error.message, raw=data)
        except StoreUnavailable as error:
            logger.error("an HL7 message could not be recorded: %s", error.summary)
            return acknowledgement(message, Code.REJECTED, condition="207", words=error.summary, raw=data)
        except Exception as error:  # noqa: BLE001  (the sender is owed an answer; the words of others may name patients)
            logger.error("an HL7 message failed unexpectedly: %s", type(error).__name__)
            return acknowledgement(message, Code.REJECTED, condition="207", words=_UNEXPECTED, raw=data)
        again = "" if fresh else ", again"
        logger.info("HL7 message %s accepted%s", "^".join(message.kind), again)
        return acknowledgement(message, Code.ACCEPTED)

    def _carry_out(self, message: Message) -> bool:
        """False where it was carried out before."""
        kind, now = message.kind, time.time()
        if kind[0] != "ADT" and kind not in order_messages.KINDS and kind != _REPORT:
            raise Hl7Rejected("a message of a type that this node takes nothing from", condition="200")
        with self._store.write() as connection:
            if not hl7_messages.enter(connection, now, message):
                return False
            if kind[0] == "ADT":
                self._patients(connection, now, message)
            elif kind == _REPORT:
                self._reports(connection, now, message)
            else:
                self._orders(connection, now, message)
        ring(self._bells, SCHEDULER)
        ring(self._bells, DISPATCHER)
        return True

    def _patients(self, connection: Connection, now: float, message: Message) -> None:
        for change in patients.changes(message):
            studies = patient_changes.enter(connection, now, change, source=_source(message), event=message.kind[1])
            if studies:
                logger.warning("CORRECTION by HL7 %s: %d study(ies) run anew", message.kind[1], len(studies))

    def _orders(self, connection: Connection, now: float, message: Message) -> None:
        for news in order_messages.ordered(message, self._section.accession_fields):
            if news.cancelled:
                orders.cancelled(connection, now, _source(message), news.order)
            else:
                orders.take(connection, now, _source(message), [news.order])

    def _reports(self, connection: Connection, now: float, message: Message) -> None:
        for report in reports.signed_reports(message, self._section.accession_fields, now):
            signed_reports.enter(connection, now, report, source=_source(message))


def _source(message: Message) -> str:
    """Name of the sender beside the worklists' names."""
    return f"hl7 {message.sender}".strip()[:64]
