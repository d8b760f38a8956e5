"""From a radiograph to a network's image: crop, size, range."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
        ``centre_square`` before resizing, ``short_side``: that side to ``short_side`` pixels, then the middle square,
        or ``none``: stretched.
    resize : str
        Name of the resizer.
    levels : str
        ``stored_range``: the smallest and largest value the pixels could have (Bits Stored) become ``low`` and ``high``;
        ``own_range``: the image's own smallest and largest do, in 256 whole steps.
    low, high : float
    channels : int
        The image is repeated so often.
    offsets, spreads : tuple of float
        Subtracted from each channel in turn, last, and what is left divided by; empty: nothing is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=16, le=4096)
    crop: Literal["centre_square", "short_side", "none"]
    short_side: int = Field(default=0, ge=0, le=4096)
    resize: str
    levels: Literal["stored_range", "own_range"] = "stored_range"
    low: float
    high: float
    channels: int = Field(default=1, ge=1, le=3)
    offsets: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> ProjectionInput:
        if self.crop == "short_side" and self.short_side < self.size:
            raise ValueError("short_side: must be at least size")
        for name, numbers in (("offsets", self.offsets), ("spreads", self.spreads)):
            if numbers and len(numbers) != self.channels:
                raise ValueError(f"{name}: one for each channel")
        if self.spreads and min(self.spreads) <= 0:
            raise ValueError("spreads: above zero")
        return self

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
    image = volume.array_zyx[0].astype(np.float64)
    shown = _grey(image) if recipe.levels == "own_range" else image / float(volume.facts["maximum_value"])
    if recipe.crop == "centre_square":
        shown = _centre_square(shown)
    scaled = (recipe.low + shown * (recipe.high - recipe.low)).astype(np.float32)
    resized = _resized(scaled, recipe)
    repeated = np.repeat(resized[np.newaxis, np.newaxis], recipe.channels, axis=1)
    if recipe.offsets:
        repeated = repeated - np.array(recipe.offsets, np.float32)[:, None, None]
    return repeated / np.array(recipe.spreads, np.float32)[:, None, None] if recipe.spreads else repeated


def _grey(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The image in 256 whole steps of its own range, 0 to 1; ``remap_to_uint8`` of microsoft/hi-ml."""
    low, high = float(image.min()), float(image.max())
    return np.floor((image - low) / max(high - low, 1e-9) * 255.0) / 255.0


def _resized(image: npt.NDArray[np.float32], recipe: ProjectionInput) -> npt.NDArray[np.float32]:
    resize = RESIZERS[recipe.resize]
    if recipe.crop != "short_side":
        return resize(image, (recipe.size, recipe.size))
    factor = recipe.short_side / min(image.shape)
    rows, columns = (max(int(length * factor), recipe.short_side) for length in image.shape)
    whole = resize(image, (rows, columns))
    if recipe.levels == "own_range":
        # The original resizes pictures of whole grey levels.
        whole = (np.round(whole * 255.0) / 255.0).astype(np.float32)
    top, left = round((rows - recipe.size) / 2.0), round((columns - recipe.size) / 2.0)
    return whole[top : top + recipe.size, left : left + recipe.size]


def _centre_square(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The middle square, placed as ``XRayCenterCrop`` of mlmed/torchxrayvision places it."""
    side = min(image.shape)
    top, left = (length // 2 - side // 2 for length in image.shape)
    return image[top : top + side, left : left + side]
