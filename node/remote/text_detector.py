"""Is there text in a picture? Looks for lines of glyphs: thin, flat, high-contrast strokes of one brightness and height.

No trained weights: text burned into a medical image is drawn, so its strokes have one value and one width and stand in a
row, which tissue does not do. The detector errs towards "there is text". It was tuned on overlays in several typefaces,
Latin and Japanese, over radiographs, CT and MR; what it is known to miss is stated in docs/remote.md: letters lower than
six pixels, fainter than a fifth of the grey scale, slanted by more than a few degrees, or a single glyph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Grey = npt.NDArray[np.uint8]

_STROKE_SIZES = (7, 15, 27)
"""Sides of the squares that strokes are thinner than, in pixels: for small, ordinary and large letters."""
_CONTRAST = 45
"""Least difference of a stroke from what is around it, in grey levels of 256."""
_FLAT = 7
"""Values within so many grey levels of a component's brightest count as one value."""
_FLAT_SHARE = 0.4
"""Least share of a component's pixels that have that value; the rest is the soft edge of a smoothed letter."""
_SAME_VALUE = 22
"""Grey levels by which the values of one line's glyphs may differ."""
_HEIGHT = (5, 110)
_WINDOW = (11, 30)
"""Rows and columns of a window that steps are counted in."""
_STEP = 50
"""Least difference over two pixels that counts as a step, in grey levels."""
_DENSITY = 0.2
_NOISE_DENSITY = 0.4
_NOISE_SHARE = 0.15
"""A picture with so large a share of windows as full of steps as this is noise that text would hide in."""
_WINDOWS = 80
"""At most so many windows are looked at, the densest first."""
_ONE_VALUE_SHARE = 0.5
"""Least share of a window's stroke pixels within seven grey levels of each other."""
_GLYPHS = 4
"""Fewer glyphs in a row are no line."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """A row of glyphs: bounding box in pixels, end exclusive, and how many parts it has."""

    top: int
    left: int
    bottom: int
    right: int
    glyphs: int


@dataclass(frozen=True, slots=True)
class _Part:
    top: int
    left: int
    bottom: int
    right: int
    value: float
    width: float

    @property
    def height(self) -> int:
        return self.bottom - self.top


def find_text(image: Grey) -> list[TextLine]:
    """Lines of what looks like text, light on dark and dark on light; empty where there is none.

    Parameters
    ----------
    image : numpy.ndarray
        uint8, rows × columns.
    """
    found: list[TextLine] = []
    for picture in (image, 255 - image):
        found += _dense(picture, image)
        for size in _STROKE_SIZES:
            found += _lines(list(_parts(picture, size)))
    return sorted(set(found), key=lambda each: (each.top, each.left))


def _dense(picture: Grey, image: Grey) -> Iterator[TextLine]:
    """Windows full of steps in both directions whose strokes have one value: small or touching letters, and kanji."""
    high, wide = _WINDOW
    if image.shape[0] < high or image.shape[1] < wide:
        return
    values = image.astype(np.int16)
    across, down = np.zeros(image.shape, np.float32), np.zeros(image.shape, np.float32)
    across[:, 1:-1] = np.abs(values[:, 2:] - values[:, :-2]) >= _STEP
    down[1:-1] = np.abs(values[2:] - values[:-2]) >= _STEP
    density = np.minimum(ndimage.uniform_filter(across, _WINDOW), ndimage.uniform_filter(down, _WINDOW))
    if np.mean(density >= _NOISE_DENSITY) > _NOISE_SHARE:
        # Nobody could say whether there is text in such a picture: then there is.
        yield TextLine(0, 0, image.shape[0], image.shape[1], 0)
        return
    peaks = (density >= _DENSITY) & (density == ndimage.maximum_filter(density, size=(5, 9)))
    rows, columns = np.nonzero(peaks)
    order = np.argsort(-density[rows, columns], kind="stable")[:_WINDOWS]
    strokes = ndimage.white_tophat(picture, size=(9, 9)) >= _CONTRAST if order.size else None
    for row, column in zip(rows[order], columns[order], strict=True):
        assert strokes is not None
        top, left = max(0, int(row) - high // 2), max(0, int(column) - wide // 2)
        where = slice(top, top + high), slice(left, left + wide)
        drawn = picture[where][strokes[where]]
        if drawn.size < 0.12 * high * wide:
            continue
        counts = np.bincount(drawn, minlength=256).astype(np.float64)
        if np.convolve(counts, np.ones(7), "same").max() >= _ONE_VALUE_SHARE * drawn.size:
            yield TextLine(top, left, min(top + high, image.shape[0]), min(left + wide, image.shape[1]), 0)


def _parts(picture: Grey, size: int) -> Iterator[_Part]:
    """Flat thin components."""
    strokes = ndimage.white_tophat(picture, size=(size, size)) >= _CONTRAST
    labels, count = ndimage.label(strokes, structure=np.ones((3, 3), dtype=bool))
    for number, where in enumerate(ndimage.find_objects(labels, max_label=count), 1):
        rows, columns = where
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if not (_HEIGHT[0] <= height <= _HEIGHT[1]) or width > 3 * height + 4:
            continue
        inside = labels[where] == number
        values = picture[where][inside]
        if values.size < 5:
            continue
        top = float(np.percentile(values, 90))
        if np.mean(np.abs(values - top) <= _FLAT) < _FLAT_SHARE:
            continue
        depth = ndimage.distance_transform_cdt(np.pad(inside, 1), metric="chessboard")
        yield _Part(rows.start, columns.start, rows.stop, columns.stop, top, 2.0 * float(depth.max()) - 1)


def _lines(parts: list[_Part]) -> list[TextLine]:
    """Rows of at least so many parts of like height, value and stroke, each near the next."""
    parts = sorted(parts, key=lambda each: each.left)
    group = list(range(len(parts)))

    def root(at: int) -> int:
        while group[at] != at:
            group[at] = group[group[at]]
            at = group[at]
        return at

    for a, one in enumerate(parts):
        for b in range(a + 1, len(parts)):
            other = parts[b]
            if other.left - one.right > 1.3 * max(one.height, other.height) + 2:
                if other.left - one.left > 6 * _HEIGHT[1]:
                    break
                continue
            if _neighbours(one, other):
                group[root(a)] = root(b)
    members: dict[int, list[_Part]] = {}
    for at, part in enumerate(parts):
        members.setdefault(root(at), []).append(part)
    return [line for each in members.values() if (line := _line(each)) is not None]


def _neighbours(one: _Part, other: _Part) -> bool:
    high, low = max(one.height, other.height), min(one.height, other.height)
    overlap = min(one.bottom, other.bottom) - max(one.top, other.top)
    return (
        low >= 0.45 * high
        and overlap >= 0.6 * low
        and abs(one.value - other.value) <= _SAME_VALUE
        and max(one.width, other.width) <= 2.0 * min(one.width, other.width) + 1
    )


def _line(parts: list[_Part]) -> TextLine | None:
    if len(parts) < _GLYPHS:
        return None
    box = (
        min(each.top for each in parts),
        min(each.left for each in parts),
        max(each.bottom for each in parts),
        max(each.right for each in parts),
    )
    tallest = max(each.height for each in parts)
    if box[2] - box[0] > 2.2 * tallest or box[3] - box[1] < 1.2 * tallest:
        return None
    return TextLine(*box, glyphs=len(parts))
