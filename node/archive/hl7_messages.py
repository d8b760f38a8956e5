"""HL7 v2 messages that were accepted: a sender that has not got its acknowledgement sends one again."""

from __future__ import annotations

from sqlalchemy import Connection, delete

from node.archive.tables import hl7_messages
from node.archive.upsert import insert_missing
from node.hl7.message import Message


def enter(connection: Connection, now: float, message: Message) -> bool:
    """Enter a message in the transaction of what it does; False where it was accepted before.

    Control ids begin anew on some systems: a message with the same id and other content is another message.
    """
    values = {
        "sender": message.sender,
        "control_id": message.control_id,
        "digest": message.digest,
        "kind": "^".join(message.kind)[:16],
        "received_at": now,
    }
    return insert_missing(connection, hl7_messages, values, unique=["sender", "control_id", "digest"]) is not None


def forget(connection: Connection, before: float) -> int:
    """Remove what came before a time; return how many rows."""
    return int(connection.execute(delete(hl7_messages).where(hl7_messages.c.received_at < before)).rowcount)
