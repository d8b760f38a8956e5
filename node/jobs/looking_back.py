"""The earlier image a model looks at beside the current one, read from the files a job was given."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dicom_sr.errors import MixedPatients, SeriesRejected
from dicom_sr.roles import fill_earlier_roles
from dicom_sr.series import LoadedStudy, load_study
from models.results import StudyResult
from models.volume import Volume
from node import log
from node.jobs.specification import EarlierImages

if TYPE_CHECKING:
    from models.card import CardInput

EARLIER_IMAGE_SEEN = "earlier_image_seen"
"""Limitation of a result that an earlier image of the patient had a part in."""
EARLIER_IMAGES = "earlier_images"
"""In a result's evidence: SHA-256 (hex) over what was looked at beside the study's own images."""
_LOG = log.logger("looking_back")


def earlier_volumes(
    earlier: EarlierImages | None, study: LoadedStudy, inputs: Sequence[CardInput]
) -> dict[str, Volume]:
    """Role → volume from the earlier study, for the inputs that are taken from one.

    Whatever is wrong with the earlier study never costs the result of this one: then nothing is given.
    """
    if earlier is None or not any(each.earlier for each in inputs) or earlier.study_uid == study.study_uid:
        return {}
    try:
        loaded = load_study(earlier.files)
    except (MixedPatients, SeriesRejected, OSError) as error:
        log.say(_LOG, 30, "the earlier images cannot be used", earlier=earlier.study_uid, error=type(error).__name__)
        return {}
    return {role: source.volume for role, source in fill_earlier_roles(loaded, inputs).items()}


def beside(result: StudyResult, earlier: EarlierImages) -> StudyResult:
    """A result that says which earlier study was looked at, too."""
    facts = {
        "earlier_study_uid": earlier.study_uid,
        "earlier_study_date": earlier.study_date,
        EARLIER_IMAGES: seen_digest(earlier),
    }
    limitations = (*result.limitations, EARLIER_IMAGE_SEEN)
    return replace(result, limitations=limitations, evidence={**result.evidence, **facts})


def seen_digest(earlier: EarlierImages) -> str:
    """SHA-256 (hex) over an earlier study and the digests of its images."""
    return hashlib.sha256(" ".join([earlier.study_uid, *earlier.digests]).encode()).hexdigest()
