"""From a radiograph or a photograph to a network's image: grey levels, crop, size, range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.errors import InferenceFailed
from models.grey_enhancement import equalised, smoothed
from models.pillow import WHOLE_LEVELS
from models.resizing import RESIZERS
from models.volume import Volume

Planes = npt.NDArray[np.floating]
_MIDDLE = ("short_side", "stretched_centre")
"""Crops that resize first and keep the middle."""


class ProjectionInput(BaseModel):
    """How a radiograph becomes the network's image, as the card's ``options.image`` says it.

    Attributes
    ----------
    size : int
        Pixels along each side.
    crop : str
        ``centre_square`` before resizing; ``short_side``: that side to ``short_side`` pixels, then the middle square;
        ``stretched_centre``: stretched to a square of ``short_side`` pixels, then its middle;
        ``pad_square``: black around it, then stretched; ``long_side``: that side to ``size``, black at right and bottom;
        ``long_side_grey``: likewise, the other side rounded, level 128 at right and bottom; or ``none``: stretched.
    corner : str
        Where the middle square begins when that is between two pixels: ``even``, as torchvision rounds; ``before``, as
        transformers' image processors cut.
    enhance : str
        ``equalised_smoothed``: histogram made even, then a Gaussian of three pixels, on 256 whole levels before anything else
        (one plane); ``none``.
    resize : str
        Name of the resizer. Those of Pillow work on 256 whole levels.
    levels : str
        ``stored_range``: the smallest and largest value the pixels could have (Bits Stored) become ``low`` and ``high``;
        ``own_range``: the image's own smallest and largest do, in 256 whole steps; ``own_extremes``: likewise, without steps.
    low, high : float
    mean, deviation : tuple of float
        Subtracted from, and divided into, what lies between ``low`` and ``high``: one for all channels, or one each.
    channels : int
        The image is repeated so often; a photograph has its three colours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=16, le=4096)
    crop: Literal[
        "centre_square", "short_side", "stretched_centre", "pad_square", "long_side", "long_side_grey", "none"
    ]
    corner: Literal["even", "before"] = "even"
    enhance: Literal["equalised_smoothed", "none"] = "none"
    short_side: int = Field(default=0, ge=0, le=4096)
    resize: str
    levels: Literal["stored_range", "own_range", "own_extremes"] = "stored_range"
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    channels: int = Field(default=1, ge=1, le=3)

    @model_validator(mode="after")
    def _fits(self) -> ProjectionInput:
        if self.crop in _MIDDLE and self.short_side < self.size:
            raise ValueError("short_side: must be at least size")
        if len(self.mean) != len(self.deviation) or len(self.mean) not in (0, 1, self.channels):
            raise ValueError("mean and deviation: none, one, or one for each channel")
        if any(each <= 0 for each in self.deviation):
            raise ValueError("deviation: must be above zero")
        return self

    @field_validator("resize")
    @classmethod
    def _known(cls, name: str) -> str:
        known = {*RESIZERS, *WHOLE_LEVELS}
        if name not in known:
            raise ValueError(f"no resizer named {name}; there are {', '.join(sorted(known))}")
        return name


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the network's image lies in the original: row and column of its corner, and rows and columns it covers."""

    top: float
    left: float
    rows: float
    columns: float


def network_image(volume: Volume, recipe: ProjectionInput) -> npt.NDArray[np.float32]:
    """Image (1, channels, size, size) of a projection or a photograph.

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
    image = (volume.array_zyx if volume.colour is None else volume.colour).astype(np.float64)
    if recipe.levels == "stored_range":
        return fitted(image / float(volume.facts["maximum_value"]), recipe)
    return fitted(_grey(image) if recipe.levels == "own_range" else _spread(image), recipe)


def fitted(shown: Planes, recipe: ProjectionInput) -> npt.NDArray[np.float32]:
    """The network's image (1, channels, size, size) of planes (1 or 3, rows, columns) between 0 and 1."""
    if recipe.enhance == "equalised_smoothed":
        if len(shown) != 1:
            raise InferenceFailed("the model's image is made of grey levels; the photograph has colours")
        levels = np.floor(shown[0] * 255.0 + 0.5).astype(np.uint8)
        shown = (smoothed(equalised(levels)) / 255.0)[np.newaxis]
    if recipe.crop == "centre_square":
        shown = _centre_square(shown)
    elif recipe.crop == "pad_square":
        shown = _padded_square(shown, recipe.size)
    if recipe.resize in WHOLE_LEVELS:
        levels = _resized(np.floor(shown * 255.0).astype(np.float32), recipe)
        made = recipe.low + levels / np.float32(255.0) * (recipe.high - recipe.low)
    else:
        scaled = (recipe.low + shown * (recipe.high - recipe.low)).astype(np.float32)
        made = _resized(scaled, recipe)
    if made.shape[0] != recipe.channels:
        made = np.repeat(made[:1], recipe.channels, axis=0)
    if recipe.mean:
        mean, deviation = (np.array(each, np.float32)[:, None, None] for each in (recipe.mean, recipe.deviation))
        made = (made - mean) / deviation
    return made[np.newaxis].astype(np.float32)


def placement(shape: tuple[int, int], recipe: ProjectionInput) -> Placement:
    """Where the network's image of an original of ``shape`` (rows, columns) lies; it may reach beyond the original."""
    rows, columns = shape
    if recipe.crop == "none":
        return Placement(0.0, 0.0, rows, columns)
    if recipe.crop == "centre_square":
        side = min(shape)
        return Placement(rows // 2 - side // 2, columns // 2 - side // 2, side, side)
    if recipe.crop == "pad_square":
        side = max(*shape, recipe.size)
        return Placement(-((side - rows) // 2), -((side - columns) // 2), side, side)
    if recipe.crop in ("long_side", "long_side_grey"):
        return Placement(0.0, 0.0, max(shape), max(shape))
    high, wide = _whole_size(shape, recipe)
    top, left = _corner((high, wide), recipe)
    down, across = rows / high, columns / wide
    return Placement(top * down, left * across, recipe.size * down, recipe.size * across)


def _grey(image: Planes) -> Planes:
    """The image in 256 whole steps of its own range, 0 to 1; ``remap_to_uint8`` of microsoft/hi-ml."""
    low, high = float(image.min()), float(image.max())
    return np.floor((image - low) / max(high - low, 1e-9) * 255.0) / 255.0


def _spread(image: Planes) -> Planes:
    """The image with its smallest value at 0 and its largest at 1; an image of one value is 0."""
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low or 1.0)


def _whole_size(shape: tuple[int, int], recipe: ProjectionInput) -> tuple[int, int]:
    """Rows and columns before the middle is cut out; fractions are cut off, as torchvision and transformers do it."""
    if recipe.crop == "stretched_centre":
        return recipe.short_side, recipe.short_side
    rows, columns = (recipe.short_side * length // min(shape) for length in shape)
    return rows, columns


def _corner(shape: tuple[int, int], recipe: ProjectionInput) -> tuple[int, int]:
    """First row and column of the middle square of an image of ``shape``."""
    rows, columns = (length - recipe.size for length in shape)
    return (rows // 2, columns // 2) if recipe.corner == "before" else (round(rows / 2.0), round(columns / 2.0))


def _resized(image: npt.NDArray[np.float32], recipe: ProjectionInput) -> npt.NDArray[np.float32]:
    resize = WHOLE_LEVELS.get(recipe.resize) or RESIZERS[recipe.resize]
    shape = (image.shape[-2], image.shape[-1])
    if recipe.crop in ("long_side", "long_side_grey"):
        return _long_side(image, recipe)
    if recipe.crop not in _MIDDLE:
        return resize(image, (recipe.size, recipe.size))
    rows, columns = _whole_size(shape, recipe)
    whole = resize(image, (rows, columns))
    if recipe.levels == "own_range" and recipe.resize not in WHOLE_LEVELS:
        # The original resizes pictures of whole grey levels.
        whole = (np.round(whole * 255.0) / 255.0).astype(np.float32)
    top, left = _corner((rows, columns), recipe)
    return whole[:, top : top + recipe.size, left : left + recipe.size]


def _long_side(image: npt.NDArray[np.float32], recipe: ProjectionInput) -> npt.NDArray[np.float32]:
    """The longer side to ``size``; what is left at right and bottom is filled.

    FLAIR cuts fractions of the other side off and fills with zeros; ``fix_ratio`` of jfhealthcare/Chexpert rounds and fills
    with level 128, which is 0 once its mean is subtracted.
    """
    scale = max(image.shape[-2:]) / recipe.size
    grey = recipe.crop == "long_side_grey"
    rows, columns = (max(round(each / scale) if grey else int(each / scale), 1) for each in image.shape[-2:])
    resize = WHOLE_LEVELS.get(recipe.resize) or RESIZERS[recipe.resize]
    fill = 128.0 if recipe.resize in WHOLE_LEVELS else recipe.low + (recipe.high - recipe.low) * 128.0 / 255.0
    padded = np.full((image.shape[0], recipe.size, recipe.size), fill if grey else 0.0, np.float32)
    padded[:, :rows, :columns] = resize(image, (rows, columns))
    return padded


def _centre_square(image: Planes) -> Planes:
    """The middle square, placed as ``XRayCenterCrop`` of mlmed/torchxrayvision places it."""
    side = min(image.shape[-2:])
    top, left = (length // 2 - side // 2 for length in image.shape[-2:])
    return image[:, top : top + side, left : left + side]


def _padded_square(image: Planes, smallest: int) -> Planes:
    """In the middle of a black square, as RyanWangZf/MedCLIP pastes it: no smaller than the network's image."""
    rows, columns = image.shape[-2:]
    side = max(rows, columns, smallest)
    padded = np.zeros((image.shape[0], side, side), image.dtype)
    top, left = (side - rows) // 2, (side - columns) // 2
    padded[:, top : top + rows, left : left + columns] = image
    return padded
