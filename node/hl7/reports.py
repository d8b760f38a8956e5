"""Signed reports out of ORU^R01 (chapter 7). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.hl7.message import Message, Segment
from node.hl7.moments import seconds
from node.hl7.orders import accession_number, study_uid

# Table 0123: final; corrected after it was final; results stored and verified by amendment of a final one.
_FINAL = frozenset({"F", "C"})
_NONE = Segment("")


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A report that a person has signed: the study is read."""

    accession_number: str
    study_uid: str
    signed_at: float


def signed_reports(message: Message, accession_fields: Sequence[str], received_at: float) -> list[SignedReport]:
    """Final reports of a message; preliminary ones do not count.

    The time is that of the report's change of status (OBR-22), else of the message (MSH-7), else of its receipt.
    """
    found = []
    orc, zds = _NONE, message.first("ZDS")
    for segment in message.segments:
        if segment.name == "ORC":
            orc = segment
        if segment.name != "OBR" or segment.get(25).upper() not in _FINAL:
            continue
        signed_at = seconds(segment.get(22)) or seconds(message.sent_at) or received_at
        accession = accession_number([segment, orc], accession_fields)
        report = SignedReport(accession, study_uid(zds), min(signed_at, received_at))
        if report.accession_number or report.study_uid:
            found.append(report)
    return found
