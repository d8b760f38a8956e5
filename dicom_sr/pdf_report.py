"""A report as PDF: warning on every page, pictures, figures, text; the fonts inside, nothing from a clock.

Written with ReportLab in its invariant mode: the same report gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from xml.sax.saxutils import escape

from PIL import Image as Picture
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Flowable, Frame, Image, PageTemplate, Paragraph, Table

from dicom_sr.moment import Moment
from dicom_sr.pictures.lettering import font_file, legible

_FONT = "ainode-noto-sans-jp"
_MARGIN, _HEAD, _FOOT = 16 * mm, 24 * mm, 16 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_PICTURE_HEIGHT = 104 * mm
_BODY = 10.0
_NOTICE, _INK, _GREY = HexColor(0xFFBE3C), HexColor(0x141414), HexColor(0x5A6068)
_RULE = HexColor(0xB8BEC6)
_CELL_FONT = ("FONTNAME", (0, 0), (-1, -1), _FONT)  # or the tables name a font that is not in the file


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it: paragraphs, a picture, tables (rows of cells, heading first)."""

    heading: str
    paragraphs: tuple[str, ...] = ()
    picture: Picture.Image | None = None
    tables: tuple[Sequence[Sequence[str]], ...] = ()


@dataclass(frozen=True, slots=True)
class PdfReport:
    """What a report says, in its order.

    Attributes
    ----------
    language : str
        RFC 5646 tag.
    title, warning : str
        The warning stands on every page.
    patient : tuple of (str, str)
        Names and values of the block at the top.
    sections : tuple of Section
    page : str
        Words of the foot, with ``{page}`` and ``{pages}``.
    foot : str
        Whose report it is: stands on every page.
    moment : Moment
        Date of the images, the document's creation date.
    producer : str
        Name and version of the software.
    """

    language: str
    title: str
    warning: str
    patient: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    page: str
    foot: str
    moment: Moment
    producer: str

    def encoded(self) -> bytes:
        """The PDF file."""
        # How many pages there are is only known afterwards, and every page says it.
        _, pages = self._written(0)
        content, _ = self._written(pages)
        return content

    def _written(self, pages: int) -> tuple[bytes, int]:
        # A font remembers the subset it was used for: a new one for each document keeps the bytes the same.
        pdfmetrics.registerFont(TTFont(_FONT, BytesIO(font_file())))
        buffer = BytesIO()
        document = BaseDocTemplate(
            buffer,
            pagesize=A4,
            title=legible(f"{self.title} - {self.warning}"),
            author=self.producer,
            subject=legible(self.title),
            creator=self.producer,
            producer=self.producer,
            lang=self.language,
            invariant=1,
            initialFontName=_FONT,
        )
        frame = Frame(_MARGIN, _FOOT, _WIDTH, A4[1] - _HEAD - _FOOT, leftPadding=0, rightPadding=0)
        document.addPageTemplates(PageTemplate(frames=[frame], onPage=self._page_writer(pages)))
        document.build(self._flow())
        return buffer.getvalue(), document.page

    def _page_writer(self, pages: int) -> Callable[[Canvas, BaseDocTemplate], None]:
        def draw(canvas: Canvas, document: BaseDocTemplate) -> None:
            canvas.setDateFormatter(lambda *_: _pdf_date(self.moment))
            canvas.setFillColor(_NOTICE)
            canvas.rect(_MARGIN, A4[1] - 18 * mm, _WIDTH, 8 * mm, stroke=0, fill=1)
            _line(canvas, (_MARGIN + 2 * mm, A4[1] - 15.4 * mm), self.warning, 11, _INK)
            number = self.page.format(page=document.page, pages=pages)
            _line(canvas, (_MARGIN, 10 * mm), f"{self.foot} · {number}", 8, _GREY)

        return draw

    def _flow(self) -> list[Flowable]:
        flow: list[Flowable] = [Paragraph(_markup(self.title), self._style(17, 6)), self._patient_block()]
        for section in self.sections:
            flow.append(Paragraph(_markup(section.heading), self._style(12.5, 2, before=9)))
            flow += [Paragraph(_markup(text), self._style(_BODY, 3)) for text in section.paragraphs if text.strip()]
            if section.picture is not None:
                flow.append(_image(section.picture))
            flow += [self._table(rows) for rows in section.tables]
        return flow

    def _style(self, size: float, after: float, *, before: float = 0.0, colour: Color = _INK) -> ParagraphStyle:
        wrap = "CJK" if self.language == "ja" else None
        return ParagraphStyle(
            f"{size}", fontName=_FONT, fontSize=size, leading=size * 1.4, spaceBefore=before, spaceAfter=after,
            textColor=colour, wordWrap=wrap, keepWithNext=size > _BODY, bulletFontName=_FONT,
        )  # fmt: skip

    def _patient_block(self) -> Flowable:
        style = self._style(9.5, 0)
        cells = [Paragraph(f"{_markup(name)}: {_markup(value)}", style) for name, value in self.patient]
        cells += [Paragraph("", style)] * (len(cells) % 2)
        rows = [cells[n : n + 2] for n in range(0, len(cells), 2)]
        return Table(rows, colWidths=[_WIDTH / 2] * 2, style=[_CELL_FONT, ("BOX", (0, 0), (-1, -1), 0.5, _RULE)])

    def _table(self, rows: Sequence[Sequence[str]]) -> Flowable:
        style, heading = self._style(9.5, 0), self._style(9.5, 0, colour=_GREY)
        cells = [[Paragraph(_markup(cell), style if r else heading) for cell in row] for r, row in enumerate(rows)]
        return Table(
            cells,
            colWidths=[_WIDTH / len(rows[0])] * len(rows[0]),
            repeatRows=1,
            style=[_CELL_FONT, ("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE)],
            spaceBefore=2,
            spaceAfter=4,
        )


def _markup(text: str) -> str:
    """Text as ReportLab's paragraphs take it, with characters the font has."""
    return "<br/>".join(escape(legible(line)) for line in text.splitlines())


def _image(picture: Picture.Image) -> Flowable:
    scale = min(_WIDTH / picture.width, _PICTURE_HEIGHT / picture.height)
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    buffer.seek(0)
    image = Image(buffer, picture.width * scale, picture.height * scale)
    image.spaceAfter = 4
    return image


def _line(canvas: Canvas, at: tuple[float, float], text: str, size: float, colour: Color) -> None:
    canvas.setFont(_FONT, size)
    canvas.setFillColor(colour)
    canvas.drawString(at[0], at[1], legible(text))


def _pdf_date(moment: Moment) -> str:
    return f"D:{moment.date or '19000101'}{moment.time[:6] or '000000'}"
