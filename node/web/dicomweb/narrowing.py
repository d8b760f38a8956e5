"""Searches as far as the database can tell by itself: conditions on studies that let through whatever may match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, exists, or_, select

from node.archive.tables import instances, jobs, objects, studies
from node.web.dicomweb.holdings import MODALITIES, Holdings
from node.web.dicomweb.matching import Condition
from node.web.dicomweb.query import Level, Query


def contains(holdings: Holdings) -> ColumnElement[bool]:
    """The study has an instance that can be given out; one whose images all moved to another study has not."""
    return exists().where(instances.c.study_uid == studies.c.study_uid, holdings.is_received())


def has(received: ColumnElement[bool], produced: ColumnElement[bool]) -> ColumnElement[bool]:
    """The study has an instance, received or made here, of which this is true."""
    return or_(
        exists().where(instances.c.study_uid == studies.c.study_uid, received),
        exists().where(objects.c.study_uid == studies.c.study_uid, jobs.c.id == objects.c.job_id, produced),
    )


def narrowed(query: Query) -> Iterator[ColumnElement[bool]]:
    """What of the conditions the database can tell by itself; each is a superset of what matches."""
    received = instances.c.study_uid == studies.c.study_uid
    if (found := query.single(Level.STUDIES, "StudyInstanceUID")) is not None:
        yield studies.c.study_uid.in_(found.choices)
    if (found := query.single(Level.SERIES, "SeriesInstanceUID")) is not None:
        yield has(instances.c.series_uid.in_(found.choices), objects.c.series_uid.in_(found.choices))
    if (found := query.single(Level.INSTANCES, "SOPInstanceUID")) is not None:
        yield has(instances.c.sop_instance_uid.in_(found.choices), objects.c.sop_instance_uid.in_(found.choices))
    if (found := query.single(Level.STUDIES, "ModalitiesInStudy")) is not None:
        yield has(_like(instances.c.modality, found), objects.c.sop_class_uid.in_(_classes(found)))
    if (found := query.single(Level.STUDIES, "PatientID")) is not None:
        named = select(instances.c.study_uid).where(instances.c.active, _like(instances.c.patient_id, found))
        yield studies.c.study_uid.in_(named)
    for keyword, column in (
        ("AccessionNumber", instances.c.accession_number),
        ("PatientName", instances.c.patient_name),
    ):
        if (found := query.single(Level.STUDIES, keyword)) is not None:
            yield exists().where(received, instances.c.active, _like(column, found))
    if (found := query.single(Level.STUDIES, "StudyDate")) is not None:
        # The same instance that the study's attributes are taken from.
        one = instances.alias()
        of_study = (one.c.study_uid == studies.c.study_uid) & one.c.active
        first = select(one.c.id).where(of_study).order_by(one.c.ours, one.c.derived, one.c.id).limit(1)
        first = first.correlate(studies)
        yield exists().where(instances.c.id == first.scalar_subquery(), _dated(found)).correlate(studies)


def _like(column: Any, found: Condition) -> ColumnElement[bool]:
    """A superset: letters beyond ASCII fold differently in databases, so of names only the ASCII ones narrow."""
    name = found.vr == "PN"
    if not found.has_wildcard and not name:
        return column == found.text
    pattern = "".join(_PATTERNS.get(character, character) for character in found.text)
    if name:
        pattern = "%" + "".join(each if each.isascii() else "%" for each in pattern) + "%"
        return column.ilike(pattern, escape="\\")
    return column.like(pattern, escape="\\")


_PATTERNS = {"*": "%", "?": "_", "%": "\\%", "_": "\\_", "\\": "\\\\"}


def _dated(found: Condition) -> ColumnElement[bool]:
    """Study Date within a range, or not in the index."""
    date = instances.c.headers["listed"]["StudyDate"].as_string()
    first, last = found.limits
    within: ColumnElement[bool] = date.is_not(None)
    if first:
        within = within & (date >= first)
    if last:
        within = within & (date <= last)
    return or_(instances.c.headers["listed"].as_string().is_(None), within)


def _classes(found: Condition) -> list[str]:
    return [uid for uid, modality in MODALITIES.items() if found.matches({found.tag: {"Value": [modality]}})]
