"""Colours of segments: the same one in the segmentation object and in every picture."""

from __future__ import annotations

from collections.abc import Sequence

_COLOURS = ((220, 50, 47), (255, 170, 0), (0, 160, 220), (170, 90, 200), (90, 190, 60), (240, 120, 180))


def colour_of(number: int) -> tuple[int, int, int]:
    """Red, green, blue in 0 … 255 of a segment number, from 1; they repeat after six."""
    return _COLOURS[(number - 1) % len(_COLOURS)]


def rgb_of(cielab: Sequence[int]) -> tuple[int, int, int]:
    """Red, green, blue in 0 … 255 of a Recommended Display CIELab Value (PS3.3 C.10.7.1.1), D65 as highdicom writes it.

    Parameters
    ----------
    cielab : sequence of int
        L*, a*, b* as unsigned 16-bit numbers.
    """
    lightness = cielab[0] / 65535 * 100
    a, b = (value / 65535 * 255 - 128 for value in cielab[1:])
    y = (lightness + 16) / 116
    xyz = [white * _expanded(value) for white, value in zip(_WHITE, (y + a / 500, y, y - b / 200), strict=True)]
    linear = (sum(weight * value for weight, value in zip(row, xyz, strict=True)) for row in _TO_RGB)
    red, green, blue = (_eight_bits(value) for value in linear)
    return red, green, blue


_WHITE = (0.950456, 1.0, 1.088754)
_TO_RGB = ((3.240479, -1.537150, -0.498535), (-0.969256, 1.875992, 0.041556), (0.055648, -0.204043, 1.057311))


def _expanded(value: float) -> float:
    return value**3 if value > 6 / 29 else 3 * (6 / 29) ** 2 * (value - 4 / 29)


def _eight_bits(linear: float) -> int:
    """IEC 61966-2-1."""
    level = max(0.0, min(1.0, linear))
    curved = 12.92 * level if level <= 0.0031308 else 1.055 * level ** (1 / 2.4) - 0.055
    return round(curved * 255)
