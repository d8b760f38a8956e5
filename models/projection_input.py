"""From a radiograph to a network's image: crop, size, range."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.errors import InferenceFailed
from models.resizing import RESIZERS
from models.volume import Volume


class ProjectionInput(BaseModel):
    """How a radiograph becomes the network's image, as the card's ``options.image`` says it.

    Attributes
    ----------
    size : int
        Pixels along each side.
    crop : str
        ``centre_square``, or ``none``: stretched.
    resize : str
        Name of the resizer.
    low, high : float
        What the smallest and the largest value the pixels could have (Bits Stored) become.
    channels : int
        The image is repeated so often.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=16, le=4096)
    crop: Literal["centre_square", "none"]
    resize: str
    low: float
    high: float
    channels: int = Field(default=1, ge=1, le=3)

    @field_validator("resize")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RESIZERS:
            raise ValueError(f"no resizer named {name}; there are {', '.join(sorted(RESIZERS))}")
        return name


def network_image(volume: Volume, recipe: ProjectionInput) -> npt.NDArray[np.float32]:
    """Image (1, channels, size, size) of a projection.

    Parameters
    ----------
    volume : Volume
        One slice of stored values, brighter meaning denser; ``facts["maximum_value"]`` is the largest they could be.

    Raises
    ------
    InferenceFailed
        More than one slice, or nothing tells the range.
    """
    if volume.array_zyx.shape[0] != 1 or "maximum_value" not in volume.facts:
        raise InferenceFailed("a projection is one image whose range of values is known")
    image = volume.array_zyx[0].astype(np.float64) / float(volume.facts["maximum_value"])
    if recipe.crop == "centre_square":
        image = _centre_square(image)
    scaled = (recipe.low + image * (recipe.high - recipe.low)).astype(np.float32)
    resized = RESIZERS[recipe.resize](scaled, (recipe.size, recipe.size))
    return np.repeat(resized[np.newaxis, np.newaxis], recipe.channels, axis=1)


def _centre_square(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The middle square, placed as ``XRayCenterCrop`` of mlmed/torchxrayvision places it."""
    side = min(image.shape)
    top, left = (length // 2 - side // 2 for length in image.shape)
    return image[top : top + side, left : left + side]
