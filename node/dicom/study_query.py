"""Which studies an archive has within a time (PS3.4 C.6.2.1, study root, level STUDY)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from node.archive.headers import UNREADABLE
from node.archive.placing import checked_uid
from node.dicom.association import ClientAssociation
from node.dicom.query import find
from node.errors import ObjectRejected
from node.listed import ListedStudy
from node.site_time import seconds_of

logger = logging.getLogger(__name__)

_NARROWEST = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Listing:
    """Studies of an archive, by their start.

    Attributes
    ----------
    truncated : int
        Spans of time of which there was more than could be fetched.
    """

    studies: tuple[ListedStudy, ...]
    truncated: int = 0


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
                timed = study.starts_at is not None and study.starts_at < since.timestamp()
                # An archive that does not match by Modalities in Study lists everything.
                other = modality and study.modalities and modality not in study.modalities
                if not timed and not other:
                    found[study.study_uid] = study
    ordered = sorted(found.values(), key=lambda study: (study.starts_at or 0.0, study.study_uid))
    return Listing(tuple(ordered), truncated)


def find_study(association: ClientAssociation, study_uid: str) -> ListedStudy | None:
    """One study; None where the archive does not list it.

    Raises
    ------
    NoPresentationContext, PeerBusy, NoResponse
        As :func:`node.dicom.query.find_instances`.
    """
    query = _query()
    query.StudyInstanceUID = study_uid
    return next(iter(read_studies(find(association, query))), None)


def read_studies(datasets: Sequence[Dataset]) -> list[ListedStudy]:
    """Every match that can be read; one that breaks every rule costs itself and a line in the log."""
    studies = []
    for dataset in datasets:
        try:
            studies.append(_read(dataset))
        except (*UNREADABLE, ObjectRejected) as error:
            logger.warning("an archive's answer cannot be read: %s", type(error).__name__)
    return studies


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


def _read(found: Dataset) -> ListedStudy:
    number = found.get("NumberOfStudyRelatedInstances")
    modalities = found.get("ModalitiesInStudy")
    several = list(modalities) if isinstance(modalities, MultiValue | list) else [modalities] if modalities else []
    return ListedStudy(
        study_uid=checked_uid(str(found.get("StudyInstanceUID") or ""), "Study Instance UID"),
        # What no database takes: NUL, control characters.
        accession_number="".join(
            each for each in str(found.get("AccessionNumber") or "") if each.isprintable()
        ).strip(),
        modalities=tuple(str(each) for each in several),
        starts_at=seconds_of(str(found.get("StudyDate") or ""), str(found.get("StudyTime") or "")),
        instances=int(number) if number not in (None, "") else None,
    )
