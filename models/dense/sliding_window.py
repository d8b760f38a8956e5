"""A network that sees one window at a time, over a whole image.

Sources: nnunetv2/inference/sliding_window_prediction.py of MIC-DKFZ/nnUNet@09eef55; monai/inferers/utils.py and
monai/data/utils.py of Project-MONAI/MONAI 1.6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.dense.options import Window
from models.errors import InferenceFailed

Array = npt.NDArray[np.float32]
Network = Callable[[Array], Array]
"""Image (1, channels, …) to logits (1, classes, …) of the same size."""

_SPREAD = 0.125
"""Standard deviation of the Gaussian, in window sizes."""
_LEAST = 1e-3
"""Least weight under MONAI's rule, of the largest."""


def starts(length: int, window: int, overlap: float, rule: str) -> list[int]:
    """First voxels of the windows along one axis of at least ``window`` voxels."""
    if length <= window:
        return [0]
    if rule == "nnunet":
        count = int(np.ceil((length - window) / (window * (1 - overlap)))) + 1
        return [int(np.round((length - window) / (count - 1) * n)) for n in range(count)]
    step = max(int(window * (1 - overlap)), 1)
    count = int(np.ceil((length - window) / step)) + 1
    return [min(n * step, length - window) for n in range(count)]


def weights(size: Sequence[int], blend: str, rule: str) -> Array:
    """How much each voxel of a window counts, largest 1."""
    if blend == "constant":
        return np.ones(tuple(size), np.float32)
    if rule == "nnunet":
        point = np.zeros(tuple(size))
        point[tuple(n // 2 for n in size)] = 1
        made = ndimage.gaussian_filter(point, [n * _SPREAD for n in size], mode="constant")
        made /= made.max()
        made[made == 0] = made[made > 0].min()
        return made.astype(np.float32)
    made = np.ones(())
    for n in size:
        x = np.arange(n) - (n - 1) / 2
        made = made[..., np.newaxis] * np.exp(-(x**2) / (2 * (_SPREAD * n) ** 2))
    return np.maximum(made, max(float(made[made > 0].min()), _LEAST)).astype(np.float32)


def slide(image: Array, network: Network, window: Window) -> Array:
    """Logits (classes, …) of an image (channels, z, y, x).

    Raises
    ------
    InferenceFailed
        The network gives another size than it was given.
    """
    if len(window.size) == 2:
        return np.stack([_slid(image[:, z], network, window) for z in range(image.shape[1])], axis=1)
    return _slid(image, network, window)


def _slid(image: Array, network: Network, window: Window) -> Array:
    size = window.size
    lacking = [max(n - have, 0) for n, have in zip(size, image.shape[1:], strict=True)]
    before = [n // 2 for n in lacking]
    padded = np.pad(image, [(0, 0), *((low, n - low) for low, n in zip(before, lacking, strict=True))])
    weight = weights(size, window.blend, window.rule)
    total = np.zeros(padded.shape[1:], np.float32)
    summed: Array | None = None
    axes = [starts(have, n, window.overlap, window.rule) for have, n in zip(padded.shape[1:], size, strict=True)]
    for corner in product(*axes):
        here = tuple(slice(start, start + n) for start, n in zip(corner, size, strict=True))
        made = network(np.ascontiguousarray(padded[(slice(None), *here)])[np.newaxis])
        if made.shape[0] != 1 or made.shape[2:] != size:
            raise InferenceFailed(f"a window of {size} gave an answer of shape {made.shape}")
        if summed is None:
            summed = np.zeros((made.shape[1], *padded.shape[1:]), np.float32)
        summed[(slice(None), *here)] += made[0] * weight
        total[here] += weight
    assert summed is not None  # there is at least one window
    summed /= total
    inside = tuple(slice(low, low + have) for low, have in zip(before, image.shape[1:], strict=True))
    return summed[(slice(None), *inside)]
