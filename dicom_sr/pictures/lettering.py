"""Text in pictures: the font this package ships, what it can show, and lines that fit."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from io import BytesIO
from unicodedata import category, normalize

from PIL import Image, ImageDraw, ImageFont
from reportlab.pdfbase.ttfonts import TTFontFile

Colour = tuple[int, int, int]

_MISSING = "〓"
"""The geta mark: what Japanese typesetters put where a character is missing."""
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]{2,}")
_WORDS = re.compile(r"[!-~\u00a1-\u04ff\u1e00-\u206f]+ ?|.")
_NEVER_FIRST = frozenset("、。，．）」』】・：；！？ー々")


@cache
def font_file() -> bytes:
    """The TrueType font, Noto Sans JP."""
    return (files("dicom_sr") / "fonts" / "NotoSansJP-Regular.ttf").read_bytes()


@cache
def face(size: int) -> ImageFont.FreeTypeFont:
    """The font in a size of pixels. The basic layout engine is the same on every machine."""
    return ImageFont.truetype(BytesIO(font_file()), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _shown() -> frozenset[int]:
    return frozenset(TTFontFile(BytesIO(font_file())).charToGlyph)


def can_show(text: str) -> bool:
    """Whether the font has every character."""
    return all(ord(c) in _shown() for c in text)


def legible(text: str) -> str:
    """``text`` with characters the font has: plain forms for presentation forms, a geta mark where there is no other.

    Control characters are dropped; exponents in superscripts, of which the font has some only, become ``^-6``.
    """
    plain = _RAISED.sub(lambda match: "^" + normalize("NFKC", match[0]).replace("\u2212", "-"), text)
    return "".join(_shown_as(c) for c in plain if category(c)[0] != "C")


def _shown_as(character: str) -> str:
    if can_show(character):
        return character
    simple = normalize("NFKC", character)
    return simple if can_show(simple) else _MISSING


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Lines of at most ``width`` pixels: broken between words, and between Japanese characters."""
    font, lines = face(size), [""]
    for word in _WORDS.findall(legible(text)):
        fits = font.getlength((lines[-1] + word).rstrip()) <= width
        if lines[-1] and not fits and word not in _NEVER_FIRST:
            lines.append("")
        lines[-1] += word if lines[-1] else word.lstrip()
    return [line.rstrip() for line in lines]


def shortened_to(text: str, size: int, width: float) -> str:
    """``text`` on one line, its end cut where it is too long."""
    text, font = legible(text), face(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def line_height(size: int) -> int:
    """Distance of lines in pixels."""
    return round(size * 1.4)


def write(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: Colour) -> None:
    """One line, its upper left corner at ``at``."""
    pen.text(at, text, fill=colour, font=face(size))


def write_on_picture(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: Colour, anchor: str
) -> None:
    """One line that can be read on black and on white: with a dark rim."""
    pen.text(
        at, text, fill=colour, font=face(size), anchor=anchor, stroke_width=max(1, size // 8), stroke_fill=(0, 0, 0)
    )


def strip(lines: list[str], width: int, size: int, colour: Colour, background: Colour) -> Image.Image:
    """Lines of text on a bar of a width."""
    height = line_height(size)
    bar = Image.new("RGB", (width, height * len(lines) + size // 2), background)
    pen = ImageDraw.Draw(bar)
    for n, line in enumerate(lines):
        write(pen, (size // 2, n * height + size // 8), line, size, colour)
    return bar
