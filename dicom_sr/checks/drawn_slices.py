"""Slices as they were drawn, beside the values and the mask they should show.

Places are computed here from the geometry of the source, not taken from what drew them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from dicom_sr.checks.subject import Subject
from dicom_sr.colours import colour_of
from dicom_sr.pictures.window import window_of

Pixels = npt.NDArray[np.uint8]

_BLOCKS = 32
_BLOCK_TOLERANCE, _BLOCKS_OFF = 6.0, 0.06
"""So many levels of grey may a block's mean differ; more in letters and their rims, which lie on few blocks."""
_SAME_HUE, _LEAST_CHROMA = 0.95, 30.0
"""Cosine between hues, and distance from grey, from which on a pixel counts as part of an outline."""
_LEAST_COVERED = 0.6
"""So much of a region's border has to be drawn; labels and other outlines may lie on the rest."""
_LABEL_SHARE = 0.0035
"""At most this part of a square has a region's hue off its border: its number."""


def slice_problems(square: Pixels, slice_index: int, subject: Subject) -> Iterator[str]:
    """What is wrong with the picture of a slice.

    Parameters
    ----------
    square : numpy.ndarray
        uint8, shape (n, n, 3): the square in which the slice lies, as large as fits.
    """
    assert subject.source is not None
    volume = subject.source.volume
    place = _Place.of(volume.array_zyx.shape[1:], volume.spacing_mm_zyx[1:], len(square))
    window = window_of(subject.source, subject.study.source_datasets(subject.source))
    if not _is_the_slice(square, window.grey(volume.array_zyx[slice_index]), place):
        yield "does not show the slice it names"
    segmentation = subject.result.segmentation
    if segmentation is None or segmentation.mask_zyx.shape != volume.array_zyx.shape:
        return
    mask = place.spread(segmentation.mask_zyx[slice_index])
    by_colour: dict[tuple[int, int, int], list[int]] = {}
    for number in np.unique(segmentation.mask_zyx[slice_index]):
        if number:
            by_colour.setdefault(colour_of(int(number)), []).append(int(number))
    for colour, numbers in by_colour.items():
        for number in _not_outlined(square, mask, colour, numbers):
            yield f"does not outline region {number} where it is"


@dataclass(frozen=True, slots=True)
class _Place:
    """Row and column of the slice under each row and column of the square; -1 beside it."""

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing_mm: tuple[float, ...], side: int) -> _Place:
        """The largest place in the proportions of the patient, in the middle of the square."""
        extent = np.array(shape) * np.array(spacing_mm)
        size = np.maximum(1, np.rint(extent * side / extent.max()))
        below = [
            np.floor((np.arange(side) - (side - n) // 2 + 0.5) * count / n)
            for n, count in zip(size, shape, strict=True)
        ]
        inside = [np.where((b >= 0) & (b < count), b, -1) for b, count in zip(below, shape, strict=True)]
        return cls(inside[0].astype(np.intp), inside[1].astype(np.intp))

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of the slice on the square's pixels; zero beside it."""
        outside = (self.rows < 0)[:, None] | (self.columns < 0)
        return np.where(outside, values.dtype.type(0), values[self.rows[:, None], self.columns])

    def enlarged(self, grey: Pixels) -> Pixels:
        """Grey of a slice in the size it has in the square; black beside it."""
        rows, columns = np.flatnonzero(self.rows >= 0), np.flatnonzero(self.columns >= 0)
        size = (len(columns), len(rows))
        inside = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))
        square = np.zeros((len(self.rows), len(self.columns)), np.uint8)
        square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = inside
        return square


def _is_the_slice(picture: Pixels, grey: Pixels, place: _Place) -> bool:
    """Whether the picture is the slice's grey, block by block."""
    side, (red, green, blue) = len(picture), np.moveaxis(picture, 2, 0)
    expected = place.enlarged(grey)
    is_grey = (red == green) & (green == blue)
    block = np.arange(side) * _BLOCKS // side
    block = (block[:, None] * _BLOCKS + block)[is_grey]
    count = np.bincount(block, minlength=_BLOCKS**2)
    means = [
        np.bincount(block, weights=of[is_grey].astype(float), minlength=_BLOCKS**2) / np.maximum(count, 1)
        for of in (red, expected)
    ]
    compared = count > side**2 / _BLOCKS**2 / 2
    off = np.abs(means[0] - means[1])[compared] > _BLOCK_TOLERANCE
    return bool(off.mean() <= _BLOCKS_OFF) if len(off) else False


def _not_outlined(
    picture: Pixels, mask: npt.NDArray[np.integer], colour: tuple[int, int, int], numbers: list[int]
) -> Iterator[int]:
    """Regions of one colour whose border is not drawn; all of them where the colour is much elsewhere too."""
    coloured = _has_hue(picture, np.array(colour))
    near, borders = ndimage.binary_dilation(coloured, iterations=2), np.zeros(mask.shape, bool)
    for number in numbers:
        region = mask == number
        border = region ^ ndimage.binary_erosion(region)
        # A region smaller than a pixel of the picture has no border in it.
        if border.any() and near[border].mean() < _LEAST_COVERED:
            yield number
        borders |= border
    elsewhere = coloured & ~ndimage.binary_dilation(borders, iterations=3)
    if elsewhere.sum() > _LABEL_SHARE * len(numbers) * coloured.size:
        yield from numbers


def _has_hue(picture: Pixels, colour: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Pixels of a colour, however much grey is mixed into it."""
    red, green, blue = np.moveaxis(picture.astype(np.float32), 2, 0)
    grey = np.minimum(np.minimum(red, green), blue)
    wanted = (colour - colour.min()).astype(np.float32)
    wanted /= np.linalg.norm(wanted)
    chroma = (red - grey, green - grey, blue - grey)
    strength = np.sqrt(chroma[0] ** 2 + chroma[1] ** 2 + chroma[2] ** 2)
    along = chroma[0] * wanted[0] + chroma[1] * wanted[1] + chroma[2] * wanted[2]
    return np.asarray((strength > _LEAST_CHROMA) & (along > _SAME_HUE * strength))
