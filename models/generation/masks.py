"""Which token may look at which: additive masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NEVER = np.finfo(np.float32).min
"""What is added where a token must not look."""


def causal_mask(
    seq: int, total: int, images: npt.NDArray[np.int64] | None = None, *, window: int | None = None
) -> npt.NDArray[np.float32]:
    """Mask of the last ``seq`` of ``total`` tokens.

    Parameters
    ----------
    images : numpy.ndarray, optional
        For each of the ``total`` tokens the number of its image (0: none): tokens of one image see each other, also those
        after them (Gemma 3).
    window : int, optional
        A token looks back so far, itself among them. The window holds for images, too: it is applied after them.

    Returns
    -------
    numpy.ndarray
        float32 (1, 1, seq, total): 0 where it may look, else the smallest number.
    """
    places = np.arange(total - seq, total)[:, None]
    keys = np.arange(total)[None]
    seen = keys <= places
    if images is not None:
        seen |= (images[total - seq :, None] == images[None]) & (images[None] > 0)
    if window is not None:
        seen &= places - keys < window
    return np.where(seen, np.float32(0), NEVER)[None, None]


def image_numbers(is_image: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number each run of image tokens, from 1; 0 elsewhere."""
    starts = np.diff(is_image.astype(np.int64), prepend=0) == 1
    return np.cumsum(starts) * is_image
