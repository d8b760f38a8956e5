"""One slice as a picture: grey values in true proportions, outlines of the regions, marks, letters at its sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dicom_sr.colours import colour_of
from dicom_sr.contours import Ring, outlines
from dicom_sr.pictures import orientation
from dicom_sr.pictures.lettering import write_on_picture
from dicom_sr.pictures.window import Window
from models.results import Mark, MarkShape
from models.volume import Volume

BACKGROUND = (0, 0, 0)
MARK_COLOUR = (0, 255, 120)
SIDE_COLOUR = (190, 255, 220)
"""Hues that no segment has: the check before sending looks for a segment's outline by its hue."""
_ENLARGED = 2
"""Lines are drawn this much larger and then reduced, which makes them smooth."""


@dataclass(frozen=True, slots=True)
class Box:
    """Where a slice lies in a square of pixels: left, top, width and height."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Painter:
    """What pictures of one result are drawn from.

    Attributes
    ----------
    volume : Volume
        The grid the mask and the marks count in.
    window : Window
        From values to grey.
    mask_zyx : numpy.ndarray or None
        uint8 or uint16, shape of the volume: region numbers, 0 where there is none.
    marks : tuple of Mark
        Those that count in this grid.
    """

    volume: Volume
    window: Window
    mask_zyx: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | None = None
    marks: tuple[Mark, ...] = field(default=())

    def numbers(self, slice_index: int) -> list[int]:
        """Regions that show in a slice."""
        if self.mask_zyx is None:
            return []
        return [int(n) for n in np.unique(self.mask_zyx[slice_index]) if n]

    def box(self, side: int) -> Box:
        """Place of a slice in a square: as large as fits, in the proportions of the patient, in the middle."""
        rows, columns = self.volume.array_zyx.shape[1:]
        _, row_mm, column_mm = self.volume.spacing_mm_zyx
        height_mm, width_mm = rows * row_mm, columns * column_mm
        scale = side / max(height_mm, width_mm)
        width, height = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
        return Box((side - width) // 2, (side - height) // 2, width, height)

    def slice(self, slice_index: int, side: int, *, numbered: bool = True) -> Image.Image:
        """RGB picture of a slice in a square of ``side`` pixels.

        Rows and columns stand as in the source image, never turned or mirrored.

        Parameters
        ----------
        numbered : bool
            Whether region numbers and labels of marks are written beside the outlines.
        """
        box = self.box(side)
        grey = Image.fromarray(self.window.grey(self.volume.array_zyx[slice_index]))
        resized = grey.resize((box.width, box.height), Image.Resampling.BICUBIC).convert("RGB")
        self._draw_outlines(resized, slice_index)
        picture = Image.new("RGB", (side, side), BACKGROUND)
        picture.paste(resized, (box.left, box.top))
        pen = ImageDraw.Draw(picture)
        if numbered:
            self._draw_labels(pen, box, slice_index)
        self._draw_sides(pen, side)
        return picture

    def _scale(self, size: tuple[int, int]) -> tuple[float, float]:
        """Pixels of the picture for one row and for one column."""
        rows, columns = self.volume.array_zyx.shape[1:]
        return size[1] / rows, size[0] / columns

    def _draw_outlines(self, picture: Image.Image, slice_index: int) -> None:
        scale = self._scale(picture.size)
        for number in self.numbers(slice_index):
            assert self.mask_zyx is not None
            region = self.mask_zyx[slice_index] == number
            rings = [ring for part in outlines(region) for ring in (part.outer, *part.holes)]
            _draw_lines(picture, rings, colour_of(number), scale, region)
        for mark in self._marks(slice_index):
            _draw_lines(picture, [_mark_ring(mark)], MARK_COLOUR, scale, None)

    def _marks(self, slice_index: int) -> list[Mark]:
        return [mark for mark in self.marks if mark.slice_index == slice_index]

    def _draw_labels(self, pen: ImageDraw.ImageDraw, box: Box, slice_index: int) -> None:
        per_row, per_column = self._scale((box.width, box.height))
        size = _letter_size(max(box.width, box.height))
        for number in self.numbers(slice_index):
            assert self.mask_zyx is not None
            rows, columns = np.nonzero(self.mask_zyx[slice_index] == number)
            right, left = (columns.max() + 1) * per_column + size / 3, columns.min() * per_column - size / 3
            on_the_right = right + size < box.width
            at = box.left + (right if on_the_right else left), box.top + max(rows.min() * per_row, size)
            write_on_picture(pen, at, str(number), size, colour_of(number), "ls" if on_the_right else "rs")
        for mark in self._marks(slice_index):
            y, x = np.array(mark.points_yx).min(axis=0)
            at = box.left + (x + 0.5) * per_column, box.top + (y + 0.5) * per_row - 3
            write_on_picture(pen, at, mark.label, size, MARK_COLOUR, "ls")

    def _draw_sides(self, pen: ImageDraw.ImageDraw, side: int) -> None:
        names, size = orientation.sides(self.volume.affine_lps), _letter_size(side)
        for at, text, anchor in (
            ((4, side / 2), names.left, "lm"),
            ((side - 4, side / 2), names.right, "rm"),
            ((side / 2, 3), names.top, "mt"),
            ((side / 2, side - 3), names.bottom, "mb"),
        ):
            write_on_picture(pen, at, text, size, SIDE_COLOUR, anchor)


def _draw_lines(
    picture: Image.Image,
    rings: Sequence[Ring],
    colour: tuple[int, int, int],
    scale: tuple[float, float],
    region: npt.NDArray[np.bool_] | None,
) -> None:
    """Closed lines of (row, column), smooth; of a region only their inner half, so that neighbours do not hide them."""
    # The centre of the first pixel is 0, its edge -0.5; the picture begins at the edge.
    places = [(ring + 0.5) * scale for ring in rings]
    width = max(1, round(max(picture.size) / 320))
    top, left = np.floor(np.min([place.min(axis=0) for place in places], axis=0)).astype(int) - 2 * width
    bottom, right = np.ceil(np.max([place.max(axis=0) for place in places], axis=0)).astype(int) + 2 * width
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    if right <= left or bottom <= top:
        return
    layer = Image.new("L", ((right - left) * _ENLARGED, (bottom - top) * _ENLARGED))
    pen = ImageDraw.Draw(layer)
    for place in places:
        corners = [((x - left) * _ENLARGED, (y - top) * _ENLARGED) for y, x in place]
        thickness = width * _ENLARGED * (1 if region is None else 2)
        pen.line([*corners, corners[0], corners[1]], fill=255, width=thickness, joint="curve")
    if region is not None:
        rows = ((np.arange(layer.height) + 0.5) / _ENLARGED + top) / scale[0]
        columns = ((np.arange(layer.width) + 0.5) / _ENLARGED + left) / scale[1]
        inside = region[_within(rows, region.shape[0])[:, None], _within(columns, region.shape[1])]
        layer = Image.fromarray(np.asarray(layer) * inside.astype(np.uint8))
    opacity = layer.resize((right - left, bottom - top), Image.Resampling.BOX)
    picture.paste(Image.new("RGB", opacity.size, colour), (left, top), opacity)


def _within(places: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.intp]:
    return np.clip(np.floor(places), 0, count - 1).astype(np.intp)


def _letter_size(side: int) -> int:
    return max(11, side // 28)


def _mark_ring(mark: Mark) -> Ring:
    """A mark as a closed line of (row, column)."""
    points = np.array(mark.points_yx, float)
    if mark.shape is MarkShape.POINT:
        angles = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
        return points[0] + 3.0 * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    if mark.shape is MarkShape.BOX:
        (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0)
        return np.array([(top, left), (top, right), (bottom, right), (bottom, left)])
    return points


def key_slices(painter: Painter, first: Sequence[int], limit: int) -> list[int]:
    """Slices that show most, in the order of the volume.

    Parameters
    ----------
    first : sequence of int
        Slices that come before all others, the most important first.
    limit : int
        At most so many. Where nothing is marked anywhere: so many evenly spaced ones.
    """
    count = len(painter.volume.array_zyx)
    sizes = np.zeros(count) if painter.mask_zyx is None else (painter.mask_zyx > 0).sum(axis=(1, 2))
    wanted = [*first, *(mark.slice_index for mark in painter.marks)]
    wanted += [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k]]
    chosen = [k for k in dict.fromkeys(wanted) if 0 <= k < count][:limit]
    if not chosen:
        parts = min(limit, count)
        chosen = [round((n + 0.5) * count / parts - 0.5) for n in range(parts)]
    return sorted(chosen)
