"""Several slices side by side, each with its name."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from dicom_sr.pictures.lettering import line_height, shortened_to, write
from dicom_sr.pictures.painter import Painter

CAPTION_COLOUR = (205, 205, 205)
_BACKGROUND = (16, 18, 22)
GAP = 4
"""Pixels between squares, and between a caption and the next square."""


def caption_height(tile: int) -> int:
    """Pixels below a square of ``tile`` pixels that its caption takes."""
    return line_height(_letters(tile))


def _letters(tile: int) -> int:
    return max(11, tile // 22)


def draw_montage(
    painter: Painter, slices: Sequence[int], captions: Sequence[str], *, columns: int, tile: int
) -> Image.Image:
    """RGB picture with one square of ``tile`` pixels for each slice, row by row, and its caption below.

    Raises
    ------
    ValueError
        There is no slice, or not one caption for each.
    """
    if not slices or len(slices) != len(captions):
        raise ValueError(f"{len(captions)} captions for {len(slices)} slices")
    size = _letters(tile)
    columns = min(columns, len(slices))
    wide, high = tile + GAP, tile + caption_height(tile) + GAP
    rows = -(-len(slices) // columns)
    sheet = Image.new("RGB", (wide * columns - GAP, high * rows - GAP), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for n, (k, caption) in enumerate(zip(slices, captions, strict=True)):
        left, top = wide * (n % columns), high * (n // columns)
        sheet.paste(painter.slice(k, tile), (left, top))
        write(pen, (left + 3, top + tile), shortened_to(caption, size, tile - 6), size, CAPTION_COLOUR)
    return sheet
