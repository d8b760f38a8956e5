"""Overlays in several typefaces are found, in Latin and Japanese, light and dark; smooth pictures are let through."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont

from models.picture import grey_picture, read_png, write_png
from node.remote.text_detector import find_text
from tests.unit.node_remote.scene import FONT, head

_FOLDER = Path("/usr/share/fonts/truetype/dejavu")
FONTS = [
    FONT,
    *(path for name in ("Sans-Bold", "SansMono", "Serif") if (path := _FOLDER / f"DejaVu{name}.ttf").exists()),
]
BLOCKS = (("YAMADA TARO", "ID 00123456", "1960/01/31 M"), ("Smith^John", "DOB 31-Jan-1960", "Acc 998877"))
JAPANESE = (("山田 太郎", "ID:12345678", "昭和35年1月31日"), ("氏名：山田花子", "ヤマダ ハナコ", "西病院"))


def picture() -> npt.NDArray[np.uint8]:
    return grey_picture(head(224), 512)


def drawn(
    lines: tuple[str, ...], font: Path, size: int, fill: int, *, smooth: bool, right: bool
) -> npt.NDArray[np.uint8]:
    image = Image.fromarray(picture())
    pen = ImageDraw.Draw(image)
    pen.fontmode = "L" if smooth else "1"
    face = ImageFont.truetype(str(font), size)
    left = image.width - 4 - max(pen.textlength(line, font=face) for line in lines) if right else 4
    for at, line in enumerate(lines):
        pen.text((left, 4 + at * size * 1.25), line, fill=fill, font=face)
    return np.asarray(image)


@pytest.mark.parametrize("size", [10, 18])
@pytest.mark.parametrize("font", FONTS, ids=lambda path: path.stem)
def test_overlays_are_found(font: Path, size: int) -> None:
    for lines in (*BLOCKS, *(JAPANESE if font == FONT else ())):
        for fill, smooth, right in ((255, True, False), (200, False, True)):
            assert find_text(drawn(lines, font, size, fill, smooth=smooth, right=right)), (lines, fill, smooth)


def test_dark_letters_on_a_light_picture_are_found() -> None:
    light = 255 - picture() // 3
    image = Image.fromarray(light)
    ImageDraw.Draw(image).text((40, 60), "YAMADA TARO 1960", fill=0, font=ImageFont.truetype(str(FONT), 16))
    assert find_text(np.asarray(image))


def test_a_head_without_text_is_let_through() -> None:
    assert find_text(picture()) == []
    assert find_text(np.zeros((300, 300), np.uint8)) == []


def test_noise_that_text_would_hide_in_is_not() -> None:
    assert find_text(np.random.default_rng(1).integers(0, 255, (200, 200)).astype(np.uint8))


def test_pictures_survive_the_way_and_hold_nothing_else() -> None:
    grey = picture()
    assert np.array_equal(read_png(write_png(grey)), grey)
    assert write_png(grey) == write_png(grey.copy())
    assert Image.open(io.BytesIO(write_png(grey))).size == (224, 224)
    for damage in (b"", b"\x89PNG", write_png(grey)[:-1], write_png(grey) + b"x"):
        with pytest.raises(ValueError, match=r"PNG|pixel"):
            read_png(damage)


def test_large_pictures_are_averaged_down() -> None:
    assert grey_picture(np.zeros((2000, 1500)), 768).shape == (666, 500)
    assert (
        grey_picture(np.arange(12.0).reshape(3, 4), 768).min() < grey_picture(np.arange(12.0).reshape(3, 4), 768).max()
    )
