"""How large a picture a model that takes several sizes is given."""

from __future__ import annotations

import math
from collections.abc import Sequence


def best_grid(width: int, height: int, most: int, size: int) -> tuple[int, int]:
    """Columns and rows of tiles whose shape is nearest to that of the image: InternVL's rule.

    Of two equally near ones the later (larger) wins where the image has more than half its pixels.
    """
    grids = sorted(
        {(i, j) for n in range(1, most + 1) for i in range(1, n + 1) for j in range(1, n + 1) if i * j <= most},
        key=lambda each: (each[0] * each[1], each),
    )
    best, nearest = (1, 1), float("inf")
    for columns, rows in grids:
        away = abs(width / height - columns / rows)
        larger = width * height > 0.5 * size * size * columns * rows
        if away < nearest or (away == nearest and larger):
            best, nearest = (columns, rows), away
    return best


def smart_size(rows: int, columns: int, patch: int, grids: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Rows and columns of patches out of ``grids`` whose shape is nearest to the image's; of equal ones the largest.

    Qwen's own rule rounds each side to a multiple of two patches and would want a graph for each size.
    """
    if not grids:
        raise ValueError("no grid of patches is allowed")
    wanted = rows / columns
    return min(grids, key=lambda grid: (round(abs(grid[0] / grid[1] / wanted - 1), 3), -grid[0] * grid[1]))


def own_size(rows: int, columns: int, unit: int, least: int, most: int) -> tuple[int, int]:
    """Rows and columns of pixels nearest to the image's own, both multiples of ``unit``, in ``least`` to ``most`` tokens.

    The rule of VideoLLaMA 3 and Hulu-Med (``image_processing_hulumed.py``) for one image. That code takes the width of an
    image read from a file for its height; given an array, as here, it does not.
    """
    high, wide = (max(round(each / unit), 1) * unit for each in (rows, columns))
    shrink = math.sqrt(rows * columns / (most * unit * unit))
    if high * wide > most * unit * unit:
        high, wide = (max(math.floor(each / shrink / unit), 1) * unit for each in (rows, columns))
    if high * wide < least * unit * unit:
        grow = math.sqrt(least * unit * unit / (rows * columns))
        high, wide = (math.ceil(each * grow / unit) * unit for each in (rows, columns))
    return high, wide
