"""Pictures, decoded from their bytes: the right slices, with the outlines where the mask is, under the warning.

Places are computed here from the geometry of the source and the layout of a frame, not taken from what drew them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage
from scipy import ndimage

from dicom_sr.checks.subject import Subject
from dicom_sr.colours import colour_of
from dicom_sr.pictures.lettering import strip, wrapped
from dicom_sr.pictures.summary import NOTICE_BACKGROUND, NOTICE_COLOUR
from dicom_sr.pictures.words import BANNER, words
from dicom_sr.rendering import kind_of
from dicom_sr.subject_line import identifies
from models.results import Outcome

Pixels = npt.NDArray[np.uint8]

_FRAME_SIDE, _FRAME_LETTERS, _SHEET_LETTERS = 512, 15, 19
_LEAST_CORRELATION = 0.85
_COLOUR_TOLERANCE = 60
"""Per channel; what is nearer to a region's colour than this, and to no grey, counts as its outline."""
_LEAST_COVERED = 0.6
"""So much of a region's outline has to be there; labels and other outlines may lie on the rest."""
_LABEL_PIXELS = 900
"""At most so many pixels of a region's colour, its number and side, lie off its outline."""
_BLOCKS = 32


def check_pictures(subject: Subject) -> Iterator[str]:
    """Secondary Captures of a set (PS3.3 A.8.1, A.8.5, C.7.6.3)."""
    for role, dataset in subject.objects:
        if kind_of(role) not in ("secondary_capture", "summary"):
            continue
        frames = _decoded(dataset)
        if frames is None:
            yield f"{role}: pixels and their description do not belong together"
            continue
        yield from _attribute_problems(role, dataset, subject)
        is_summary = kind_of(role) == "summary"
        if not all(_has_warning(frame, _SHEET_LETTERS if is_summary else _FRAME_LETTERS) for frame in frames):
            yield f"{role}: the warning is not in the picture"
        if not is_summary:
            yield from _slice_problems(role, dataset, frames, subject)


def _decoded(dataset: Dataset) -> Pixels | None:
    """Frames, shape (frames, rows, columns, 3); None when the bytes do not fit the header."""
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    described = (
        dataset.get("SamplesPerPixel"),
        dataset.get("PhotometricInterpretation"),
        dataset.get("PlanarConfiguration"),
        dataset.get("BitsAllocated"),
        dataset.get("BitsStored"),
        dataset.get("HighBit"),
        dataset.get("PixelRepresentation"),
    )
    size = count * int(dataset.Rows) * int(dataset.Columns) * 3
    content = bytes(dataset.get("PixelData", b""))
    if described != (3, "RGB", 0, 8, 8, 7, 0) or len(content) != size + size % 2:
        return None
    return np.frombuffer(content, np.uint8, size).reshape(count, int(dataset.Rows), int(dataset.Columns), 3)


def _attribute_problems(role: str, dataset: Dataset, subject: Subject) -> Iterator[str]:
    if list(dataset.get("ImageType", []))[:2] != ["DERIVED", "SECONDARY"] or dataset.get("ConversionType") != "WSD":
        yield f"{role}: does not say that it is derived on a workstation"
    if dataset.get("BurnedInAnnotation") != ("YES" if identifies(dataset) else "NO"):
        yield f"{role}: Burned In Annotation is not what is burned in"
    if BANNER not in str(dataset.get("ImageComments", "")):
        yield f"{role}: Image Comments do not hold the warning"
    if dataset.SOPClassUID == MultiFrameTrueColorSecondaryCaptureImageStorage:
        count = int(dataset.get("NumberOfFrames", 0))
        if list(dataset.get("PageNumberVector", [])) != list(range(1, count + 1)):
            yield f"{role}: frames are not numbered"


def _has_warning(frame: Pixels, size: int) -> bool:
    """Whether the frame begins with the warning, in one of its languages, pixel for pixel."""
    for language in ("en", "ja"):
        lines = wrapped(words(language).notice, size, frame.shape[1] - size)
        bar = np.asarray(strip(lines, frame.shape[1], size, NOTICE_COLOUR, NOTICE_BACKGROUND))
        if np.array_equal(frame[: len(bar)], bar):
            return True
    return False


def _slice_problems(role: str, dataset: Dataset, frames: Pixels, subject: Subject) -> Iterator[str]:
    """Each frame shows the source image it names, with each region's outline in that region's place."""
    source, result = subject.source, subject.result
    if source is None or result.outcome is Outcome.NOT_ASSESSED:
        yield f"{role}: a picture of slices that were not assessed"
        return
    slices = {(f.sop_instance_uid, f.frame_number): k for k, f in enumerate(source.frames)}
    named = dataset.get("SourceImageSequence", [])
    if len(named) != len(frames):
        yield f"{role}: not exactly one source image for each frame"
        return
    for n, (frame, item) in enumerate(zip(frames, named, strict=True), start=1):
        number = item.get("ReferencedFrameNumber")
        k = slices.get((str(item.ReferencedSOPInstanceUID), None if number is None else int(number)))
        if k is None:
            yield f"{role}: frame {n} names no slice of the source"
            continue
        picture = _picture(frame)
        if picture is None:
            yield f"{role}: frame {n} has no room for a slice"
            return
        yield from (f"{role}: frame {n} {problem}" for problem in _frame_problems(picture, k, subject))


def _picture(frame: Pixels) -> Pixels | None:
    """The square in which the slice lies: below the warning, whose bar ends where its colour does."""
    is_bar = (frame[:, 0] == NOTICE_BACKGROUND).all(axis=1)
    top = int(is_bar.argmin())
    square = frame[top : top + _FRAME_SIDE, :_FRAME_SIDE]
    return square if square.shape[:2] == (_FRAME_SIDE, _FRAME_SIDE) else None


def _frame_problems(picture: Pixels, k: int, subject: Subject) -> Iterator[str]:
    assert subject.source is not None
    volume = subject.source.volume
    place = _Place.of(volume.array_zyx.shape[1:], volume.spacing_mm_zyx[1:])
    if not _is_the_slice(picture, volume.array_zyx[k], place):
        yield "does not show the slice it names"
    segmentation = subject.result.segmentation
    if segmentation is None or segmentation.mask_zyx.shape != volume.array_zyx.shape:
        return
    mask = segmentation.mask_zyx[k]
    for number in (int(n) for n in np.unique(mask) if n):
        if not _is_outlined(picture, place.spread(mask == number), number):
            yield f"does not outline region {number} where it is"


@dataclass(frozen=True, slots=True)
class _Place:
    """Row and column of the slice under each row and column of the square; -1 beside it."""

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> _Place:
        """The largest place in the proportions of the patient, in the middle of the square."""
        extent = np.array(shape) * np.array(spacing_mm)
        size = np.maximum(1, np.rint(extent * _FRAME_SIDE / extent.max()))
        below = [
            np.floor((np.arange(_FRAME_SIDE) - (_FRAME_SIDE - n) // 2 + 0.5) * count / n)
            for n, count in zip(size, shape, strict=True)
        ]
        inside = [np.where((b >= 0) & (b < count), b, -1) for b, count in zip(below, shape, strict=True)]
        return cls(inside[0].astype(np.intp), inside[1].astype(np.intp))

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of the slice on the square's pixels; zero beside it."""
        outside = (self.rows < 0)[:, None] | (self.columns < 0)
        return np.where(outside, values.dtype.type(0), values[self.rows[:, None], self.columns])


def _is_the_slice(picture: Pixels, values: npt.NDArray[np.float32], place: _Place) -> bool:
    """Whether grey follows the values, upwards or downwards, block by block, as far as the window lets it."""
    is_slice = place.spread(np.ones(values.shape, bool)) & (np.ptp(picture.astype(np.int16), axis=2) == 0)
    block = np.arange(_FRAME_SIDE) * _BLOCKS // _FRAME_SIDE
    block = (block[:, None] * _BLOCKS + block)[is_slice]
    count = np.maximum(np.bincount(block, minlength=_BLOCKS**2), 1)
    grey, value = (
        np.bincount(block, weights=of[is_slice], minlength=_BLOCKS**2) / count
        for of in (picture[..., 0].astype(float), place.spread(values))
    )
    shown = (count > _FRAME_SIDE**2 / _BLOCKS**2 / 2) & (grey > 6) & (grey < 249)
    if shown.sum() < _BLOCKS or np.ptp(value[shown]) == 0:
        return True  # too little contrast to be compared
    return abs(float(np.corrcoef(_ranks(grey[shown]), _ranks(value[shown]))[0, 1])) >= _LEAST_CORRELATION


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks


def _is_outlined(picture: Pixels, region: npt.NDArray[np.bool_], number: int) -> bool:
    """Whether most of the region's border has its colour, and little else has."""
    coloured = np.abs(picture.astype(np.int16) - np.array(colour_of(number))).max(axis=2) < _COLOUR_TOLERANCE
    border = region ^ ndimage.binary_erosion(region)
    covered = ndimage.binary_dilation(coloured, iterations=2)[border].mean()
    elsewhere = coloured & ~ndimage.binary_dilation(border, iterations=3)
    return bool(covered >= _LEAST_COVERED and elsewhere.sum() <= _LABEL_PIXELS)
