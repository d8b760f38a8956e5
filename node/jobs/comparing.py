"""A result beside that of an earlier study: reads what is needed of the earlier one and has both compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.errors import SeriesRejected
from dicom_sr.rendering import PriorObjects
from dicom_sr.roles import fill_roles
from dicom_sr.series import SeriesVolume, load_study
from models.comparison import Followed, NotComparable, compare
from models.errors import StoredResultDamaged
from models.results import NotCompared, StudyResult, Tracking
from models.stored_result import Grid, StoredResult
from models.volume import Volume
from node import log
from node.jobs import stored_files
from node.jobs.specification import Prior

if TYPE_CHECKING:
    from models.card import CardInput

_LOG = log.logger("comparing")


def compared(
    prior: Prior, result: StudyResult, source: SeriesVolume, inputs: Sequence[CardInput]
) -> tuple[StudyResult, PriorObjects | None]:
    """The result with its comparison, or with the reason why there is none.

    Whatever is wrong with the earlier study never costs the result of this one.
    """
    if prior.withheld is not None or prior.stored is None:
        reason = NotCompared(prior.withheld) if prior.withheld else NotCompared.IMAGES_GONE
        return replace(result, not_compared=reason), None
    try:
        if not source.has_place:
            raise NotComparable("projections and photographs have no place in the patient to compare by")
        stored = stored_files.read_stored(prior.stored)
        objects = prior_objects(prior.segmentation) if prior.segmentation is not None else None
        earlier = _followed(prior, stored, objects, source, inputs)
        return compare(result, source.volume, source.frame_of_reference_uid, earlier), objects
    except NotComparable as error:
        log.say(_LOG, 30, "the prior study is not comparable", prior=prior.study_uid, reason=str(error))
        return replace(result, not_compared=NotCompared.NOT_COMPARABLE), None
    except (StoredResultDamaged, SeriesRejected) as error:
        log.say(_LOG, 30, "the prior study cannot be read", prior=prior.study_uid, error=str(error))
        return replace(result, not_compared=NotCompared.IMAGES_GONE), None


def prior_objects(segmentation: Path) -> PriorObjects:
    """Header of an earlier segmentation object, and the images its frames came from.

    Raises
    ------
    StoredResultDamaged
        It cannot be read.
    """
    try:
        header = dcmread(segmentation, stop_before_pixels=True)
        return PriorObjects(header, tuple(_sources(header)))
    except (OSError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise StoredResultDamaged(f"an earlier segmentation cannot be read ({type(error).__name__})") from error


def _sources(header: Dataset) -> Iterator[Dataset]:
    """Every image of the Common Instance Reference module (PS3.3 C.12.2), with its place."""
    for series in header.ReferencedSeriesSequence:
        for reference in series.ReferencedInstanceSequence:
            source = Dataset()
            source.SOPClassUID = reference.ReferencedSOPClassUID
            source.SOPInstanceUID = reference.ReferencedSOPInstanceUID
            source.SeriesInstanceUID = series.SeriesInstanceUID
            source.StudyInstanceUID = header.StudyInstanceUID
            # How many frames it has is not known here; a reference names those it means.
            source.NumberOfFrames = 1 << 20
            yield source


def _followed(
    prior: Prior,
    stored: StoredResult,
    objects: PriorObjects | None,
    source: SeriesVolume,
    inputs: Sequence[CardInput],
) -> Followed:
    if stored.grid is None:
        raise NotComparable("the earlier result has no grid")
    tracked = {}
    if objects is not None:
        for segment in objects.segmentation.SegmentSequence:
            if "TrackingUID" in segment:
                tracked[int(segment.SegmentNumber)] = Tracking(str(segment.TrackingUID), str(segment.TrackingID))
    header = objects.segmentation if objects is not None else Dataset()
    return Followed(
        study_uid=prior.study_uid,
        date=prior.study_date,
        series_uid=str(header.get("SeriesInstanceUID", "")),
        segmentation_uid=str(header.get("SOPInstanceUID", "")),
        segmentation_class_uid=str(header.get("SOPClassUID", "")),
        result=stored.result,
        grid=stored.grid,
        tracking=tracked,
        volume=_images(prior, stored.grid, source, stored.source_role, inputs),
    )


def _images(prior: Prior, grid: Grid, source: SeriesVolume, role: str, inputs: Sequence[CardInput]) -> Volume | None:
    """Voxels of the earlier study's series, where they are needed to bring both into agreement."""
    if not prior.files or grid.frame_of_reference_uid == source.frame_of_reference_uid != "":
        return None
    found = fill_roles(load_study(prior.files), inputs).get(role)
    return found.volume if found is not None else None
