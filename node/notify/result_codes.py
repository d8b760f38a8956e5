"""Coded terms that result messages use, beside those of the objects."""

from __future__ import annotations

from pydicom.sr.coding import Code

from dicom_sr import codes
from models.results import Laterality
from node.notify.facts import Term


def _term(code: Code) -> Term:
    return Term(value=code.value, scheme=code.scheme_designator, meaning=code.meaning)


PRESENT = Term(value="52101004", scheme="SCT", meaning="Present")  # CID 240
ABSENT = _term(codes.ABSENT)
NOT_DONE = Term(value="373121007", scheme="SCT", meaning="Test not done")
VOLUME = _term(codes.VOLUME)
LATERALITY = Term(value="272741003", scheme="SCT", meaning="Laterality")
FINDING = Term(value="404684003", scheme="SCT", meaning="Clinical finding")
PROBABILITY = Term(value="probability", scheme="99AINODE", meaning="Probability")

SIDES = {side.value: _term(code) for side in Laterality if (code := codes.side(side)) is not None}
OUTCOMES = {"found": PRESENT, "nothing_found": ABSENT, "not_assessed": NOT_DONE}
