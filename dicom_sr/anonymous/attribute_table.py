"""Table E.1-1 of PS3.15, Basic Application Level Confidentiality Profile, as the library dicom-anonymizer keeps it.

The table is the library's; what is done is ours, because the library leaves nested sequences as they are and replaces
UIDs by random ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from pydicom.tag import BaseTag

EDITION = "2026c"


class Action(StrEnum):
    """Action codes of PS3.15 E.1.1. Of those that leave a choice the one is taken that keeps the object valid."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    UID = "U"
    CLEAN = "C"


# Category of the library → action. X/D and the like: the attribute may be of Type 1, so a dummy stays.
_ACTIONS = {
    "X_TAGS": Action.REMOVE,
    "Z_TAGS": Action.EMPTY,
    "X_Z_TAGS": Action.EMPTY,
    "D_TAGS": Action.DUMMY,
    "Z_D_TAGS": Action.DUMMY,
    "X_D_TAGS": Action.DUMMY,
    "X_Z_D_TAGS": Action.DUMMY,
    "U_TAGS": Action.UID,
    # References are kept, with the UIDs in them replaced.
    "X_Z_U_STAR_TAGS": Action.CLEAN,
}
CONTENT_SEQUENCE = 0x0040A730
_REFERENCED_REQUEST_SEQUENCE = 0x0040A370


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """What the profile says of each attribute."""

    actions: dict[int, Action]
    repeating: tuple[tuple[int, int, int, int, Action], ...]

    def action(self, tag: BaseTag) -> Action | None:
        """Action for an attribute; None where the profile leaves it as it is."""
        if (found := self.actions.get(int(tag))) is not None:
            return found
        for group, element, group_mask, element_mask, action in self.repeating:
            if tag.group & group_mask == group & group_mask and tag.element & element_mask == element & element_mask:
                return action
        return None


@lru_cache(maxsize=1)
def attribute_table() -> AttributeTable:
    """The table."""
    found = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    actions: dict[int, Action] = {}
    repeating = []
    for category, action in _ACTIONS.items():
        for tag in found[category]:
            if len(tag) == 2:
                actions[(tag[0] << 16) + tag[1]] = action
            else:
                repeating.append((*tag, action))
    # The order goes as a whole: the profile takes attributes out of its items that these must have (PS3.3 C.17.2).
    actions[_REFERENCED_REQUEST_SEQUENCE] = Action.REMOVE
    # Clean Structured Content Option (E.3.4): see structured_content.
    actions[CONTENT_SEQUENCE] = Action.CLEAN
    return AttributeTable(actions, tuple(repeating))
