"""Where two tokens stand to each other, as OFA numbers it (Wang et al. 2022, arXiv 2202.03052): buckets of distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def token_buckets(size: int, positions: int) -> Tensor:
    """Bucket (positions, positions) of a token for each other one: near ones by distance, far ones by its logarithm."""
    places = torch.arange(positions)
    distance = places[:, None] - places[None]
    middle = size // 2
    far = torch.log(distance.abs().clamp(min=middle) / middle) / math.log((positions - 1) / middle) * (middle - 1)
    steps = (torch.ceil(far).int() + middle) * torch.sign(distance)
    return torch.where(distance.abs() <= middle, distance, steps).long() + size - 1


def image_buckets(size: int) -> Tensor:
    """Bucket (cells, cells) of a cell for each other one by rows and columns between them.

    Place 0 is no cell but the start of an image that is written; the last three buckets are its own.
    """
    cells = torch.arange(size * size)
    row, column = cells // size, cells % size
    span = 2 * size - 1
    between = (row[:, None] - row[None] + size - 1) * span + column[:, None] - column[None] + size - 1
    count = image_bucket_count(size)
    start = torch.full((1, size * size), count - 3)
    corner = torch.full((1, 1), count - 1)
    below = torch.cat([torch.full((size * size, 1), count - 2), between], 1)
    return torch.cat([torch.cat([corner, start], 1), below])


def image_bucket_count(size: int) -> int:
    """Buckets of :func:`image_buckets`."""
    return (2 * size - 1) ** 2 + 3


def cells_of(rows: int, columns: int, size: int) -> Tensor:
    """Places (rows × columns) of an image's cells in the table of ``size`` × ``size``; the first cell is place 1."""
    return (torch.arange(rows)[:, None] * size + torch.arange(columns)[None] + 1).flatten()


def written_cells(size: int, count: int) -> Tensor:
    """Places of tokens of an image that is written, 16 × 16 behind its start; the rest of ``count`` is filler."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), cells_of(16, 16, size), torch.full((count - 257,), 1024)])
