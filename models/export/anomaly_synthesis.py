"""Anomalies put into normal images, for training on normal images alone (after MediCLIP, arXiv 2405.11315, section 2.2).

One in four each: a patch of another normal image pasted in, a smooth change of brightness, tissue pulled outwards from a
point, nothing. Their code draws shapes and sizes otherwise; the kinds and their shares are the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
KINDS = ("paste", "brightness", "source", "none")


def synthesised(image: Image, other: Image, rng: np.random.Generator) -> tuple[Image, Mask]:
    """A normal image (rows, columns; 0 to 1) with an anomaly or none, and where it is.

    Parameters
    ----------
    other : numpy.ndarray
        Another normal image of that shape, to paste from.
    """
    kind = KINDS[int(rng.integers(len(KINDS)))]
    if kind == "none":
        return image.copy(), np.zeros(image.shape, bool)
    mask, centre, radius = _blob(image.shape, rng)
    if kind == "paste":
        shift = [int(rng.integers(n // 4, 3 * n // 4)) for n in image.shape]
        made = np.where(mask, np.roll(other, shift, (0, 1)), image)
    elif kind == "brightness":
        change = float(rng.uniform(0.15, 0.5)) * (1 if rng.random() < 0.5 else -1)
        soft = ndimage.gaussian_filter(mask.astype(np.float32), radius / 4)
        made = image + change * soft / max(float(soft.max()), 1e-6)
    else:
        made = np.where(mask, _pulled(image, centre, radius, float(rng.uniform(1.5, 3))), image)
    return np.clip(made, 0, 1).astype(np.float32), mask


def _blob(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Mask, npt.NDArray[np.float64], float]:
    """A rough disc: mask, centre, mean radius."""
    centre = np.array([rng.uniform(0.25, 0.75) * n for n in shape])
    radius = float(rng.uniform(0.08, 0.25) * min(shape))
    offsets = np.indices(shape) - centre[:, None, None]
    angle = np.arctan2(offsets[0], offsets[1])
    edge = np.full(shape, radius)
    for wave in (2, 3, 5):
        edge += radius * float(rng.uniform(0, 0.2)) * np.cos(wave * angle + float(rng.uniform(0, 2 * np.pi)))
    return np.hypot(offsets[0], offsets[1]) < edge, centre, radius


def _pulled(image: Image, centre: npt.NDArray[np.float64], radius: float, power: float) -> Image:
    """What lies inside the radius seen through a lens that widens its middle."""
    offsets = np.indices(image.shape) - centre[:, None, None]
    share = np.clip(np.hypot(offsets[0], offsets[1]) / (1.6 * radius), 1e-6, 1)
    places = centre[:, None, None] + offsets * share ** (power - 1)
    return ndimage.map_coordinates(image, places, order=1, mode="nearest").astype(np.float32)
