"""Resizing 8-bit pictures as Pillow does: one axis after the other, rounded to whole levels between and after.

Networks of the CLIP family were trained on pictures that Pillow had resized; the rounding shows in their output.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.resizing import Image, Resizer, filter_weights


def pillow_bicubic(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``PIL.Image.resize((columns, rows), BICUBIC)`` of 8-bit images, in whole levels 0 … 255."""
    return _whole_levels(image, size, "cubic")


def pillow_bilinear(image: npt.NDArray, size: tuple[int, int]) -> Image:
    """``PIL.Image.resize((columns, rows), BILINEAR)`` of 8-bit images, in whole levels 0 … 255."""
    return _whole_levels(image, size, "triangle")


def _whole_levels(image: npt.NDArray, size: tuple[int, int], kernel: str) -> Image:
    out = np.asarray(image, dtype=np.float64)
    # Pillow goes along the rows first.
    for axis, length in ((-1, size[1]), (-2, size[0])):
        if out.shape[axis] == length:
            continue
        weights = filter_weights(out.shape[axis], length, kernel)
        out = np.moveaxis(np.tensordot(weights, out, axes=(1, axis)), 0, axis)
        out = np.clip(np.floor(out + 0.5), 0.0, 255.0)
    return out.astype(np.float32)


WHOLE_LEVELS: Mapping[str, Resizer] = {"pillow_bicubic": pillow_bicubic, "pillow_bilinear": pillow_bilinear}
"""By the name a card uses; these take and give whole levels 0 … 255."""
