"""Clean Structured Content Option (PS3.15 E.3.4) for measurement reports: figures and codes stay, words and dates go."""

from __future__ import annotations

from pydicom.dataset import Dataset

REMOVED = "REMOVED"
DUMMY_DATE, DUMMY_TIME, DUMMY_DATETIME = "19000101", "000000", "19000101000000"
# Text that says something about the algorithm or names a lesion; any other may say something about a person.
_KEPT_TEXT = frozenset(
    {
        ("111001", "DCM"),  # Algorithm Name
        ("111002", "DCM"),  # Algorithm Parameters
        ("111003", "DCM"),  # Algorithm Version
        ("112039", "DCM"),  # Tracking Identifier
    }
)


def clean_content_item(item: Dataset) -> None:
    """Clean the value of one content item; those it contains, and its UIDs, are the caller's."""
    match str(item.get("ValueType", "")):
        case "TEXT" if _concept(item) not in _KEPT_TEXT:
            item.TextValue = REMOVED
        case "PNAME":
            item.PersonName = REMOVED
        case "DATE":
            item.Date = DUMMY_DATE
        case "TIME":
            item.Time = DUMMY_TIME
        case "DATETIME":
            item.DateTime = DUMMY_DATETIME


def _concept(item: Dataset) -> tuple[str, str]:
    concept = item.get("ConceptNameCodeSequence") or []
    return (
        (str(concept[0].get("CodeValue", "")), str(concept[0].get("CodingSchemeDesignator", "")))
        if concept
        else ("", "")
    )
