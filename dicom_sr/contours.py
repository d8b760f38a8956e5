"""Outlines of a mask along the edges of its pixels, with their holes, and the way back.

Coordinates are (row, column); the centre of a pixel has whole numbers, its edges lie half a pixel beside it. (Graphic
annotations and SCOORD count from the corner of the first pixel instead, PS3.3 C.10.5.1.2 and C.18.6.1.2: half a pixel
more, and the column first.) Nothing is smoothed: whoever fills
the outlines gets the mask back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Ring = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_CHANNEL_OFFSET = 0.25  # between pixel edge and pixel centre: a channel touches neither a corner nor a centre


@dataclass(frozen=True, slots=True)
class Polygon:
    """One part of a mask whose pixels touch along edges.

    Attributes
    ----------
    outer : numpy.ndarray
        float64, shape (n, 2): corners as (row, column), clockwise as seen on a screen, the first not repeated at the
        end, no corner on a straight line or visited twice.
    holes : tuple of numpy.ndarray
        The same for each hole, anticlockwise. Two holes that touch at a corner are two holes.
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()


def outlines(mask_yx: Mask) -> list[Polygon]:
    """Outlines of a mask.

    Parameters
    ----------
    mask_yx : numpy.ndarray
        bool, shape (rows, columns).

    Returns
    -------
    list of Polygon
        One for each part, in the order in which their first pixels stand in the mask; pixels that touch at a corner
        only belong to different parts. Empty for an empty mask.

    Raises
    ------
    ValueError
        The mask has not two axes.
    """
    if mask_yx.ndim != 2:
        raise ValueError(f"a mask has two axes, not {mask_yx.ndim}")
    inside = mask_yx.astype(bool, copy=False)
    box = _box(inside)
    if box is None:
        return []
    top, left = box[0].start, box[1].start
    framed = np.pad(inside[box], 1)
    parts, count = ndimage.label(framed)
    outers: list[Ring | None] = [None] * (count + 1)
    holes: list[list[Ring]] = [[] for _ in range(count + 1)]
    shift = np.array([top - 1.5, left - 1.5])
    for ring in _rings(framed):
        row, column = min(ring)  # the pixel below right of the highest, then leftmost corner lies in the ring
        corners = _clockwise(np.array(ring, float)) + shift
        if part := int(parts[row, column]):
            outers[part] = corners
        else:
            holes[int(parts[row - 1, column])].append(corners[::-1])
    return [Polygon(outer, tuple(holes[n])) for n, outer in enumerate(outers) if outer is not None]


def keyhole(polygon: Polygon) -> Ring:
    """One closed ring around a part and its holes, joined by channels of no width (PS3.3 C.8.8.6.3).

    Returns
    -------
    numpy.ndarray
        Shape (n, 2). Channels run along rows, a quarter of a pixel beside the centres, inside of the mask only.
    """
    ring = polygon.outer
    # A channel goes to the left, so what it meets begins further left and is joined already.
    for hole in sorted(polygon.holes, key=lambda hole: (hole[:, 1].min(), hole[hole[:, 1].argmin(), 0])):
        ring = _joined(ring, hole)
    return ring


def filled(rings: Iterable[Ring], shape: tuple[int, int]) -> Mask:
    """Pixels whose centres lie inside of an odd number of the rings.

    Parameters
    ----------
    rings : iterable of numpy.ndarray
        Each of shape (n, 2), closed from the last point to the first, of any form.
    shape : (int, int)
        Rows and columns.
    """
    crossings = np.zeros((shape[0], shape[1] + 1), np.int64)
    for ring in rings:
        for (y0, x0), (y1, x1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            low, high = (y0, y1) if y0 < y1 else (y1, y0)
            rows = np.arange(max(0, int(np.ceil(low))), min(shape[0], int(np.ceil(high))))
            if len(rows):
                at = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
                np.add.at(crossings, (rows, np.clip(np.floor(at).astype(int) + 1, 0, shape[1])), 1)
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


def _box(inside: Mask) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _rings(framed: Mask) -> list[list[tuple[int, int]]]:
    """Corners of every ring; corner (r, c) is the upper left one of pixel (r, c). The mask has an empty frame.

    In every row the corners, in order, are the ends of horizontal edges, two by two; in every column of vertical ones.
    A corner where two pixels touch diagonally is there twice, once for each of them.
    """
    around = framed[:-1, :-1] * 8 + framed[:-1, 1:] * 4 + framed[1:, :-1] * 2 + framed[1:, 1:] * np.uint8(1)
    falling, rising = around == 0b1001, around == 0b0110
    single = np.isin(around, (1, 2, 4, 7, 8, 11, 13, 14))
    rows, columns = np.nonzero(single | falling | rising)
    twice = np.where((falling | rising)[rows, columns], 2, 1)
    copies = np.repeat(np.arange(len(rows)), twice)
    first = np.r_[True, copies[1:] != copies[:-1]]
    y, x = rows[copies], columns[copies]
    # The copies stand in a row as left and right edge; in a column as up and down edge of the same pixel.
    second_up = rising[y, x]
    by_column = np.lexsort((np.where(first ^ second_up, 0, 1), y, x))
    across, along = np.arange(len(y)) ^ 1, np.empty(len(y), np.intp)
    along[by_column[0::2]], along[by_column[1::2]] = by_column[1::2], by_column[0::2]
    return _followed((y + 1).tolist(), (x + 1).tolist(), across.tolist(), along.tolist())


def _followed(y: list[int], x: list[int], across: list[int], along: list[int]) -> list[list[tuple[int, int]]]:
    """Rings by going from corner to corner; one that comes back to a corner it has visited is two rings."""
    rings: list[list[tuple[int, int]]] = []
    seen = [False] * len(y)
    for start in range(len(y)):
        if seen[start]:
            continue
        path: list[tuple[int, int]] = []
        place: dict[tuple[int, int], int] = {}
        corner, sideways = start, True
        while not seen[corner]:
            seen[corner] = True
            here = (y[corner], x[corner])
            if here in place:
                rings.append(path[place[here] :])
                for left in path[place[here] + 1 :]:
                    del place[left]
                del path[place[here] + 1 :]
            else:
                place[here] = len(path)
                path.append(here)
            corner = across[corner] if sideways else along[corner]
            sideways = not sideways
        rings.append(path)
    return rings


def _clockwise(ring: Ring) -> Ring:
    """Clockwise on a screen, where rows grow downwards, beginning at its highest, then leftmost corner."""
    y, x = ring.T
    area = float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    turned = ring if area > 0 else ring[::-1]
    return np.roll(turned, -int(np.lexsort((turned[:, 1], turned[:, 0]))[0]), axis=0)


def _joined(ring: Ring, hole: Ring) -> Ring:
    """The ring with a channel to the left end of a hole."""
    left = hole[:, 1].min()
    start = next(n for n in range(len(hole)) if hole[n, 1] == left == hole[(n + 1) % len(hole), 1])
    after = (start + 1) % len(hole)
    row = min(hole[start, 0], hole[after, 0]) + _CHANNEL_OFFSET
    there = np.roll(ring, -1, axis=0)
    meets = (ring[:, 1] == there[:, 1]) & (ring[:, 1] < left) & ((ring[:, 0] < row) != (there[:, 0] < row))
    edge = int(np.flatnonzero(meets)[ring[meets, 1].argmax()])
    outside, inside = np.array([[row, ring[edge, 1]]]), np.array([[row, left]])
    around = np.roll(hole, -after, axis=0)
    return np.concatenate([ring[: edge + 1], outside, inside, around, inside, outside, ring[edge + 1 :]])
