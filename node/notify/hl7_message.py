"""ORU^R01 of HL7 v2.5.1 (chapter 7.3.1), made and checked with hl7apy; and acknowledgements read.

Every result is preliminary (OBX-11 ``P``); what does not hold any more is deleted (``D``). OBR-3 is the same for all
messages about one alert, so that a receiver replaces what it has; MSH-10 is the same in each attempt to send one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

from node.errors import NotificationUnusable
from node.notify import result_codes, wording
from node.notify.facts import FindingFacts, ResultFacts, Term
from node.notify.notification_rows import Notification
from node.notify.states import Event
from node.settings import Hl7Section

VERSION = "2.5.1"
CHARACTER_SET = "UNICODE UTF-8"  # table 0211
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
# Name representation code (table 0465) of the component groups of VR PN (PS3.5 6.2.1).
_REPRESENTATIONS = ("A", "I", "P")
_UNFIT = (HL7apyException, ValueError, TypeError, KeyError, IndexError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Line:
    """One OBX: value type, what, sub-ID, value in HL7's own notation, unit."""

    kind: str
    what: Term
    value: str
    part: str = ""
    unit: str = ""
    abnormal: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """MSA and ERR of an answer.

    Attributes
    ----------
    code : str
        MSA-1 of table 0008: AA, AE, AR, CA, CE or CR.
    control_id : str
        MSA-2: the message it is about.
    error_code : str
        ERR-3 of table 0357, empty where there is none.
    text : str
        MSA-3, ERR-3.2 and ERR-8: in the receiver's words.
    """

    code: str
    control_id: str
    error_code: str = ""
    text: str = ""


def compose(notification: Notification, section: Hl7Section) -> bytes:
    """The message, UTF-8. The same notification gives the same bytes.

    Raises
    ------
    NotificationUnusable
        The images name no Patient ID, or the message would break the standard.
    """
    content = notification.content
    identity = content.get("identity", {})
    if not identity.get("patient_id"):
        raise NotificationUnusable("the images name no Patient ID: a result message would be filed under nobody")
    message = Message("ORU_R01", version=VERSION, validation_level=VALIDATION_LEVEL.TOLERANT)
    try:
        _header(message, notification, section)
        result = message.add_group("ORU_R01_PATIENT_RESULT")
        _patient(result, identity, section)
        _order(result, notification)
        message.validate()
        return bytes(message.to_er7(trailing_children=False).encode("utf-8"))
    except _UNFIT as error:
        raise NotificationUnusable(f"an ORU^R01 cannot be made of it ({type(error).__name__})") from error


def read_acknowledgement(answer: bytes) -> Acknowledgement | None:
    """An acknowledgement; None where the bytes are none."""
    try:
        text = answer.decode("utf-8", "replace").replace("\r\n", "\r").replace("\n", "\r").strip("\r") + "\r"
        message = parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False)
        code, control_id = message.msa.msa_1.value, message.msa.msa_2.value
        error = message.err if message.children.get("ERR") else None
        error_code = error.err_3.err_3_1.value if error is not None and error.err_3 else ""
        words = [message.msa.msa_3.value if message.msa.msa_3 else ""]
        if error is not None:
            words += [error.err_3.err_3_2.value if error.err_3 else "", error.err_8.value if error.err_8 else ""]
    except _UNFIT:
        return None
    said = " ".join(" ".join(str(each).split()) for each in words if each)
    return Acknowledgement(str(code or ""), str(control_id or ""), str(error_code or ""), said)


def _header(message: Any, notification: Notification, section: Hl7Section) -> None:
    msh = message.msh
    msh.msh_3 = _text(section.sending_application)
    msh.msh_4 = _text(section.sending_facility)
    msh.msh_5 = _text(section.receiving_application)
    msh.msh_6 = _text(section.receiving_facility)
    msh.msh_7 = _moment(notification.created_at)
    msh.msh_9 = "ORU^R01^ORU_R01"
    msh.msh_10 = notification.control_id
    msh.msh_11 = section.processing_id
    msh.msh_12 = VERSION
    msh.msh_18 = CHARACTER_SET


def _patient(result: Any, identity: Mapping[str, str], section: Hl7Section) -> None:
    pid = result.add_group("ORU_R01_PATIENT").add_segment("PID")
    authority = identity.get("issuer_of_patient_id") or section.assigning_authority
    pid.pid_1 = "1"
    pid.pid_3 = f"{_text(identity['patient_id'])}^^^{_text(authority)}^PI"
    for name in _names(identity.get("patient_name", "")):
        pid.add_field("PID_5").value = name
    if identity.get("birth_date", "").isdigit():
        pid.pid_7 = identity["birth_date"]


def _order(result: Any, notification: Notification) -> None:
    content = notification.content
    facts = ResultFacts.model_validate(content["result"])
    retracted = Event(content["event"]) is Event.RETRACTION
    group = result.add_group("ORU_R01_ORDER_OBSERVATION")
    obr = group.add_segment("OBR")
    obr.obr_1 = "1"
    obr.obr_2 = _text(content["identity"].get("accession_number", ""))
    obr.obr_3 = f"{_text(content['node'])}-{content['alert']}"
    obr.obr_4 = f"{_text(facts.model)}^{_text(facts.title or facts.model)}^99AINODE"
    obr.obr_7 = _moment(content["opened_at"])
    obr.obr_22 = _moment(content["at"])
    obr.obr_25 = "C" if retracted else "P"
    if content["priority"] == "stat":
        timing = group.add_group("ORU_R01_TIMING_QTY").add_segment("TQ1")
        timing.tq1_1 = "1"
        timing.tq1_9 = "S^Stat^HL70485"
    for number, line in enumerate(_lines(content, facts), start=1):
        obx = group.add_group("ORU_R01_OBSERVATION").add_segment("OBX")
        obx.obx_1 = str(number)
        obx.obx_2 = line.kind
        obx.obx_3 = _term(line.what)
        obx.obx_4 = line.part
        obx.obx_5 = line.value
        obx.obx_6 = line.unit
        if line.abnormal:
            obx.obx_8 = "AA" if content["priority"] == "stat" else "A"
        obx.obx_11 = "D" if retracted else "P"
        obx.obx_14 = _moment(content["at"])
        obx.obx_17 = f"{_text(facts.model)}^{_text(facts.model_version)}^99AINODE"


def _lines(content: Mapping[str, Any], facts: ResultFacts) -> Iterator[_Line]:
    found = facts.outcome == "found"
    what = facts.finding or result_codes.FINDING
    outcome = result_codes.OUTCOMES.get(facts.outcome, result_codes.NOT_DONE)
    yield _Line("CWE", what, _term(outcome), "1", abnormal=found)
    if facts.total_ml is not None:
        yield _Line("NM", result_codes.VOLUME, f"{facts.total_ml:.3f}", "1", "mL^milliliter^UCUM", abnormal=found)
    for number, region in enumerate(facts.regions, start=1):
        if region.volume_ml is None:
            continue  # a structure outlined on a radiograph; a side alone would say nothing
        yield _Line("NM", result_codes.VOLUME, f"{region.volume_ml:.3f}", f"1.{number}", "mL^milliliter^UCUM")
        if region.side in result_codes.SIDES:
            yield _Line("CWE", result_codes.LATERALITY, _term(result_codes.SIDES[region.side]), f"1.{number}")
    for number, finding in enumerate(facts.findings, start=2):
        yield from _finding_lines(finding, str(number))
    for sentence in wording.sentences(content):
        yield _Line("TX", Term(value="summary", scheme="99AINODE", meaning="Summary"), _text(sentence))


def _finding_lines(finding: FindingFacts, part: str) -> Iterator[_Line]:
    outcome = result_codes.PRESENT if finding.present else result_codes.ABSENT
    yield _Line("CWE", finding.concept, _term(outcome), part, abnormal=finding.present)
    yield _Line("NM", result_codes.PROBABILITY, f"{finding.probability:.4f}", part, "1^unity^UCUM")


def _term(term: Term) -> str:
    return f"{_text(term.value)}^{_text(term.meaning)}^{_text(term.scheme)}"


def _names(value: str) -> list[str]:
    """VR PN as XPN: family, given, middle, suffix, prefix; a repetition for each component group."""
    repetitions = []
    for representation, group in zip(_REPRESENTATIONS, value.split("="), strict=False):
        if not group.strip("^ "):
            continue
        family, given, middle, prefix, suffix = ([_text(each) for each in group.split("^")] + [""] * 5)[:5]
        repetitions.append(f"{family}^{given}^{middle}^{suffix}^{prefix}^^L^{representation}")
    return repetitions


def _moment(seconds: float) -> str:
    """DTM with the offset from UTC."""
    return time.strftime("%Y%m%d%H%M%S%z", time.localtime(seconds))


def _text(value: str) -> str:
    """Text in HL7's notation (chapter 2.7): separators escaped, lines joined."""
    return "".join(_ESCAPES.get(each, each) for each in " ".join(value.split()))
