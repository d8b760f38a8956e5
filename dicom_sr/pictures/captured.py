"""A slice as one frame of a Secondary Capture: warning above, names and figures below, the same places in each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from dicom_sr.pictures.lettering import line_height, shortened_to, strip, wrapped
from dicom_sr.pictures.painter import BACKGROUND, Painter
from dicom_sr.pictures.summary import notice

SIDE = 512
"""Pixels of the square the slice is drawn in."""
_SIZE = 15
_TEXT = (225, 225, 225)
_FOOT_LINES = 6


@dataclass(frozen=True)
class FrameLayout:
    """What all frames of one capture share.

    Attributes
    ----------
    warning : str
        That nobody has reviewed it; stands above every slice.
    foot_lines : int
        Lines kept free below every slice.
    """

    warning: str
    foot_lines: int

    @classmethod
    def fitting(cls, warning: str, feet: Sequence[Sequence[str]]) -> FrameLayout:
        """Layout with room for the longest foot, up to a limit."""
        return cls(warning, max(len(foot_lines(foot)) for foot in feet))

    @property
    def head(self) -> Image.Image:
        """The warning as it stands above every slice."""
        return notice(self.warning, SIDE, _SIZE)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame."""
        return SIDE, self.head.height + SIDE + line_height(_SIZE) * self.foot_lines + _SIZE // 2

    def frame(self, painter: Painter, slice_index: int, foot: Sequence[str]) -> Image.Image:
        """RGB frame of a slice."""
        sheet, head = Image.new("RGB", self.size, BACKGROUND), self.head
        sheet.paste(head, (0, 0))
        sheet.paste(painter.slice(slice_index, SIDE), (0, head.height))
        below = strip(foot_lines(foot)[: self.foot_lines], SIDE, _SIZE, _TEXT, BACKGROUND)
        sheet.paste(below, (0, head.height + SIDE))
        return sheet


def foot_lines(texts: Sequence[str]) -> list[str]:
    """Lines below a slice, wrapped; what is too long for the room ends with an ellipsis."""
    lines = [line for text in texts if text for line in wrapped(text, _SIZE, SIDE - _SIZE)]
    if len(lines) <= _FOOT_LINES:
        return lines
    return [*lines[: _FOOT_LINES - 1], shortened_to(lines[_FOOT_LINES - 1] + "…", _SIZE, SIDE - _SIZE)]
