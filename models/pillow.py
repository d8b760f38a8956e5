"""Resizing 8-bit pictures in whole levels, as Pillow does (one axis after the other, rounded between) and as OpenCV does.

Networks of the CLIP family were trained on pictures that Pillow had resized; the rounding shows in their output.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.resizing import Image, Resizer, filter_weights, nearest_centre

_PARTS = float(1 << 22)
"""``PRECISION_BITS`` of python-pillow/Pillow ``src/libImaging/Resample.c``."""


def pillow_bicubic(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``PIL.Image.resize((columns, rows), BICUBIC)`` of 8-bit images, in whole levels 0 … 255."""
    return _whole_levels(image, size, "cubic")


def pillow_bilinear(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``PIL.Image.resize((columns, rows), BILINEAR)`` of 8-bit images, in whole levels 0 … 255."""
    return _whole_levels(image, size, "triangle")


def pillow_lanczos(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``PIL.Image.resize((columns, rows), LANCZOS)`` of 8-bit images, in whole levels 0 … 255."""
    return _whole_levels(image, size, "lanczos")


def opencv_linear(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``cv2.resize(…, INTER_LINEAR)`` of 8-bit images: two neighbours, weights in 2048ths, its own cut-off fractions."""
    levels = np.asarray(image).astype(np.int64)
    columns, across = _neighbours(levels.shape[-1], size[1], sharp=True)
    rows, down = _neighbours(levels.shape[-2], size[0], sharp=False)
    lines = levels[..., columns[0]] * across[0] + levels[..., columns[1]] * across[1]
    parts = [(lines[..., row, :] >> 4) * weight[:, None] >> 16 for row, weight in zip(rows, down, strict=True)]
    return (parts[0] + parts[1] + 2 >> 2).astype(np.float32)


def _neighbours(old: int, new: int, *, sharp: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Both neighbours of each new pixel (2, new), and their weights in 2048ths; ``sharp``: the border has one neighbour."""
    places = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    first = np.floor(places).astype(np.int64)
    far = places - first.astype(np.float32)
    if sharp:
        far = np.where((first < 0) | (first >= old - 1), np.float32(0), far)
    weights = np.rint(np.stack([1 - far, far]) * 2048).astype(np.int64)
    return np.stack([first, first + 1]).clip(0, old - 1), weights


def _whole_levels(image: npt.NDArray, size: tuple[int, int], kernel: str) -> Image:
    out = np.asarray(image, dtype=np.float64)
    # Along the rows first, as Pillow before version 13, with which networks were trained; now its order depends on the shape.
    for axis, length in ((-1, size[1]), (-2, size[0])):
        if out.shape[axis] == length:
            continue
        # Weights in 2**22ths, as Pillow has them: products and sums of such whole numbers are exact here.
        weights = filter_weights(out.shape[axis], length, kernel) * _PARTS
        whole = np.trunc(weights + np.copysign(0.5, weights))
        out = np.moveaxis(np.tensordot(whole, out, axes=(1, axis)), 0, axis)
        out = np.clip(np.floor((out + _PARTS / 2) / _PARTS), 0.0, 255.0)
    return out.astype(np.float32)


WHOLE_LEVELS: Mapping[str, Resizer] = {
    "pillow_bicubic": pillow_bicubic,
    "pillow_bilinear": pillow_bilinear,
    "pillow_lanczos": pillow_lanczos,
    "pillow_nearest": nearest_centre,
    "opencv_linear": opencv_linear,
}
"""By the name a card uses; these take and give whole levels 0 … 255."""
