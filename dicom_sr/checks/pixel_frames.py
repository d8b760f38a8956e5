"""Frames of a segmentation from the bytes of its Pixel Data, by code of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless
from rle.utils import decode_frame

Places = npt.NDArray[np.intp]
Values = npt.NDArray[np.uint16]
_BITS = np.arange(8)


def nonzero_frames(dataset: FileDataset) -> Iterator[tuple[Places, Values]]:
    """Places in the flattened frame that are not zero, and what is there, frame by frame.

    Raises
    ------
    ValueError
        The bytes do not fit the header.
    """
    content, count = dataset.PixelData, int(dataset.NumberOfFrames)
    pixels, bits = int(dataset.Rows) * int(dataset.Columns), int(dataset.BitsAllocated)
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        yield from map(_nonzero, _decompressed(content, count, pixels, bits))
        return
    if len(content) != (count * pixels * bits + 15) // 16 * 2:
        raise ValueError("pixel data has another length than its frames")
    stored = np.frombuffer(content, np.uint8)
    if bits == 1:
        for n in range(count):
            places = _set_bits(stored, n * pixels, (n + 1) * pixels)
            yield places, np.ones(len(places), np.uint16)
        return
    frames = stored.view(f"<u{bits // 8}")[: count * pixels].reshape(count, pixels)
    yield from map(_nonzero, frames)


def _decompressed(content: bytes, count: int, pixels: int, bits: int) -> Iterator[npt.NDArray[np.generic]]:
    frames = list(generate_frames(content, number_of_frames=count))
    if len(frames) != count:
        raise ValueError("not one fragment for each frame")
    for frame in frames:
        yield np.frombuffer(bytes(decode_frame(frame, pixels, bits, "<")), f"<u{bits // 8}")


def _nonzero(frame: npt.NDArray[np.generic]) -> tuple[Places, Values]:
    places = np.flatnonzero(frame)
    return places, frame[places].astype(np.uint16)


def _set_bits(stored: npt.NDArray[np.uint8], first: int, last: int) -> Places:
    """Set bits from one place in the stream to another, counted from the first; least significant first (PS3.5 8.1.1)."""
    begin = first // 8
    window = stored[begin : -(-last // 8)]
    used = np.flatnonzero(window)
    bits = np.unpackbits(window[used], bitorder="little").reshape(-1, 8)
    places = (used[:, None] * 8 + _BITS)[bits > 0] + (begin * 8 - first)
    return places[(places >= 0) & (places < last - first)]
