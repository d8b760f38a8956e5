"""From a CT or MR series to the network's image of an image–text model: one slice as a picture, or the whole as a volume."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from models.errors import InferenceFailed
from models.intensity import Intensity, as_grey_levels
from models.patient_grid import PatientAxes
from models.projection_input import ProjectionInput, fitted
from models.volume import Volume

_LARGEST = 512**3


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SliceInput(_Table):
    """The card's ``options.slice``: grey levels of the whole series, then one slice as a picture.

    Attributes
    ----------
    intensity : Window or Percentile
    choose : str
        ``middle``: the middle slice; ``largest``: the one with the largest area above a tenth of the grey levels.
    picture : ProjectionInput
        Size, crop, resizer and range of the picture.
    """

    intensity: Intensity
    choose: Literal["middle", "largest"] = "middle"
    picture: ProjectionInput


class VolumeInput(_Table):
    """The card's ``options.volume``: the whole series in patient axes.

    Attributes
    ----------
    size_xyz : tuple of int
        Voxels to the right, to the front and upwards; cropped and padded around the middle.
    spacing_mm_xyz : tuple of float
    low, high : float
        These values become 0 and 1, what lies beyond is cut off.
    channels : int
    """

    size_xyz: tuple[int, int, int]
    spacing_mm_xyz: tuple[float, float, float]
    low: float
    high: float
    channels: int = Field(default=1, ge=1, le=3)


def chosen_slice(volume: Volume, recipe: SliceInput) -> int:
    """Which slice the picture is of, from 0."""
    if recipe.choose == "middle":
        return volume.array_zyx.shape[0] // 2
    grey = as_grey_levels(volume.array_zyx, recipe.intensity)
    return int(np.argmax((grey > 25).sum((1, 2))))


def slice_image(volume: Volume, recipe: SliceInput) -> npt.NDArray[np.float32]:
    """Image (1, channels, size, size) of the chosen slice.

    Raises
    ------
    InferenceFailed
        The series holds NaN or infinity.
    """
    _require_finite(volume)
    grey = as_grey_levels(volume.array_zyx, recipe.intensity)
    plane = grey[chosen_slice(volume, recipe)][np.newaxis].astype(np.float64) / 255.0
    return fitted(plane, recipe.picture)


def volume_image(volume: Volume, recipe: VolumeInput) -> npt.NDArray[np.float32]:
    """Volume (1, channels, x, y, z) with axes to the patient's right, front and head, as MONAI's "RAS" has them.

    Voxels are brought to the spacing linearly, from the middle of the first voxel on, without leaving the series' own
    (perhaps oblique) axes.

    Raises
    ------
    InferenceFailed
        The series holds NaN or infinity, or is too large.
    """
    _require_finite(volume)
    axes = PatientAxes.of(volume)
    array = axes.read(volume.array_zyx)
    scaled = np.clip((array - recipe.low) / (recipe.high - recipe.low), 0.0, 1.0).astype(np.float32)
    steps = [new / old for new, old in zip(recipe.spacing_mm_xyz, axes.spacing_mm, strict=True)]
    shape = [max(round((length - 1) / step) + 1, 1) for length, step in zip(scaled.shape, steps, strict=True)]
    if int(np.prod(shape)) > _LARGEST:
        raise InferenceFailed(f"the series would have {' x '.join(map(str, shape))} voxels")
    for axis, (length, step) in enumerate(zip(shape, steps, strict=True)):
        scaled = _linear(scaled, axis, length, step)
    fixed = _in_the_middle(scaled, recipe.size_xyz)
    return np.repeat(fixed[np.newaxis, np.newaxis], recipe.channels, axis=1)


def _require_finite(volume: Volume) -> None:
    if not np.isfinite(volume.array_zyx).all():
        raise InferenceFailed("the image holds NaN or infinity")


def _linear(array: npt.NDArray[np.float32], axis: int, length: int, step: float) -> npt.NDArray[np.float32]:
    places = np.minimum(np.arange(length) * step, array.shape[axis] - 1)
    below = np.minimum(np.floor(places).astype(int), array.shape[axis] - 1)
    above = np.minimum(below + 1, array.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = length
    share = (places - below).astype(np.float32).reshape(shape)
    return np.take(array, below, axis) * (1 - share) + np.take(array, above, axis) * share


def _in_the_middle(array: npt.NDArray[np.float32], size: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Padded with zeros and cropped around the middle, as MONAI's SpatialPad and CenterSpatialCrop place it."""
    lacking = [max(want - have, 0) for want, have in zip(size, array.shape, strict=True)]
    padded = np.pad(array, [(each // 2, each - each // 2) for each in lacking])
    starts = [max(have // 2 - want // 2, 0) for want, have in zip(size, padded.shape, strict=True)]
    cut = tuple(slice(start, start + want) for start, want in zip(starts, size, strict=True))
    return np.ascontiguousarray(padded[cut])


def smoothed(grid: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """A grid of similarities, smoothed."""
    return ndimage.gaussian_filter(grid, sigma, mode="nearest") if sigma else grid
