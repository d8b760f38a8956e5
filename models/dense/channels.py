"""From volumes on one grid to the channels of a network's image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.dense.options import Channel
from models.errors import InferenceFailed
from models.intensity import Percentile, as_grey_levels
from models.tissue import normal_level

Array = npt.NDArray[np.float32]
Box = tuple[slice, slice, slice]
_LEAST = 1e-8


def nonzero_mask(stack: Array) -> npt.NDArray[np.bool_]:
    """Where any channel of (channels, z, y, x) is not zero, holes filled."""
    return ndimage.binary_fill_holes((stack != 0).any(axis=0))


def box_of(mask: npt.NDArray[np.bool_]) -> Box:
    """Smallest box around ``mask``.

    Raises
    ------
    InferenceFailed
        The mask is empty.
    """
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        raise InferenceFailed("the images hold nothing but zeros")
    z, y, x = found[0]
    return z, y, x


def normalised(stack: Array, channels: Sequence[Channel], mask: npt.NDArray[np.bool_]) -> Array:
    """The channels (channels, z, y, x) as the card says.

    Parameters
    ----------
    mask : numpy.ndarray
        What is not background in any channel, for ``zscore_mask`` and ``tissue_ratio``.
    """
    return np.stack([_normalised(image, channel, mask) for image, channel in zip(stack, channels, strict=True)])


def _normalised(image: Array, channel: Channel, mask: npt.NDArray[np.bool_]) -> Array:
    image = image.astype(np.float32)
    if channel.normalise == "zscore":
        return (image - image.mean()) / max(float(image.std()), _LEAST)
    if channel.normalise in ("zscore_mask", "zscore_nonzero"):
        where = mask if channel.normalise == "zscore_mask" else image != 0
        if where.any():
            image[where] = (image[where] - image[where].mean()) / max(float(image[where].std()), _LEAST)
        return image
    if channel.normalise == "clip_standardise":
        return (np.clip(image, channel.low, channel.high) - np.float32(channel.mean)) / np.float32(channel.spread)
    if channel.normalise == "range":
        return np.clip((image - channel.low) / (channel.high - channel.low), 0, 1).astype(np.float32)
    if channel.normalise == "grey_levels":
        levels = as_grey_levels(image, Percentile(kind="percentile")) / np.float32(255)
        return ((levels - np.float32(channel.mean)) / np.float32(channel.spread)).astype(np.float32)
    if channel.normalise == "tissue_ratio":
        level = normal_level(image[mask & (image > 0)])
        ratio = np.clip(image / np.float32(max(level, _LEAST)), channel.low, channel.high)
        return np.where(mask, (ratio - channel.mean) / channel.spread, 0).astype(np.float32)
    if channel.normalise == "own_range":
        low = image.min()
        return (image - low) / max(float(image.max() - low), _LEAST)
    return image
