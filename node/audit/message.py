"""The audit message of PS3.15 A.5.1 as XML: attributes ``csd-code`` and ``originalText``, not those of RFC 3881."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import NamedTuple
from xml.etree import ElementTree


class Code(NamedTuple):
    """A coded value: code, coding scheme, meaning."""

    value: str
    scheme: str
    meaning: str


# CID 400 and 401 of PS3.16.
APPLICATION_ACTIVITY = Code("110100", "DCM", "Application Activity")
BEGIN_TRANSFERRING = Code("110102", "DCM", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED = Code("110103", "DCM", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = Code("110104", "DCM", "DICOM Instances Transferred")
QUERY = Code("110112", "DCM", "Query")
SECURITY_ALERT = Code("110113", "DCM", "Security Alert")
USER_AUTHENTICATION = Code("110114", "DCM", "User Authentication")
APPLICATION_START = Code("110120", "DCM", "Application Start")
APPLICATION_STOP = Code("110121", "DCM", "Application Stop")
LOGIN = Code("110122", "DCM", "Login")
LOGOUT = Code("110123", "DCM", "Logout")
NODE_AUTHENTICATION = Code("110126", "DCM", "Node Authentication")
SECURITY_CONFIGURATION = Code("110129", "DCM", "Security Configuration")
SOFTWARE_CONFIGURATION = Code("110131", "DCM", "Software Configuration")

# CID 402: roles.
APPLICATION = Code("110150", "DCM", "Application")
APPLICATION_LAUNCHER = Code("110151", "DCM", "Application Launcher")
DESTINATION = Code("110152", "DCM", "Destination Role ID")
SOURCE = Code("110153", "DCM", "Source Role ID")

STUDY_UID = Code("110180", "DCM", "Study Instance UID")
CLASS_UID = Code("110181", "DCM", "SOP Class UID")
NODE_ID = Code("110182", "DCM", "Node ID")
PATIENT_NUMBER = Code("2", "RFC-3881", "Patient Number")


class Outcome(IntEnum):
    """Event Outcome Indicator."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


@dataclass(frozen=True, slots=True)
class Participant:
    """Who took part.

    Attributes
    ----------
    user_id : str
        An AE title, a process, or a person's sign-on name.
    role : Code or None
    is_requestor : bool
    alternative_id : str
        AE titles of an application, ``AETITLES=A;B`` (PS3.15 A.5.2.2).
    address : str
        Numeric address or host name; empty where it is not known.
    """

    user_id: str
    role: Code | None
    is_requestor: bool
    alternative_id: str = ""
    address: str = ""

    def element(self) -> ElementTree.Element:
        """As XML."""
        attributes = {"UserID": self.user_id}
        if self.alternative_id:
            attributes["AlternativeUserID"] = self.alternative_id
        attributes["UserIsRequestor"] = "true" if self.is_requestor else "false"
        if self.address:
            numeric = self.address.replace(".", "").isdigit() or ":" in self.address
            attributes |= {
                "NetworkAccessPointID": self.address,
                "NetworkAccessPointTypeCode": "2" if numeric else "1",
            }
        made = ElementTree.Element("ActiveParticipant", attributes)
        if self.role is not None:
            _coded(made, "RoleIDCode", self.role)
        return made


@dataclass(frozen=True, slots=True)
class Thing:
    """What it was about.

    Attributes
    ----------
    object_id : str
    kind : Code
        What sort of identifier that is.
    type_code, role : str
        Participant Object Type Code and its role (PS3.15 A.5.1.2).
    query : bytes or None
        The query's data set; None gives an empty name, which the schema asks for instead.
    classes : mapping
        SOP Class UID → number of instances.
    """

    object_id: str
    kind: Code
    type_code: str
    role: str
    query: bytes | None = None
    classes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def patient(cls, patient_id: str) -> Thing:
        """A patient, by number alone: the name is optional, and left out."""
        return cls(patient_id, PATIENT_NUMBER, "1", "1")

    @classmethod
    def study(cls, study_uid: str, classes: Mapping[str, int]) -> Thing:
        """A study and how many instances of each SOP class."""
        return cls(study_uid, STUDY_UID, "2", "3", classes=classes)

    def element(self) -> ElementTree.Element:
        """As XML."""
        made = ElementTree.Element(
            "ParticipantObjectIdentification",
            {
                "ParticipantObjectID": self.object_id,
                "ParticipantObjectTypeCode": self.type_code,
                "ParticipantObjectTypeCodeRole": self.role,
            },
        )
        _coded(made, "ParticipantObjectIDTypeCode", self.kind)
        if self.query is None:
            ElementTree.SubElement(made, "ParticipantObjectName")
        else:
            text = base64.b64encode(self.query).decode("ascii")
            ElementTree.SubElement(made, "ParticipantObjectQuery").text = text
        if self.classes:
            description = ElementTree.SubElement(made, "ParticipantObjectDescription")
            for uid, count in sorted(self.classes.items()):
                ElementTree.SubElement(description, "SOPClass", {"UID": uid, "NumberOfInstances": str(count)})
        return made


@dataclass(frozen=True, slots=True)
class AuditMessage:
    """One message.

    Attributes
    ----------
    event : Code
    action : str
        C, R, U, D or E.
    at : float
        Seconds since the epoch.
    source_id, site : str
        Which node reports, and the site's name where it has one.
    types : tuple of Code
        Event Type Codes.
    words : str
        Event Outcome Description; empty for none.
    """

    event: Code
    action: str
    at: float
    source_id: str
    participants: tuple[Participant, ...]
    objects: tuple[Thing, ...] = ()
    outcome: Outcome = Outcome.SUCCESS
    types: tuple[Code, ...] = ()
    site: str = ""
    words: str = ""

    def xml(self) -> str:
        """The message, without XML declaration, on one line."""
        root = ElementTree.Element("AuditMessage")
        moment = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")
        event = ElementTree.SubElement(
            root,
            "EventIdentification",
            {
                "EventActionCode": self.action,
                "EventDateTime": moment,
                "EventOutcomeIndicator": str(int(self.outcome)),
            },
        )
        _coded(event, "EventID", self.event)
        for each in self.types:
            _coded(event, "EventTypeCode", each)
        if self.words:
            ElementTree.SubElement(event, "EventOutcomeDescription").text = self.words
        root.extend([each.element() for each in self.participants])
        source = {"AuditSourceID": self.source_id, **({"AuditEnterpriseSiteID": self.site} if self.site else {})}
        # "4": application server process.
        ElementTree.SubElement(
            ElementTree.SubElement(root, "AuditSourceIdentification", source), "AuditSourceTypeCode", {"csd-code": "4"}
        )
        root.extend([each.element() for each in self.objects])
        return ElementTree.tostring(root, encoding="unicode")


def _coded(parent: ElementTree.Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    ElementTree.SubElement(parent, name, attributes)
