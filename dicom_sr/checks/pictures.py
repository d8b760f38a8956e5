"""Secondary Captures, decoded from their bytes: the right slices, the outlines where the mask is, under the warning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage

from dicom_sr.checks.drawn_slices import Pixels, slice_problems
from dicom_sr.checks.subject import Subject
from dicom_sr.pictures.lettering import strip, wrapped
from dicom_sr.pictures.montage import GAP, caption_height
from dicom_sr.pictures.summary import NOTICE_BACKGROUND, NOTICE_COLOUR
from dicom_sr.pictures.words import BANNER, STATUS_BANNER, words
from dicom_sr.rendering import kind_of
from dicom_sr.subject_line import identifies

_FRAME_SIDE, _FRAME_LETTERS = 512, 15
_SHEET_LETTERS, _SHEET_TILE, _SHEET_COLUMNS = 19, 300, 4


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
        notices = _notices(subject)
        letters = _SHEET_LETTERS if is_summary else _FRAME_LETTERS
        if not all(_has_warning(frame, letters, notices) for frame in frames):
            yield f"{role}: the warning is not in the picture"
        if subject.is_status:
            if "SourceImageSequence" in dataset:
                yield f"{role}: a picture of slices that were not assessed"
            continue
        squares = _tiles(frames[0], len(dataset.get("SourceImageSequence", []))) if is_summary else _squares(frames)
        yield from _slice_problems(role, dataset, squares, subject)


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
    banner = STATUS_BANNER if subject.is_status else BANNER
    if banner not in str(dataset.get("ImageComments", "")):
        yield f"{role}: Image Comments do not hold the warning"
    if dataset.SOPClassUID == MultiFrameTrueColorSecondaryCaptureImageStorage:
        count = int(dataset.get("NumberOfFrames", 0))
        if list(dataset.get("PageNumberVector", [])) != list(range(1, count + 1)):
            yield f"{role}: frames are not numbered"


def _notices(subject: Subject) -> list[str]:
    """The warning in every language."""
    return [words(tag).status_notice if subject.is_status else words(tag).notice for tag in ("en", "ja")]


def _has_warning(frame: Pixels, size: int, notices: list[str]) -> bool:
    """Whether the frame begins with the warning, in one of its languages, pixel for pixel."""
    for notice in notices:
        lines = wrapped(notice, size, frame.shape[1] - size)
        bar = np.asarray(strip(lines, frame.shape[1], size, NOTICE_COLOUR, NOTICE_BACKGROUND))
        if np.array_equal(frame[: len(bar)], bar):
            return True
    return False


def _slice_problems(role: str, dataset: Dataset, squares: list[Pixels], subject: Subject) -> Iterator[str]:
    """Each square shows the source image it names, with each region's outline in that region's place."""
    source = subject.source
    if source is None:
        yield f"{role}: a picture of slices that are not there"
        return
    slices = {(f.sop_instance_uid, f.frame_number): k for k, f in enumerate(source.frames)}
    named = dataset.get("SourceImageSequence", [])
    if not named or len(named) != len(squares):
        yield f"{role}: not exactly one source image for each slice shown"
        return
    for n, (square, item) in enumerate(zip(squares, named, strict=True), start=1):
        number = item.get("ReferencedFrameNumber")
        k = slices.get((str(item.ReferencedSOPInstanceUID), None if number is None else int(number)))
        if k is None:
            yield f"{role}: slice {n} names no slice of the source"
        elif square.shape[0] != square.shape[1]:
            yield f"{role}: there is no room for slice {n}"
        else:
            yield from (f"{role}: slice {n} {problem}" for problem in slice_problems(square, k, subject))


def _squares(frames: Pixels) -> list[Pixels]:
    """Where the slice of each frame lies: below the warning, whose bar ends where its colour does."""
    found = []
    for frame in frames:
        top = int((frame[:, 0] == NOTICE_BACKGROUND).all(axis=1).argmin())
        found.append(frame[top : top + _FRAME_SIDE, :_FRAME_SIDE])
    return found


def _tiles(sheet: Pixels, count: int) -> list[Pixels]:
    """Where the slices of a summary lie: in rows at its lower end."""
    columns = max(1, min(_SHEET_COLUMNS, count))
    wide, high = _SHEET_TILE + GAP, _SHEET_TILE + GAP + caption_height(_SHEET_TILE)
    left = (sheet.shape[1] - wide * columns + GAP) // 2
    top = sheet.shape[0] - high * -(-count // columns) + GAP
    corners = [(top + high * (n // columns), left + wide * (n % columns)) for n in range(count)]
    return [sheet[y : y + _SHEET_TILE, x : x + _SHEET_TILE] for y, x in corners if y >= 0]
