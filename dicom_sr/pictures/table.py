"""A table of text as pixels."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from dicom_sr.colours import colour_of
from dicom_sr.pictures.lettering import face, legible, line_height, shortened_to, write

_HEADING = (150, 190, 230)
_TEXT = (230, 230, 230)
_RULE = (70, 75, 85)


def draw_table(
    rows: Sequence[Sequence[str]], width: int, size: int, background: tuple[int, int, int], *, coloured: bool
) -> Image.Image:
    """RGB picture of a table, the first row as heading, columns as wide as their texts need.

    Parameters
    ----------
    coloured : bool
        Whether a first cell that is a number gets the colour of that segment.
    """
    height = line_height(size) + 4
    sheet = Image.new("RGB", (width, height * len(rows)), background)
    pen, font = ImageDraw.Draw(sheet), face(size)
    needed = [max(font.getlength(legible(row[n])) for row in rows) + size for n in range(len(rows[0]))]
    shrink = min(1.0, (width - size) / sum(needed))
    for r, row in enumerate(rows):
        left = size / 2
        for n, cell in enumerate(row):
            colour = _HEADING if r == 0 else _TEXT
            if coloured and n == 0 and r and cell.isdigit():
                colour = colour_of(int(cell))
            write(pen, (left, r * height + 2), shortened_to(cell, size, needed[n] * shrink - 4), size, colour)
            left += needed[n] * shrink
        pen.line([(size // 2, (r + 1) * height - 1), (width - size // 2, (r + 1) * height - 1)], fill=_RULE)
    return sheet
