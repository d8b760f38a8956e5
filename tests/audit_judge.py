"""The project's own judge of audit messages: the grammar of PS3.15 A.5.1 as tables, with none of the node's code.

For each element: its attributes (required or not, and what values they may have) and the elements below it in their order
with the number of times each may occur.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from xml.etree import ElementTree

_CODED = {"csd-code": True, "codeSystemName": True, "displayName": False, "originalText": True}
_MANY = (0, 10**6)
ATTRIBUTES: dict[str, dict[str, bool]] = {
    "AuditMessage": {},
    "EventIdentification": {"EventActionCode": False, "EventDateTime": True, "EventOutcomeIndicator": True},
    "EventID": _CODED,
    "EventTypeCode": _CODED,
    "EventOutcomeDescription": {},
    "ActiveParticipant": {
        "UserID": True,
        "AlternativeUserID": False,
        "UserName": False,
        "UserIsRequestor": True,
        "NetworkAccessPointID": False,
        "NetworkAccessPointTypeCode": False,
    },
    "RoleIDCode": _CODED,
    "AuditSourceIdentification": {"AuditEnterpriseSiteID": False, "AuditSourceID": True},
    "AuditSourceTypeCode": {"csd-code": True, "codeSystemName": False, "displayName": False, "originalText": False},
    "ParticipantObjectIdentification": {
        "ParticipantObjectID": True,
        "ParticipantObjectTypeCode": False,
        "ParticipantObjectTypeCodeRole": False,
        "ParticipantObjectDataLifeCycle": False,
        "ParticipantObjectSensitivity": False,
    },
    "ParticipantObjectIDTypeCode": _CODED,
    "ParticipantObjectName": {},
    "ParticipantObjectQuery": {},
    "ParticipantObjectDetail": {"type": True, "value": True},
    "ParticipantObjectDescription": {},
    "MPPS": {"UID": True},
    "Accession": {"Number": True},
    "SOPClass": {"UID": False, "NumberOfInstances": True},
    "Instance": {"UID": True},
    "ParticipantObjectContainsStudy": {},
    "StudyIDs": {"UID": True},
    "Encrypted": {},
    "Anonymized": {},
}
CHILDREN: dict[str, list[tuple[str, tuple[int, int]]]] = {
    "AuditMessage": [
        ("EventIdentification", (1, 1)),
        ("ActiveParticipant", (1, 10**6)),
        ("AuditSourceIdentification", (1, 1)),
        ("ParticipantObjectIdentification", _MANY),
    ],
    "EventIdentification": [("EventID", (1, 1)), ("EventTypeCode", _MANY), ("EventOutcomeDescription", (0, 1))],
    "ActiveParticipant": [("RoleIDCode", _MANY)],
    "AuditSourceIdentification": [("AuditSourceTypeCode", _MANY)],
    "ParticipantObjectIdentification": [
        ("ParticipantObjectIDTypeCode", (1, 1)),
        ("ParticipantObjectName|ParticipantObjectQuery", (1, 1)),
        ("ParticipantObjectDetail", _MANY),
        ("ParticipantObjectDescription", _MANY),
    ],
    "ParticipantObjectDescription": [
        ("MPPS", _MANY),
        ("Accession", _MANY),
        ("SOPClass", _MANY),
        ("ParticipantObjectContainsStudy", (0, 1)),
        ("Encrypted", (0, 1)),
        ("Anonymized", (0, 1)),
    ],
    "SOPClass": [("Instance", _MANY)],
    "ParticipantObjectContainsStudy": [("StudyIDs", _MANY)],
}
VALUES = {
    "EventActionCode": "[CRUDE]",
    "EventOutcomeIndicator": "0|4|8|12",
    "UserIsRequestor": "true|false|0|1",
    "NetworkAccessPointTypeCode": "[1-5]",
    "ParticipantObjectTypeCode": "[1-4]",
    "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
    "NumberOfInstances": r"\d+",
}


def faults(xml: str) -> list[str]:
    """What is wrong with a message; empty where it is valid."""
    root = ElementTree.fromstring(xml)
    if root.tag != "AuditMessage":
        return [f"the root is {root.tag}"]
    return list(_faults(root))


def _faults(element: ElementTree.Element) -> list[str]:
    allowed, found = ATTRIBUTES.get(element.tag), []
    if allowed is None:
        return [f"there is no {element.tag}"]
    found += [
        f"{element.tag} has no {name}" for name, needed in allowed.items() if needed and name not in element.attrib
    ]
    found += [f"{element.tag} must not have {name}" for name in element.attrib if name not in allowed]
    for name, value in element.attrib.items():
        if name in VALUES and not re.fullmatch(VALUES[name], value):
            found.append(f"{element.tag}.{name} is {value}")
    if element.tag == "EventIdentification":
        found += _moment(element.get("EventDateTime", ""))
    if element.tag == "ParticipantObjectQuery":
        found += _binary(element.text or "")
    found += _order(element)
    for child in element:
        found += _faults(child)
    return found


def _order(element: ElementTree.Element) -> list[str]:
    left, found = [child.tag for child in element], []
    for names, (least, most) in CHILDREN.get(element.tag, []):
        count = 0
        while left and left[0] in names.split("|"):
            left.pop(0)
            count += 1
        if not least <= count <= most:
            found.append(f"{element.tag} has {count} of {names}")
    return [*found, *(f"{element.tag} has {tag} where it must not" for tag in left)]


def _moment(text: str) -> list[str]:
    try:
        return [] if datetime.fromisoformat(text).tzinfo else [f"{text} has no time zone"]
    except ValueError:
        return [f"{text} is no xsd:dateTime"]


def _binary(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        return ["the query is not Base64"]
    return []
