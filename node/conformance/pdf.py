"""The document as PDF."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import BytesIO

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table

from dicom_sr.pictures.lettering import font_file
from node.conformance.blocks import Block, Grid, Heading, Words

_FONT = "AinodeStatement"
_WIDTH = A4[0] - 36 * mm
_GREY = HexColor("#999999")


def as_pdf(blocks: Sequence[Block]) -> bytes:
    """The document as PDF, A4; the same blocks give the same bytes."""
    if _FONT not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(_FONT, BytesIO(font_file())))
    title = next(block.text for block in blocks if isinstance(block, Heading))
    out = BytesIO()
    document = SimpleDocTemplate(
        out, pagesize=A4, leftMargin=18 * mm, rightMargin=18 * mm, title=title, author="ainode", invariant=1
    )
    document.build([each for block in blocks for each in _flowables(block)])
    return out.getvalue()


def _flowables(block: Block) -> list[Flowable]:
    match block:
        case Heading(level, text):
            size = {1: 18, 2: 14}.get(level, 11)
            style = ParagraphStyle(
                "h", fontName=_FONT, fontSize=size, leading=size * 1.3, spaceBefore=8, keepWithNext=1
            )
            return [Paragraph(escape(text), style)]
        case Words(text):
            return [Paragraph(escape(text), _text(9)), Spacer(1, 4)]
        case Grid(rows):
            return [_table(rows), Spacer(1, 6)]


def _text(size: float) -> ParagraphStyle:
    return ParagraphStyle("t", fontName=_FONT, fontSize=size, leading=size * 1.3, splitLongWords=1)


def _table(rows: tuple[tuple[str, ...], ...]) -> Table:
    cells = [[Paragraph(escape(cell), _text(7)) for cell in row] for row in rows]
    longest = [max(8, min(60, max(len(row[column]) for row in rows))) for column in range(len(rows[0]))]
    widths = [_WIDTH * each / sum(longest) for each in longest]
    table = Table(cells, colWidths=widths, repeatRows=1)
    table.setStyle([("GRID", (0, 0), (-1, -1), 0.4, _GREY), ("VALIGN", (0, 0), (-1, -1), "TOP")])
    return table
