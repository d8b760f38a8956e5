"""What a set of objects says that came after a physician had signed the report of the study."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_sr.provenance import shortened
from dicom_sr.rendering import RenderedObject
from models.results import AFTER_SIGNING, StudyResult


def say_late(objects: Sequence[RenderedObject], result: StudyResult) -> None:
    """Have every series say so in its description, the one thing each viewer lists.

    Texts say it in a sentence as well; they do not go everywhere that segmentations and measurements go.
    """
    if AFTER_SIGNING not in result.limitations:
        return
    for rendered in objects:
        described = rendered.dataset.SeriesDescription
        rendered.dataset.SeriesDescription = shortened(f"LATE, after signing: {described}")
