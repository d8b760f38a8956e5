"""From stored values to the grey levels a model was trained on."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(_Table):
    """Clip to a window and stretch to 0 … 255; CT in Hounsfield units."""

    kind: Literal["window"]
    centre: float
    width: Annotated[float, Field(gt=0)]


class Percentile(_Table):
    """Clip to percentiles of the positive voxels of the whole volume, stretch to 0 … 255; what was zero stays zero."""

    kind: Literal["percentile"]
    low: Annotated[float, Field(ge=0, lt=100)] = 0.5
    high: Annotated[float, Field(gt=0, le=100)] = 99.5

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError("low: must be below high")
        return self


Intensity = Annotated[Window | Percentile, Field(discriminator="kind")]


def as_grey_levels(values: npt.NDArray[np.float32], recipe: Window | Percentile) -> npt.NDArray[np.uint8]:
    """Grey levels 0 … 255 of a whole volume, fractions cut off as the training scripts do.

    Source: bowang-lab/MedSAM, ``pre_CT_MR.py``. A volume of one value, or with no positive voxel, becomes all zero.
    """
    if isinstance(recipe, Window):
        low, high = recipe.centre - recipe.width / 2, recipe.centre + recipe.width / 2
    else:
        positive = values[values > 0]
        if not positive.size:
            return np.zeros(values.shape, np.uint8)
        low, high = (float(q) for q in np.percentile(positive, [recipe.low, recipe.high]))
    clipped = np.clip(values.astype(np.float64), low, high)
    bottom, top = float(clipped.min()), float(clipped.max())
    if top <= bottom:
        return np.zeros(values.shape, np.uint8)
    levels = (clipped - bottom) / (top - bottom) * 255.0
    if isinstance(recipe, Percentile):
        levels[values == 0] = 0.0
    return levels.astype(np.uint8)


def to_unit_range(image: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """One image stretched to [0, 1] by its own minimum and maximum; a flat one becomes zero."""
    bottom, top = float(image.min()), float(image.max())
    return ((image - bottom) / max(top - bottom, 1e-8)).astype(np.float32)
