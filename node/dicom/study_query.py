"""Which studies an archive has within a time (PS3.4 C.6.2.1, study root, level STUDY)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from pydicom.dataset import Dataset

from node.dicom.association import ClientAssociation
from node.dicom.query import find
from node.listed import ListedStudy
from node.listing import Listing, read_studies, within

_NARROWEST = timedelta(minutes=10)


def studies_between(
    association: ClientAssociation, since: datetime, until: datetime, *, modalities: Sequence[str] = (), limit: int
) -> Listing:
    """Every study that began within a time by the site's wall clock; one without a time counts for its whole day.

    Asked day by day, because matching date and time together is an extension few archives have (PS3.4 C.2.2.2.5.4); a
    day with more than ``limit`` studies is cancelled and asked again in halves.

    Raises
    ------
    NoPresentationContext, PeerBusy, NoResponse
        As :func:`node.dicom.query.find_instances`.
    """
    found: dict[str, ListedStudy] = {}
    truncated = 0
    for first, last in _days(since, until):
        for modality in modalities or [""]:
            datasets, lost = _within(association, first, last, modality, limit)
            truncated += lost
            for study in read_studies(datasets):
                if within(study, since, modality):
                    found[study.study_uid] = study
    ordered = sorted(found.values(), key=lambda study: (study.starts_at or 0.0, study.study_uid))
    return Listing(tuple(ordered), truncated)


def _within(
    association: ClientAssociation, first: datetime, last: datetime, modality: str, limit: int
) -> tuple[list[Dataset], int]:
    query = _query()
    query.StudyDate = f"{first:%Y%m%d}"
    if (first.time(), last.time()) != (datetime.min.time(), datetime.max.time().replace(microsecond=0)):
        query.StudyTime = f"{first:%H%M%S}-{last:%H%M%S}"
    query.ModalitiesInStudy = modality
    matches = find(association, query, limit=limit)
    if len(matches) <= limit:
        return matches, 0
    if last - first <= _NARROWEST:
        return matches[:limit], 1
    middle = (first + (last - first) / 2).replace(microsecond=0)
    early, lost = _within(association, first, middle, modality, limit)
    late, more = _within(association, middle + timedelta(seconds=1), last, modality, limit)
    return [*early, *late], lost + more


def _days(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    day = since.replace(hour=0, minute=0, second=0, microsecond=0)
    while day <= until:
        yield day, day.replace(hour=23, minute=59, second=59)
        day += timedelta(days=1)


def _query() -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    for keyword in ("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy"):
        setattr(query, keyword, "")
    query.NumberOfStudyRelatedInstances = None
    return query
