"""From a radiograph to a vision–language model's pixels, step by step as its own processor does it.

Geometry is a list of named steps; each is also remembered as a stretch and a shift, so that a box in the model's picture
can be put back on the image. Resizers named ``pil_*`` are Pillow's on whole grey levels, which is what the original
processors use; ``cv2_linear`` is OpenCV's without anti-aliasing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from models.errors import InferenceFailed
from models.generation.tiling import best_grid, own_size, smart_size
from models.resizing import bilinear
from models.volume import Volume

Grey = npt.NDArray[np.uint8]
_FILTERS = {
    "pil_bicubic": Image.Resampling.BICUBIC,
    "pil_bilinear": Image.Resampling.BILINEAR,
    "pil_lanczos": Image.Resampling.LANCZOS,
}
Filter = Literal["pil_bicubic", "pil_bilinear", "pil_lanczos", "cv2_linear"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Table):
    """One step of geometry.

    Attributes
    ----------
    step : str
        ``stretch``: both sides to ``size``. ``long_side``, ``short_side``: that side to ``size``, the other in proportion.
        ``pad_square``: to a square of the longer side, the image in the middle. ``pad_centre``: to ``size``.
        ``crop_centre``: the middle ``size``.
    colour : tuple of int
        What padding is filled with, red, green, blue.
    """

    step: Literal["stretch", "long_side", "short_side", "pad_square", "pad_centre", "crop_centre"]
    size: int = Field(default=0, ge=0, le=4096)
    filter: Filter = "pil_bicubic"
    colour: tuple[int, int, int] = (0, 0, 0)


class PictureRecipe(_Table):
    """The card's ``options.image``.

    Attributes
    ----------
    levels : str
        ``stored_range``: what the pixels could hold becomes 0 to 255; ``own_range``: what they do hold.
    arrange : str
        ``single``: one picture. ``tiles``: InternVL's, 1 to ``most_tiles`` squares of ``size`` and a small whole one.
        ``patches``: Qwen's flattened patches of 14 pixels, after its own choice of a size out of ``grids``.
        ``own_size``: flattened patches of the image at its own size, within ``least_tokens`` and ``most_tokens``.
    grids : tuple of (int, int)
        Rows and columns of patches there are graphs for.
    merge : int
        ``own_size``: rows and columns of patches that become one token.
    """

    levels: Literal["stored_range", "own_range"] = "own_range"
    steps: tuple[Step, ...] = ()
    arrange: Literal["single", "tiles", "patches", "own_size"] = "single"
    size: int = Field(default=448, ge=14, le=4096)
    most_tiles: int = Field(default=12, ge=1, le=64)
    patch: int = Field(default=14, ge=1)
    grids: tuple[tuple[int, int], ...] = ()
    merge: int = Field(default=1, ge=1, le=8)
    least_tokens: int = Field(default=16, ge=1)
    most_tokens: int = Field(default=2304, ge=4, le=16384)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the image lies in the model's picture: column × ``stretch_x`` + ``shift_x``, and rows likewise, in pixels."""

    stretch_x: float = 1.0
    stretch_y: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0

    def back(self, x: float, y: float) -> tuple[float, float]:
        """Column and row of the image for a point of the picture."""
        return (x - self.shift_x) / self.stretch_x, (y - self.shift_y) / self.stretch_y


@dataclass(frozen=True, slots=True)
class Picture:
    """What goes into the vision graph.

    Attributes
    ----------
    pixels : numpy.ndarray
        float32: (count, 3, size, size), or flattened patches (patches, values).
    width, height : int
        Of the picture the coordinates of which the model speaks.
    grid : tuple of int
        Rows and columns of patches where they were flattened and each size has a graph of its own.
    places : numpy.ndarray or None
        Where each patch lies, for a graph that serves every size; see :func:`patch_places`.
    """

    pixels: npt.NDArray[np.float32]
    placement: Placement
    width: int
    height: int
    grid: tuple[int, int] = (0, 0)
    places: npt.NDArray[np.int64] | None = None


def grey_levels(volume: Volume, levels: str) -> Grey:
    """The one slice of a projection in 256 levels, brighter meaning denser.

    Raises
    ------
    InferenceFailed
        More than one slice, or nothing tells the range.
    """
    if volume.array_zyx.shape[0] != 1 or "maximum_value" not in volume.facts:
        raise InferenceFailed("a projection is one image whose range of values is known")
    image = volume.array_zyx[0].astype(np.float64)
    low, high = 0.0, float(volume.facts["maximum_value"])
    if levels == "own_range":
        low, high = float(image.min()), float(image.max())
    return np.clip(np.floor((image - low) / max(high - low, 1e-9) * 255.0 + 0.5), 0, 255).astype(np.uint8)


def picture_of(volume: Volume, recipe: PictureRecipe) -> Picture:
    """The picture of a projection; see :class:`PictureRecipe`. Raises as :func:`grey_levels`."""
    return picture_of_grey(grey_levels(volume, recipe.levels), recipe)


def picture_of_grey(grey: Grey, recipe: PictureRecipe) -> Picture:
    """The picture of grey levels (rows, columns)."""
    colours = np.repeat(grey[..., None], 3, axis=-1)
    placement = Placement()
    for step in recipe.steps:
        colours, placement = _step(colours, placement, step)
    if recipe.arrange == "tiles":
        return _tiles(colours, placement, recipe)
    if recipe.arrange == "patches":
        return _patches(colours, placement, recipe)
    if recipe.arrange == "own_size":
        return _own_size(colours, placement, recipe)
    rows, columns = colours.shape[:2]
    return Picture(_normal(colours, recipe)[None], placement, columns, rows)


def _step(colours: Grey, placement: Placement, step: Step) -> tuple[Grey, Placement]:
    rows, columns = colours.shape[:2]
    if step.step == "stretch":
        return _resized(colours, placement, (step.size, step.size), step.filter)
    if step.step in ("long_side", "short_side"):
        side = max(rows, columns) if step.step == "long_side" else min(rows, columns)
        size = tuple(step.size if each == side else max(round(each * step.size / side), 1) for each in (rows, columns))
        return _resized(colours, placement, (size[0], size[1]), step.filter)
    if step.step == "crop_centre":
        top, left = (rows - step.size) // 2, (columns - step.size) // 2
        cut = colours[top : top + step.size, left : left + step.size]
        return cut, replace(placement, shift_x=placement.shift_x - left, shift_y=placement.shift_y - top)
    side = max(rows, columns) if step.step == "pad_square" else step.size
    top, left = (side - rows) // 2, (side - columns) // 2
    padded = np.empty((side, side, 3), np.uint8)
    padded[:] = step.colour
    padded[top : top + rows, left : left + columns] = colours
    return padded, replace(placement, shift_x=placement.shift_x + left, shift_y=placement.shift_y + top)


def _resized(colours: Grey, placement: Placement, size: tuple[int, int], how: str) -> tuple[Grey, Placement]:
    rows, columns = colours.shape[:2]
    y, x = size[0] / rows, size[1] / columns
    moved = Placement(placement.stretch_x * x, placement.stretch_y * y, placement.shift_x * x, placement.shift_y * y)
    if (rows, columns) == size:
        return colours, moved
    if how == "cv2_linear":
        made = bilinear(colours.transpose(2, 0, 1), size).transpose(1, 2, 0)
        return np.floor(made + 0.5).astype(np.uint8), moved
    return np.asarray(Image.fromarray(colours).resize((size[1], size[0]), _FILTERS[how])), moved


def _normal(colours: Grey, recipe: PictureRecipe) -> npt.NDArray[np.float32]:
    """(rows, columns, 3) in 256 levels to (3, rows, columns) by mean and deviation."""
    scaled = colours.astype(np.float32) / np.float32(255)
    mean, std = (np.asarray(each, dtype=np.float32) for each in (recipe.mean, recipe.std))
    return ((scaled - mean) / std).astype(np.float32).transpose(2, 0, 1)


def _tiles(colours: Grey, placement: Placement, recipe: PictureRecipe) -> Picture:
    size, (rows, columns) = recipe.size, colours.shape[:2]
    wide, high = best_grid(columns, rows, recipe.most_tiles, size)
    whole = np.asarray(Image.fromarray(colours).resize((wide * size, high * size), Image.Resampling.BICUBIC))
    tiles = [
        whole[row * size : (row + 1) * size, column * size : (column + 1) * size]
        for row in range(high)
        for column in range(wide)
    ]
    if len(tiles) > 1:
        tiles.append(np.asarray(Image.fromarray(colours).resize((size, size), Image.Resampling.BICUBIC)))
    return Picture(np.stack([_normal(tile, recipe) for tile in tiles]), placement, columns, rows)


def _patches(colours: Grey, placement: Placement, recipe: PictureRecipe) -> Picture:
    rows, columns = colours.shape[:2]
    grid = smart_size(rows, columns, recipe.patch, recipe.grids)
    size = grid[0] * recipe.patch, grid[1] * recipe.patch
    made, placement = _resized(colours, placement, size, "pil_bicubic")
    return Picture(qwen_patches(_normal(made, recipe), recipe.patch), placement, size[1], size[0], grid)


def _own_size(colours: Grey, placement: Placement, recipe: PictureRecipe) -> Picture:
    unit = recipe.patch * recipe.merge
    rows, columns = own_size(colours.shape[0], colours.shape[1], unit, recipe.least_tokens, recipe.most_tokens)
    made, placement = _resized(colours, placement, (rows, columns), "pil_bicubic")
    patches = qwen_patches(_normal(made, recipe), recipe.patch, merge=recipe.merge, temporal=1)
    grid = rows // recipe.patch, columns // recipe.patch
    return Picture(patches, placement, columns, rows, places=patch_places(grid, recipe.merge))


def patch_places(grid: tuple[int, int], merge: int) -> npt.NDArray[np.int64]:
    """Row and column of each patch, int64 (tokens, merge × merge, 2), in the order of :func:`qwen_patches`."""
    rows, columns = grid
    places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
    blocks = places.reshape(rows // merge, merge, columns // merge, merge, 2).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(blocks.reshape(-1, merge * merge, 2))


def qwen_patches(
    image: npt.NDArray[np.float32], patch: int, *, merge: int = 2, temporal: int = 2
) -> npt.NDArray[np.float32]:
    """Flattened patches (patches, 3 × temporal × patch × patch) of an image (3, rows, columns), repeated in time.

    Patches that are merged later (2 × 2) are neighbours: Qwen2-VL's order.
    """
    channels, rows, columns = image.shape
    high, wide = rows // patch // merge, columns // patch // merge
    blocks = np.repeat(image[None], temporal, axis=0).reshape(
        1, temporal, channels, high, merge, patch, wide, merge, patch
    )
    return np.ascontiguousarray(blocks.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(high * wide * merge * merge, -1))
