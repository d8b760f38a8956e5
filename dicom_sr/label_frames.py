"""A label mask as the frames of a segmentation: one bit, one fraction or one label for each pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.results import LabelMask

MAXIMUM_FRACTION = 255
"""Maximum Fractional Value: the stored value of a probability of 1."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where on a slice of a layer a label is: between two places in the flattened slice, ``first`` included, ``last`` not."""

    label: int
    slice_index: int
    first: int
    last: int
    layer: int = 0


def extents(*layers: LabelMask) -> list[Extent]:
    """Every slice of every label that is on it; by label, then by slice. A label is in one layer (z, y, x) only."""
    found = [
        extent
        for layer, mask_zyx in enumerate(layers)
        for k, plane in enumerate(mask_zyx)
        for extent in _of_slice(layer, k, plane.ravel())
    ]
    return sorted(found, key=lambda extent: (extent.label, extent.slice_index))


def _of_slice(layer: int, slice_index: int, flat: LabelMask) -> Iterator[Extent]:
    """Labels along the runs of equal values, which are few, instead of along the pixels."""
    starts = np.r_[0, np.flatnonzero(flat[1:] != flat[:-1]) + 1]
    labels, first = np.unique(flat[starts], return_index=True)
    ends = np.r_[starts[1:], len(flat)]
    last = len(starts) - 1 - np.unique(flat[starts][::-1], return_index=True)[1]
    for label, begin, end in zip(labels.tolist(), starts[first].tolist(), ends[last].tolist(), strict=True):
        if label:
            yield Extent(label, slice_index, begin, end, layer)


def binary(layers: Sequence[LabelMask], frames: Sequence[Extent]) -> bytes:
    """One bit a pixel, least significant first, frames without padding between them (PS3.5 8.1.1).

    Parameters
    ----------
    layers : sequence of numpy.ndarray
        Masks (z, y, x) the frames are of.
    frames : sequence of Extent
        One for each frame, in their order.
    """
    pixels = layers[0][0].size
    if pixels % 8:
        return _unaligned(layers, frames)
    size = pixels // 8
    nothing, parts = memoryview(bytes(size)), []
    for frame in frames:
        begin, end = frame.first // 8, -(-frame.last // 8)
        bits = layers[frame.layer][frame.slice_index].reshape(-1)[begin * 8 : end * 8] == frame.label
        parts += [nothing[:begin], np.packbits(bits, bitorder="little").data, nothing[end:]]
    return b"".join([*parts, bytes(size * len(frames) % 2)])


def _unaligned(layers: Sequence[LabelMask], frames: Sequence[Extent]) -> bytes:
    """The same where frames do not end with a byte: eight of them always do."""
    parts = []
    for n in range(0, len(frames), 8):
        planes = np.stack([layers[frame.layer][frame.slice_index] == frame.label for frame in frames[n : n + 8]])
        parts.append(np.packbits(planes.ravel(), bitorder="little").tobytes())
    content = b"".join(parts)
    return content + b"\x00" * (len(content) % 2)


def fractional(
    mask_zyx: LabelMask, probability_zyx: npt.NDArray[np.float32], frames: Sequence[Extent]
) -> Iterator[npt.NDArray[np.uint8]]:
    """One byte a pixel for each frame: the probability where the label is, never less than 1 there, and 0 elsewhere.

    A probability outside of every region belongs to no segment; a parametric map shows it. What is not zero is exactly
    the mask, whatever threshold made it.
    """
    for frame in frames:
        here = mask_zyx[frame.slice_index] == frame.label
        values = np.zeros(here.shape, np.uint8)
        values[here] = quantised(probability_zyx[frame.slice_index][here])
        yield values


def quantised(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Probabilities in [0, 1] as stored values 1 … :data:`MAXIMUM_FRACTION`."""
    return np.clip(np.rint(probability * np.float32(MAXIMUM_FRACTION)), 1, MAXIMUM_FRACTION).astype(np.uint8)


def labelled(mask_zyx: LabelMask, slices: Sequence[int], numbers: Mapping[int, int], bits: int) -> Iterator[LabelMask]:
    """One label a pixel for each slice: the Segment Number of the region there, 0 elsewhere.

    Parameters
    ----------
    numbers : mapping of int to int
        Segment Number of each label of the mask that is wanted.
    bits : int
        8 or 16.
    """
    table = np.zeros(int(mask_zyx.max(initial=0)) + 1, f"<u{bits // 8}")
    for label, number in numbers.items():
        table[label] = number
    for k in slices:
        yield table[mask_zyx[k]]
