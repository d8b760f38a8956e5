"""Acknowledgements of HL7 v2 messages (chapter 2.9; original and enhanced mode)."""

from __future__ import annotations

import time
import uuid
from enum import StrEnum

from node.hl7.message import Message

_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
# Table 0357.
_CONDITIONS = {
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "203": "Unsupported version id",
    "207": "Application internal error",
}


class Code(StrEnum):
    """Acknowledgement code (table 0008): accepted; wrong in content, for good; rejected for another reason."""

    ACCEPTED = "AA"
    ERROR = "AE"
    REJECTED = "AR"


def acknowledgement(
    message: Message | None, code: Code, *, condition: str = "", words: str = "", raw: bytes = b""
) -> bytes | None:
    """The acknowledgement of a message; None where its sender wants none.

    Parameters
    ----------
    message : Message or None
        None where it could not be parsed; then ``raw`` may still tell its control id.
    condition : str
        Of table 0357.
    words : str
        What is wrong; names no patient.
    """
    header = message.header if message is not None else None
    wanted = header.get(15).upper() if header is not None else ""
    failed = code is not Code.ACCEPTED
    if wanted == "NE" or (wanted == "ER" and not failed) or (wanted == "SU" and failed):
        return None
    # Enhanced mode: what is acknowledged is that the message was taken into safe storage.
    said = f"C{code[1]}" if wanted else str(code)
    version = (header.get(12) if header is not None else "") or "2.5.1"
    event = message.kind[1] if message is not None else ""
    ours, theirs = _addresses(message)
    control_id = message.control_id if message is not None else _control_id(raw)
    kind = f"ACK^{_text(event)}^ACK" if event else "ACK"
    moment = time.strftime("%Y%m%d%H%M%S%z", time.localtime(time.time()))
    processing = (header.get(11) if header is not None else "") or "P"
    lines = [
        f"MSH|^~\\&|{ours}|{theirs}|{moment}||{kind}|{uuid.uuid4().hex[:20]}|{_text(processing)}|{_text(version)}",
        f"MSA|{said}|{_text(control_id)}" + (f"|{_text(words)}" if failed and version < "2.5" else ""),
    ]
    if failed and version >= "2.5":
        meaning = _CONDITIONS.get(condition, "")
        lines.append(f"ERR|||{condition}^{meaning}^HL70357|E||||{_text(words)}")
    return "".join(f"{line}\r" for line in lines).encode("ascii", "replace")


def _addresses(message: Message | None) -> tuple[str, str]:
    """Receiver of the message as sender, and the other way round."""
    if message is None:
        return "AINODE|", "|"
    header = message.header
    ours = f"{_text(header.get(5) or 'AINODE')}|{_text(header.get(6))}"
    return ours, f"{_text(header.get(3))}|{_text(header.get(4))}"


def _control_id(raw: bytes) -> str:
    """MSH-10 of what could not be parsed, as far as it stands where it should."""
    if not raw.startswith(b"MSH") or len(raw) < 8:
        return ""
    fields = raw.split(b"\r", 1)[0].split(raw[3:4])
    text = fields[9].decode("ascii", "replace") if len(fields) > 9 else ""
    return text[:199] if text.isprintable() else ""


def _text(value: str) -> str:
    """Text in HL7's notation (chapter 2.7): separators escaped, lines joined."""
    return "".join(_ESCAPES.get(each, each) for each in " ".join(value.split()))
