"""Small studies with a result, for the tests of objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt

from dicom_sr.check import check
from dicom_sr.document import RenderContext, RenderedObject, render
from dicom_sr.identity import OFFLINE
from dicom_sr.phantom_study import PhantomStudy, write_phantom_study
from dicom_sr.profile import Profile
from dicom_sr.series import Kind, LoadedStudy, SeriesVolume, SourceFrame, load_study
from models.phantom import LesionSpec, make_phantom
from models.results import StudyResult
from models.volume import Volume
from tests.generators.results import found, marked, with_intervals

KINDS = ("seg", "measurements", "text", "status")
REPORTS = ("seg", "measurements", "text", "presentation", "key_objects", "status")
"""Everything that is read as a report or beside one."""


@dataclass(frozen=True)
class Case:
    """A study on disk, as loaded, and what was found in it."""

    files: Sequence[Path]
    study: LoadedStudy
    source: SeriesVolume
    result: StudyResult
    phantom: PhantomStudy | None = None

    @property
    def complete(self) -> StudyResult:
        """Its regions with intervals, and marks and findings besides."""
        others = marked(self.source.volume.array_zyx.shape, role="dwi")
        return replace(with_intervals(self.result), marks=others.marks, findings=others.findings)

    def rendered(self, result: StudyResult | None = None, **changes: object) -> list[RenderedObject]:
        """Objects of this case's result, or of another one."""
        return render(result or self.result, self.study, context(**changes), self.source)


def context(**changes: object) -> RenderContext:
    """A context with everything asked for; other names than its own are the profile's."""
    values: dict = {
        "identity": OFFLINE,
        "key": "0" * 64,
        "run": 1,
        "report_model": None,
        **{
            name: changes.pop(name)
            for name in ("key", "identity", "run", "report_model", "procedures")
            if name in changes
        },
    }
    return RenderContext(profile=Profile(**{"objects": KINDS, **changes}), **values)


def masks_in_patient(
    result: StudyResult, study: LoadedStudy, source: SeriesVolume, grid: Volume | None = None
) -> dict[str, npt.NDArray[np.bool_]]:
    """Label → mask (z, y, x) on ``grid`` (the source's), by the places in the patient that the result's DICOM SEG states."""
    grid = grid or source.volume
    (rendered,) = render(result, study, context(objects=("seg",)), source)
    check([rendered], study, result, source)
    seg = hd.seg.segread(BytesIO(rendered.encoded))
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for item in seg.SegmentSequence:
        read = seg.get_volume(segment_numbers=[item.SegmentNumber], combine_segments=True, relabel=False)
        points = read.map_indices_to_reference(np.argwhere(read.array > 0))
        places = np.linalg.inv(grid.affine_lps) @ np.c_[points, np.ones(len(points))].T
        x, y, z = places[:3].round().astype(int)
        mask = masks.setdefault(str(item.SegmentLabel), np.zeros(grid.array_zyx.shape, bool))
        mask[z, y, x] = True
    return masks


def agreement(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Dice coefficient."""
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def phantom_case(folder: Path, **options: object) -> Case:
    """A phantom with two lesions in every plane and form."""
    phantom = make_phantom(
        5,
        shape_zyx=(14, 40, 46),
        spacing_mm_zyx=(10.0, 5.0, 4.5),
        lesions=(LesionSpec(30.0, "left"), LesionSpec(12.0, "right")),
        orientation="axial",
    )
    written = write_phantom_study(phantom, folder, seed=5, **options)  # type: ignore[arg-type]
    study = load_study(written.files)
    source = trace_of(study)
    result = found(written.truth_zyx, source.volume.voxel_ml)
    return Case(written.files, study, source, result, written)


def trace_of(study: LoadedStudy) -> SeriesVolume:
    """The trace-weighted volume."""
    return next(v for v in study.volumes if v.kind is Kind.DWI_TRACE)


def blocks(shape_zyx: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """A mask with three labels, the last touching the far corner of the grid."""
    mask = np.zeros(shape_zyx, np.uint8)
    z, y, x = shape_zyx
    mask[z // 3 : z // 2, y // 4 : y // 3, x // 4 : x // 2] = 1
    mask[z // 2 + 1 : z // 2 + 2, 5:8, 9:20] = 2
    mask[-1, -3:, -3:] = 3
    return mask


def projection_case(path: Path) -> Case:
    """A radiograph with marks and findings; the loader of volumes does not take it."""
    study = load_study([path], pixels=False)
    (header,) = study.headers
    frame = SourceFrame(str(header.SOPClassUID), str(header.SOPInstanceUID), None, (0.0, 0.0, 0.0))
    volume = Volume(np.zeros((1, header.Rows, header.Columns), np.float32), np.eye(4))
    source = SeriesVolume(volume, str(header.SeriesInstanceUID), (frame,), header, Kind.OTHER)
    return Case([path], study, source, marked(volume.array_zyx.shape))
