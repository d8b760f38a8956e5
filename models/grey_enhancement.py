"""Contrast of 8-bit radiographs as OpenCV changes it, for networks that were trained on such pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.uint8]


def equalised(levels: Levels) -> Levels:
    """``cv2.equalizeHist`` of one plane (rows, columns): the darkest level there is becomes 0, the brightest 255."""
    counts = np.bincount(levels.ravel(), minlength=256)
    darkest = int(np.flatnonzero(counts)[0])
    rest = levels.size - int(counts[darkest])
    if rest == 0:
        return levels.copy()
    below = np.cumsum(counts) - np.cumsum(counts)[darkest]
    # In single precision, as the library computes, whose rounding goes to the even neighbour.
    table = np.rint(below.clip(0).astype(np.float32) * (np.float32(255.0) / np.float32(rest)))
    return np.clip(table, 0, 255).astype(np.uint8)[levels]


def smoothed(levels: Levels) -> Levels:
    """``cv2.GaussianBlur(levels, (3, 3), 0)`` of one plane: quarter, half, quarter each way, mirrored at the border."""
    wide = np.pad(levels, 1, mode="reflect").astype(np.int32)
    across = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    return ((across[:-2] + 2 * across[1:-1] + across[2:] + 8) >> 4).astype(np.uint8)
