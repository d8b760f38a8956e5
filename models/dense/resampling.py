"""Resampling to a network's grid and back, as nnU-Net v2 does it, and as MONAI does.

Sources: nnunetv2/preprocessing/resampling/default_resampling.py of MIC-DKFZ/nnUNet@0a13ca7. Voxels are areas: the field of
view stays, so that the first and last centres move. Where one axis is three times coarser than the finest, that axis
is resampled apart, by the nearest slice. ``Spacing`` of Project-MONAI/MONAI 1.6: voxels are points, and the first one stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

ANISOTROPIC = 3.0
"""Ratio of the coarsest to the finest spacing above which the coarsest axis is resampled apart."""

Array = npt.NDArray[np.float32]


def new_shape(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> tuple[int, ...]:
    """Shape at spacing ``wanted``."""
    return tuple(max(1, round(old / new * count)) for count, old, new in zip(shape, spacing, wanted, strict=True))


def point_shape(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> tuple[int, ...]:
    """Shape at spacing ``wanted`` where the first voxel's centre stays."""
    return tuple(
        max(1, round((count - 1) * old / new + 1)) for count, old, new in zip(shape, spacing, wanted, strict=True)
    )


def sampled(image: npt.NDArray[np.floating], shape: Sequence[int], steps: Sequence[float]) -> Array:
    """One channel (z, y, x) at ``shape``, linear: voxel n of an axis lies at n ``steps`` of the image, whose border goes on."""
    made = ndimage.affine_transform(
        image.astype(np.float64), np.asarray(steps), output_shape=tuple(shape), order=1, mode="nearest"
    )
    return made.astype(np.float32)


def coarse_axis(spacing: Sequence[float], wanted: Sequence[float]) -> int | None:
    """The axis to resample apart; None where all three go together."""
    for each in (spacing, wanted):
        if max(each) / min(each) > ANISOTROPIC:
            coarsest = [axis for axis, step in enumerate(each) if step == max(each)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def resized(image: npt.NDArray[np.floating], shape: Sequence[int], *, order: int, apart: int | None) -> Array:
    """One channel (z, y, x) at ``shape``.

    Parameters
    ----------
    order : int
        Of the spline: 3 for images, 1 for logits.
    apart : int or None
        See :func:`coarse_axis`.
    """
    target = tuple(shape)
    if image.shape == target:
        return image.astype(np.float32, copy=False)
    if apart is None:
        return _zoomed(image, target, order)
    planes = np.moveaxis(image, apart, 0)
    in_plane = tuple(count for axis, count in enumerate(target) if axis != apart)
    made = np.stack([_zoomed(plane, in_plane, order) for plane in planes])
    centres = planes.shape[0] / target[apart] * (np.arange(target[apart]) + 0.5) - 0.5
    nearest = np.clip(np.floor(centres + 0.5).astype(int), 0, planes.shape[0] - 1)
    return np.moveaxis(made[nearest], 0, apart)


def _zoomed(image: npt.NDArray[np.floating], shape: tuple[int, ...], order: int) -> Array:
    """``skimage.transform.resize(image, shape, order, mode="edge", anti_aliasing=False)``."""
    if image.shape == shape:
        return image.astype(np.float32, copy=False)
    values = image.astype(np.float64)
    zoom = [new / old for new, old in zip(shape, image.shape, strict=True)]
    made = ndimage.zoom(values, zoom, order=order, mode="nearest", grid_mode=True)
    if order > 1:
        # A spline overshoots beyond what was measured.
        made = np.clip(made, values.min(), values.max())
    return made.astype(np.float32)
