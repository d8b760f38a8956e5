"""Load what the first render would otherwise wait for: highdicom's templates and the code dictionary."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from dicom_sr.check import check
from dicom_sr.document import RenderContext, render
from dicom_sr.identity import OFFLINE
from dicom_sr.profile import Profile
from dicom_sr.series import Kind, LoadedStudy, SeriesVolume, SourceFrame
from dicom_sr.uids import result_uid
from models.results import (
    CodedTerm,
    Draft,
    Laterality,
    ModelReference,
    Outcome,
    Region,
    Segmentation,
    StudyResult,
)
from models.volume import Volume

_KEY = "warm"
_SHAPE = (2, 8, 8)


def prewarm() -> None:
    """Render and check a throw-away set of objects of a study that does not exist.

    Touches no file and no network beyond imports; takes about a second the first time, milliseconds after. Called by the
    model host before its first job.
    """
    source = _source()
    headers = tuple(_header(k) for k in range(_SHAPE[0]))
    study = LoadedStudy(
        study_uid=str(source.header.StudyInstanceUID),
        headers=headers,
        digests={},
        volumes=(source,),
        rejected=(),
        _by_uid={str(header.SOPInstanceUID): header for header in headers},
    )
    context = RenderContext(OFFLINE, _KEY, Profile("warm"), 1, None)
    result = _result()
    check(render(result, study, context, source), study, result, source)


def _header(slice_index: int) -> Dataset:
    header = Dataset()
    header.SOPClassUID = MRImageStorage
    header.SOPInstanceUID = result_uid(_KEY, "image", slice_index)
    header.StudyInstanceUID = result_uid(_KEY, "study")
    header.SeriesInstanceUID = result_uid(_KEY, "series")
    header.FrameOfReferenceUID = result_uid(_KEY, "frame of reference")
    header.Modality = "MR"
    header.ImagePositionPatient = [0, 0, slice_index]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.PixelSpacing = [1, 1]
    return header


def _source() -> SeriesVolume:
    frames = tuple(
        SourceFrame(str(MRImageStorage), result_uid(_KEY, "image", k), None, (0.0, 0.0, float(k)))
        for k in range(_SHAPE[0])
    )
    volume = Volume(np.zeros(_SHAPE, np.float32), np.eye(4))
    header = _header(0)
    return SeriesVolume(
        volume=volume,
        series_uid=str(header.SeriesInstanceUID),
        frames=frames,
        header=header,
        kind=Kind.DWI_TRACE,
        b_value=1000.0,
    )


def _result() -> StudyResult:
    finding = CodedTerm("52988006", "SCT", "Lesion")
    site = CodedTerm("12738006", "SCT", "Brain")
    category = CodedTerm("49755003", "SCT", "Morphologically Abnormal Structure")
    mask = np.zeros(_SHAPE, np.uint8)
    mask[0, 2:4, 2:4] = 1
    model = ModelReference("warm", "0", "warm-up", "ainode project", "0" * 64)
    region = Region(1, "Lesion 1", category, finding, site, Laterality.LEFT, 0.004, (), 0)
    return StudyResult(
        outcome=Outcome.FOUND,
        title="Warm-up",
        finding=finding,
        site=site,
        model=model,
        segmentation=Segmentation("dwi", mask, (region,)),
        total_ml=0.004,
        drafts=(Draft("en", "Nothing.", "Nothing."),),
    )
