"""Query parameters of a search (PS3.18 8.3.4): what to match, what to give back, and which part of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from pydicom.datadict import dictionary_VR, tag_for_keyword

from node.web.dicomweb.attributes import tag_of
from node.web.dicomweb.failures import BAD_REQUEST, refuse
from node.web.dicomweb.matching import Condition, condition


class Level(StrEnum):
    """What is searched for."""

    STUDIES = "studies"
    SERIES = "series"
    INSTANCES = "instances"


STUDY_KEYS = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
)
SERIES_KEYS = (
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "SeriesInstanceUID",
    "SeriesNumber",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "RequestAttributesSequence.ScheduledProcedureStepID",
    "RequestAttributesSequence.RequestedProcedureID",
)
INSTANCE_KEYS = ("SOPClassUID", "SOPInstanceUID", "InstanceNumber")
_KEYS = {Level.STUDIES: STUDY_KEYS, Level.SERIES: SERIES_KEYS, Level.INSTANCES: INSTANCE_KEYS}

_OTHERS = frozenset({"limit", "offset", "includefield", "fuzzymatching", "accept", "charset"})
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_MOST_FIELDS = 500
_LARGEST = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Query:
    """A search, checked.

    Attributes
    ----------
    conditions : dict
        Level an attribute belongs to → its matching keys.
    fields : tuple of str
        Tags to give back beside the standard ones.
    everything : bool
        ``includefield=all``.
    limit : int or None
        None: as many as the node gives.
    """

    conditions: dict[Level, list[Condition]] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    everything: bool = False
    limit: int | None = None
    offset: int = 0

    def of(self, level: Level) -> list[Condition]:
        """Matching keys of a level."""
        return self.conditions.get(level, [])

    def single(self, level: Level, keyword: str) -> Condition | None:
        """The matching key of an attribute."""
        return next((each for each in self.of(level) if each.path == (tag_of(keyword),)), None)


def parse(level: Level, parameters: Iterable[tuple[str, str]]) -> Query:
    """A search from the parameters of its URL.

    Raises
    ------
    HTTPException
        400: an attribute that is not known, or not supported for this search; a value without the form it needs.
    """
    conditions: dict[Level, list[Condition]] = {}
    fields: list[str] = []
    numbers: dict[str, int] = {}
    everything = False
    for name, value in parameters:
        if name in ("limit", "offset"):
            numbers[name] = _number(name, value)
        elif name == "includefield":
            chosen = [each.strip() for each in value.split(",") if each.strip()]
            everything = everything or "all" in chosen
            fields += [path[0] for path in (_path(each) for each in chosen if each != "all")]
        elif name not in _OTHERS:
            belongs, found = _condition(level, name, value)
            if found is not None:
                conditions.setdefault(belongs, []).append(found)
    if len(fields) > _MOST_FIELDS:
        refuse(BAD_REQUEST, f"includefield names more than {_MOST_FIELDS} attributes")
    return Query(conditions, tuple(dict.fromkeys(fields)), everything, numbers.get("limit"), numbers.get("offset", 0))


def _condition(level: Level, name: str, value: str) -> tuple[Level, Condition | None]:
    path = _path(name)
    for belongs, keywords in _KEYS.items():
        for keyword in keywords:
            if path == _path(keyword):
                return belongs, condition(path, dictionary_VR(path[-1]), value, name)
        if belongs is level:
            break
    known = ", ".join(keyword for belongs in _up_to(level) for keyword in _KEYS[belongs])
    refuse(BAD_REQUEST, f"{level} cannot be searched by this attribute; use one of: {known}")


def _up_to(level: Level) -> list[Level]:
    levels = list(_KEYS)
    return levels[: levels.index(level) + 1]


def _path(name: str) -> tuple[str, ...]:
    """Tags of ``keyword``, ``ggggeeee`` or several of these with dots between."""
    parts = name.split(".")
    if len(parts) > 4:
        refuse(BAD_REQUEST, "a parameter names an attribute by more than four levels")
    return tuple(_tag(part) for part in parts)


def _tag(name: str) -> str:
    if _TAG.fullmatch(name):
        return name.upper()
    if name.isascii() and tag_for_keyword(name) is not None:
        return tag_of(name)
    refuse(
        BAD_REQUEST, "a parameter is neither an attribute (keyword or eight hexadecimal digits) nor limit, offset, …"
    )


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= _LARGEST):
        refuse(BAD_REQUEST, f"{name} is not a whole number from 0")
    return int(value)
