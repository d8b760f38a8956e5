"""Where the frames of an object lie, against the headers of the images named as their sources.

Positions come from those headers rather than from the volume a result was computed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_sr.checks.frames import FrameGroups
from dicom_sr.checks.subject import Subject

TOLERANCE_MM = 1e-3
TOLERANCE_COSINE = 1e-4
_DERIVATION, _POSITION = "DerivationImageSequence", "PlanePositionSequence"


def slices_of(role: str, dataset: Dataset, subject: Subject) -> tuple[list[int], list[str]]:
    """Slice of the source volume for each frame, and what is wrong with planes, sources or indices.

    The slices are complete only where nothing is wrong.
    """
    assert subject.source is not None
    if not subject.source.has_place:
        return _on_projection(role, dataset, subject)
    problems = list(_shared_problems(role, dataset, subject))
    known: dict[tuple[int, int], int] = {}
    slices: list[int] = []
    for group in subject.frames[role]:
        pair = (id(group.macros[_DERIVATION]), id(group.macros[_POSITION]))
        if pair not in known:
            found, wrong = _slice_of(role, group, dataset, subject)
            problems += wrong
            if found is None:
                return slices, problems
            known[pair] = found
        slices.append(known[pair])
    if not problems:
        problems += _index_problems(role, subject.frames[role], slices)
    return slices, problems


def _on_projection(role: str, dataset: Dataset, subject: Subject) -> tuple[list[int], list[str]]:
    """The same for frames on a projection: each names the one image, and nothing claims a place in the patient."""
    assert subject.source is not None
    groups, (frame,) = subject.frames[role], subject.source.frames
    shared = dataset.SharedFunctionalGroupsSequence[0]
    claims = {"FrameOfReferenceUID", "PositionReferenceIndicator"} & set(dataset.dir())
    claims |= {_POSITION, "PlaneOrientationSequence", "PixelMeasuresSequence"} & set(shared.dir())
    problems = (
        [f"{role}: claims a place in the patient"] if claims or any(_POSITION in g.macros for g in groups) else []
    )
    if dataset.get("NumberOfFrames") != len(groups):
        problems.append(f"{role}: frames and functional groups do not have the same number")
    for group in groups:
        named = [(str(r.ReferencedSOPInstanceUID), r.get("ReferencedFrameNumber")) for r in _references(group)]
        if named != [(frame.sop_instance_uid, frame.frame_number)]:
            problems.append(f"{role}: a frame does not name the image it is derived from")
            break
    header = subject.headers.get(frame.sop_instance_uid)
    if header is None or (header.Rows, header.Columns) != (dataset.get("Rows"), dataset.get("Columns")):
        problems.append(f"{role}: frames have other rows and columns than their image")
    indices = [group.indices() for group in groups]
    if len(set(indices)) != len(indices) or any(len(each) != 1 for each in indices):
        problems.append(f"{role}: dimension indices do not order the frames")
    return [0] * len(groups), problems


def _references(group: FrameGroups) -> list[Dataset]:
    """Images a frame says it is derived from."""
    return [
        reference
        for derivation in group.macros[_DERIVATION].content[_DERIVATION].value
        for reference in derivation.get("SourceImageSequence", [])
    ]


def _shared_problems(role: str, dataset: Dataset, subject: Subject) -> Iterator[str]:
    assert subject.source is not None
    frame_of_reference = subject.base.get("FrameOfReferenceUID")
    if not frame_of_reference or dataset.get("FrameOfReferenceUID") != frame_of_reference:
        yield f"{role}: Frame of Reference is not the source's"
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    depth = floats([measures.SpacingBetweenSlices, measures.SliceThickness])
    if (abs(depth - subject.source.volume.spacing_mm_zyx[0]) > TOLERANCE_MM).any():
        yield f"{role}: slice distance is not the source's"
    if dataset.get("NumberOfFrames") != len(subject.frames[role]):
        yield f"{role}: frames and functional groups do not have the same number"


def _slice_of(role: str, group: FrameGroups, dataset: Dataset, subject: Subject) -> tuple[int | None, Sequence[str]]:
    """The slice a frame lies on, if its plane is the one of the very image it names."""
    assert subject.source is not None
    references = _references(group)
    ours = floats(group.first(_POSITION).ImagePositionPatient)
    distances = np.linalg.norm(np.array([frame.position_mm for frame in subject.source.frames]) - ours, axis=1)
    k = int(distances.argmin())
    if distances[k] > TOLERANCE_MM:
        return None, [f"{role}: a frame lies on no slice of the source"]
    frame = subject.source.frames[k]
    named = [(str(r.ReferencedSOPInstanceUID), r.get("ReferencedFrameNumber")) for r in references]
    if named != [(frame.sop_instance_uid, frame.frame_number)]:
        return None, [f"{role}: a frame does not name the source frame it lies on"]
    header = subject.headers.get(frame.sop_instance_uid)
    if header is None:
        return None, [f"{role}: a frame's source is not among the sources"]
    return k, list(_plane_problems(role, ours, dataset, plane_of(header, frame.frame_number)))


def _plane_problems(
    role: str, position: npt.NDArray[np.float64], dataset: Dataset, theirs: tuple[Any, Any, Any]
) -> Iterator[str]:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if abs(position - floats(theirs[0])).max() > TOLERANCE_MM:
        yield f"{role}: a frame is not where its source image is"
    turned = abs(floats(shared.PlaneOrientationSequence[0].ImageOrientationPatient) - floats(theirs[1])).max()
    spacing = floats(shared.PixelMeasuresSequence[0].PixelSpacing)
    if turned > TOLERANCE_COSINE or abs(spacing - floats(theirs[2])).max() > TOLERANCE_MM:
        yield f"{role}: orientation or pixel spacing is not the source's"


def _index_problems(role: str, groups: Sequence[FrameGroups], slices: Sequence[int]) -> Iterator[str]:
    """Along the dimensions each frame stands by its segment, where it has one, and by its slice."""
    rank = {k: n for n, k in enumerate(sorted(set(slices)), start=1)}
    seen = set()
    for group, k in zip(groups, slices, strict=True):
        indices = group.indices()
        if indices in seen or not indices or indices[-1] != rank[k]:
            yield f"{role}: dimension indices do not order the frames"
            return
        seen.add(indices)


def plane_of(header: Dataset, frame_number: int | None) -> tuple[Any, Any, Any]:
    """Position, orientation and pixel spacing of a classic image or of one frame of an Enhanced one."""
    if frame_number is None:
        return header.ImagePositionPatient, header.ImageOrientationPatient, header.PixelSpacing
    shared = header.SharedFunctionalGroupsSequence[0]
    group = header.PerFrameFunctionalGroupsSequence[frame_number - 1]

    def macro(keyword: str) -> Dataset:
        return (group if keyword in group else shared)[keyword][0]

    return (
        macro("PlanePositionSequence").ImagePositionPatient,
        macro("PlaneOrientationSequence").ImageOrientationPatient,
        macro("PixelMeasuresSequence").PixelSpacing,
    )


def floats(values: Iterable[Any]) -> npt.NDArray[np.float64]:
    """Numbers of a decimal string, as an array."""
    return np.array([float(v) for v in values])
