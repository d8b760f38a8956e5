"""A result on one sheet: warning, result, key slices, figures, limits."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from dicom_sr.pictures.lettering import strip, wrapped
from dicom_sr.pictures.table import draw_table

Rows = Sequence[Sequence[str]]

NOTICE_COLOUR, NOTICE_BACKGROUND = (20, 20, 20), (255, 190, 60)
BACKGROUND = (16, 18, 22)
_TITLE, _TEXT, _SMALL = (255, 255, 255), (230, 230, 230), (175, 180, 190)
_GAP = 8


def notice(text: str, width: int, size: int) -> Image.Image:
    """The warning as a bar of a width: the same wherever it stands, so that it can be looked for."""
    return strip(wrapped(text, size, width - size), width, size, NOTICE_COLOUR, NOTICE_BACKGROUND)


def draw_sheet(
    *,
    warning: str,
    title: str,
    subject: str,
    headline: str,
    montage: Image.Image | None,
    tables: Sequence[Rows],
    limits: Sequence[str],
    width: int,
) -> Image.Image:
    """RGB picture ``width`` pixels wide and as high as its content.

    Parameters
    ----------
    warning, title, subject, headline : str
        From top to bottom: that it is a draft; what was looked for; in whom; and what was found.
    tables : sequence
        Rows of cells, heading first.
    limits : sequence of str
        One sentence a line.
    montage : Image or None
        Ends the sheet, so that it is found again without knowing how much text there is.
    """
    size = width // 64
    parts = [notice(warning, width, size), _lines([title], width, size + 4, _TITLE)]
    parts += [_lines([subject], width, size - 3, _SMALL), _lines([headline], width, size, _TITLE)]
    parts += [draw_table(rows, width, size, BACKGROUND, coloured=True) for rows in tables]
    parts.append(_lines(limits, width, size - 3, _TEXT))
    if montage is not None:
        parts.append(montage)
    sheet = Image.new("RGB", (width, sum(part.height for part in parts) + _GAP * (len(parts) - 1)), BACKGROUND)
    top = 0
    for part in parts:
        sheet.paste(part, ((width - part.width) // 2, top))
        top += part.height + _GAP
    return sheet


def _lines(texts: Sequence[str], width: int, size: int, colour: tuple[int, int, int]) -> Image.Image:
    lines = [line for text in texts if text for line in wrapped(text, size, width - size)]
    return strip(lines, width, size, colour, BACKGROUND)
