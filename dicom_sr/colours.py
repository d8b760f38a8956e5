"""Colours of segments: the same one in the segmentation object and in every picture."""

from __future__ import annotations

_COLOURS = ((220, 50, 47), (255, 170, 0), (0, 160, 220), (170, 90, 200), (90, 190, 60), (240, 120, 180))


def colour_of(number: int) -> tuple[int, int, int]:
    """Red, green, blue in 0 … 255 of a segment number, from 1; they repeat after six."""
    return _COLOURS[(number - 1) % len(_COLOURS)]
