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
MARK_COLOUR = (255, 230, 0)
SIDE_COLOUR = (255, 255, 140)
_SCALE_ABOVE = 2
"""Outlines are drawn this much larger and then reduced, which makes them smooth."""


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
        size = picture.width * _SCALE_ABOVE, picture.height * _SCALE_ABOVE
        per_row, per_column = self._scale(size)

        def places(points_yx: Ring) -> list[tuple[float, float]]:
            # The centre of the first pixel is 0, its edge -0.5; the picture begins at the edge.
            return [((x + 0.5) * per_column, (y + 0.5) * per_row) for y, x in points_yx]

        for colour, rings in self._rings(slice_index):
            layer = Image.new("L", size)
            pen = ImageDraw.Draw(layer)
            for ring in rings:
                corners = places(ring)
                pen.line([*corners, corners[0], corners[1]], fill=255, width=_line_width(picture), joint="curve")
            opacity = layer.resize(picture.size, Image.Resampling.BOX)
            picture.paste(Image.new("RGB", picture.size, colour), mask=opacity)

    def _rings(self, slice_index: int) -> list[tuple[tuple[int, int, int], list[Ring]]]:
        """Colour and closed lines of everything drawn in a slice."""
        drawn: list[tuple[tuple[int, int, int], list[Ring]]] = []
        for number in self.numbers(slice_index):
            assert self.mask_zyx is not None
            parts = outlines(self.mask_zyx[slice_index] == number)
            drawn.append((colour_of(number), [ring for part in parts for ring in (part.outer, *part.holes)]))
        for mark in self._marks(slice_index):
            drawn.append((MARK_COLOUR, [_mark_ring(mark)]))
        return drawn

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


def _line_width(picture: Image.Image) -> int:
    return _SCALE_ABOVE * max(1, round(max(picture.size) / 320))


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
