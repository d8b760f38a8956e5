"""Coded terms that result messages use, each once (SNOMED CT as in PS3.16; HL7 tables)."""

from __future__ import annotations

from node.notify.facts import Term

PRESENT = Term(value="52101004", scheme="SCT", meaning="Present")
ABSENT = Term(value="2667000", scheme="SCT", meaning="Absent")
NOT_DONE = Term(value="373121007", scheme="SCT", meaning="Test not done")
VOLUME = Term(value="118565006", scheme="SCT", meaning="Volume")
LATERALITY = Term(value="272741003", scheme="SCT", meaning="Laterality")
FINDING = Term(value="404684003", scheme="SCT", meaning="Clinical finding")
PROBABILITY = Term(value="probability", scheme="99AINODE", meaning="Probability")

SIDES = {
    "left": Term(value="7771000", scheme="SCT", meaning="Left"),
    "right": Term(value="24028007", scheme="SCT", meaning="Right"),
    "bilateral": Term(value="51440002", scheme="SCT", meaning="Right and left"),
    "midline": Term(value="260528009", scheme="SCT", meaning="Median"),
}

OUTCOMES = {"found": PRESENT, "nothing_found": ABSENT, "not_assessed": NOT_DONE}
