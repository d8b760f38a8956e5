"""QIDO-RS (PS3.18 10.6): studies, series and instances that fit, newest studies first.

The index answers; a file's header is opened where the index lacks an attribute, never pixel data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from sqlalchemy import Connection, select

from node.archive.tables import instances, objects, studies
from node.web.dicomweb.attributes import (
    CREATOR,
    CREATOR_TAG,
    ROLE,
    STATE,
    Attributes,
    HeaderReader,
    element,
    tag_of,
)
from node.web.dicomweb.failures import TOO_LARGE, refuse
from node.web.dicomweb.holdings import Holding, Holdings
from node.web.dicomweb.matching import Condition
from node.web.dicomweb.narrowing import contains, has, narrowed
from node.web.dicomweb.query import Level, Query

_MODALITIES = tag_of("ModalitiesInStudy")
_MOST_STUDIES = 5000
"""Studies whose series or images are looked at for one search."""
_STUDY = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
)
_SERIES = (
    "Modality",
    "TimezoneOffsetFromUTC",
    "SeriesDescription",
    "BodyPartExamined",
    "SeriesInstanceUID",
    "SeriesNumber",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "RequestAttributesSequence",
)
_INSTANCE = (
    "SOPClassUID",
    "SOPInstanceUID",
    "TimezoneOffsetFromUTC",
    "InstanceNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
)
_OPTIONAL = frozenset(
    {"TimezoneOffsetFromUTC", "IssuerOfPatientID", "Rows", "Columns", "BitsAllocated", "BodyPartExamined"}
    | {"PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "RequestAttributesSequence"}
)
"""Left out of an answer where there is no value; the others are given empty."""


@dataclass(frozen=True, slots=True)
class Found:
    """Results of a search, and whether there are more."""

    results: list[Attributes]
    more: bool


@dataclass(frozen=True, slots=True)
class Search:
    """A search in one node.

    Attributes
    ----------
    base : str
        URL of the service, for Retrieve URL (0008,1190).
    maximum : int
        Most results.
    """

    connection: Connection
    holdings: Holdings
    headers: HeaderReader
    base: str
    maximum: int

    def run(self, level: Level, query: Query, study_uid: str | None = None, series_uid: str | None = None) -> Found:
        """Results of a search at a level, within a study or series where one is named."""
        makers: dict[Level, Callable[..., Iterator[Attributes]]] = {
            Level.STUDIES: self._studies,
            Level.SERIES: self._series,
            Level.INSTANCES: self._instances,
        }
        limit = self.maximum if query.limit is None else min(query.limit, self.maximum)
        found = makers[level](query, study_uid, series_uid)
        results = list(islice(found, query.offset, query.offset + limit))
        # Nobody is told of more who asked for no more than this.
        wanted_more = query.limit is None or query.limit > self.maximum
        return Found(results, wanted_more and next(found, None) is not None)

    def _studies(self, query: Query, study_uid: str | None, _: str | None) -> Iterator[Attributes]:
        for uid in self._candidates(query, study_uid, None):
            first = self.holdings.first(self.connection, uid)
            if first is None:
                continue
            attributes = self.headers.of(first, _STUDY)
            if not _all_match(query.of(Level.STUDIES), attributes, apart_from=_MODALITIES):
                continue
            held = self.holdings.find(self.connection, uid)
            if self._modalities_fit(query, held):
                yield self._finished(query, _STUDY, attributes | self._of_study(held), first, f"/studies/{uid}")

    def _series(self, query: Query, study_uid: str | None, _: str | None) -> Iterator[Attributes]:
        for study, held in self._looked_at(query, study_uid, None):
            for uid, members in _by_series(held).items():
                attributes = self.headers.of(members[0], _SERIES)
                if _all_match(query.of(Level.SERIES), attributes):
                    numbers = {tag_of("NumberOfSeriesRelatedInstances"): element("IS", len(members))}
                    made = (study | attributes | numbers) if study_uid is None else (attributes | numbers)
                    made |= _identity(members[0], "StudyInstanceUID") | _state(members[0])
                    resource = f"/studies/{members[0].study_uid}/series/{uid}"
                    yield self._finished(query, _SERIES, made, members[0], resource)

    def _instances(self, query: Query, study_uid: str | None, series_uid: str | None) -> Iterator[Attributes]:
        for study, held in self._looked_at(query, study_uid, series_uid):
            for members in _by_series(held).values():
                of_series = query.of(Level.SERIES)
                above = self.headers.of(members[0], _SERIES) if of_series or series_uid is None else {}
                if not _all_match(of_series, above):
                    continue
                for each in members:
                    attributes = self.headers.of(each, _INSTANCE)
                    if not _all_match(query.of(Level.INSTANCES), attributes):
                        continue
                    made = (study if study_uid is None else {}) | above | attributes | self._frames(each) | _state(each)
                    made |= _identity(each, "StudyInstanceUID", "SeriesInstanceUID")
                    yield self._finished(query, _INSTANCE, made, each, resource_of(each))

    def _looked_at(
        self, query: Query, study_uid: str | None, series_uid: str | None
    ) -> Iterator[tuple[Attributes, list[Holding]]]:
        """Studies that fit, each with its instances (of a series)."""
        of_study = query.of(Level.STUDIES)
        for number, uid in enumerate(self._candidates(query, study_uid, series_uid)):
            if number >= _MOST_STUDIES:
                refuse(TOO_LARGE, f"more than {_MOST_STUDIES} studies would have to be looked at; narrow the search")
            first = self.holdings.first(self.connection, uid)
            if first is None:
                continue
            study = self.headers.of(first, _STUDY) if of_study or study_uid is None else {}
            if not _all_match(of_study, study, apart_from=_MODALITIES):
                continue
            held = self.holdings.find(self.connection, uid)
            if self._modalities_fit(query, held):
                yield study, [each for each in held if series_uid in (None, each.series_uid)]

    def _candidates(self, query: Query, study_uid: str | None, series_uid: str | None) -> Iterator[str]:
        """Studies that may fit, as far as the database tells; the one that heard news last comes first."""
        conditions = [*narrowed(query), contains(self.holdings)]
        if study_uid is not None:
            conditions.append(studies.c.study_uid == study_uid)
        if series_uid is not None:
            conditions.append(has(instances.c.series_uid.in_([series_uid]), objects.c.series_uid.in_([series_uid])))
        statement = (
            select(studies.c.study_uid).where(*conditions).order_by(studies.c.last_at.desc(), studies.c.study_uid)
        )
        # As they are looked at: a database may have a hundred thousand.
        for row in self.connection.execute(statement.execution_options(stream_results=True, max_row_buffer=200)):
            yield row.study_uid

    def _modalities_fit(self, query: Query, held: list[Holding]) -> bool:
        wanted = [each for each in query.of(Level.STUDIES) if each.tag == _MODALITIES]
        return not wanted or _all_match(wanted, self._of_study(held))

    def _of_study(self, held: list[Holding]) -> Attributes:
        modalities = sorted({self._modality(each) for each in held} - {""})
        return {
            _MODALITIES: element("CS", *modalities),
            tag_of("NumberOfStudyRelatedSeries"): element("IS", len({each.series_uid for each in held})),
            tag_of("NumberOfStudyRelatedInstances"): element("IS", len(held)),
        }

    def _modality(self, holding: Holding) -> str:
        if holding.modality or holding.produced is None:
            return holding.modality
        return str(self.headers.of(holding, ["Modality"])[tag_of("Modality")].get("Value", [""])[0])

    def _frames(self, holding: Holding) -> Attributes:
        """Number of Frames of a multi-frame object."""
        tag = tag_of("NumberOfFrames")
        if holding.produced is None:
            count = int((holding.columns.get("headers") or {}).get("number_of_frames") or 1)
            return {tag: element("IS", count)} if count > 1 else {}
        found = self.headers.header(holding).get(tag)
        return {tag: found} if found else {}

    def _finished(
        self, query: Query, standard: Iterable[str], attributes: Attributes, source: Holding, resource: str
    ) -> Attributes:
        """With what every result has, what was asked for besides, and without what is empty and need not be there."""
        made = dict(attributes)
        for keyword in _OPTIONAL:
            if not made.get(tag_of(keyword), {}).get("Value"):
                made.pop(tag_of(keyword), None)
        if query.everything or query.fields:
            header = self.headers.header(source)
            wanted = [tag for tag in header if _belongs(tag, standard)] if query.everything else list(query.fields)
            for tag in wanted:
                if tag in header:
                    made.setdefault(tag, header[tag])
                elif dictionary_has_tag(tag):
                    made.setdefault(tag, {"vr": dictionary_VR(tag)})
        made[tag_of("InstanceAvailability")] = element("CS", "ONLINE")
        made[tag_of("RetrieveURL")] = element("UR", self.base + resource)
        return dict(sorted(made.items()))


def resource_of(holding: Holding) -> str:
    """Path of an instance below the service's URL."""
    return f"/studies/{holding.study_uid}/series/{holding.series_uid}/instances/{holding.sop_instance_uid}"


def _belongs(tag: str, standard: Iterable[str]) -> bool:
    """Whether ``includefield=all`` gives an attribute: those of patient and study for studies and series, every one for
    instances."""
    if "SOPInstanceUID" in standard:
        return True
    studywide = tag.startswith(("0010", "0032")) or tag in ("00081030", "00081032", "00080050", "00080080")
    return studywide or ("SeriesNumber" in standard and tag.startswith(("0018", "0040", "0008103E", "00081070")))


def _by_series(held: Iterable[Holding]) -> dict[str, list[Holding]]:
    found: dict[str, list[Holding]] = {}
    for each in held:
        found.setdefault(each.series_uid, []).append(each)
    return found


def _identity(holding: Holding, *keywords: str) -> Attributes:
    named = {"StudyInstanceUID": holding.study_uid, "SeriesInstanceUID": holding.series_uid}
    return {tag_of(keyword): element("UI", named[keyword]) for keyword in keywords}


def _state(holding: Holding) -> Attributes:
    """State and role of an object of this node."""
    if holding.produced is None:
        return {}
    states = [f"{name}: {state}" for name, state in holding.produced.deliveries] or ["not sent"]
    return {
        CREATOR_TAG: element("LO", CREATOR),
        STATE: element("LO", *states),
        ROLE: element("LO", holding.produced.role),
    }


def _all_match(conditions: Iterable[Condition], attributes: Attributes, apart_from: str = "") -> bool:
    return all(each.tag == apart_from or each.matches(attributes) for each in conditions)
