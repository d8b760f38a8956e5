"""Studies as an archive lists them, read from its answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from node.archive.headers import UNREADABLE
from node.archive.placing import checked_uid
from node.errors import ObjectRejected
from node.listed import ListedStudy
from node.site_time import seconds_of

logger = logging.getLogger(__name__)


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


def within(study: ListedStudy, since: datetime, modality: str) -> bool:
    """Whether a match is one: archives that do not match by time of day or Modalities in Study list the whole day."""
    early = study.starts_at is not None and study.starts_at < since.timestamp()
    return not early and not (modality and study.modalities and modality not in study.modalities)


def read_studies(datasets: Sequence[Dataset]) -> list[ListedStudy]:
    """Every match that can be read; one that breaks every rule costs itself and a line in the log."""
    studies = []
    for dataset in datasets:
        try:
            studies.append(_read(dataset))
        except (*UNREADABLE, ObjectRejected) as error:
            logger.warning("an archive's answer cannot be read: %s", type(error).__name__)
    return studies


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
