"""Where in the image a phrase is: the cosine of each patch with it, on the image's own grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.projection_input import ProjectionInput, placement
from models.results import CodedTerm, HeatMap
from models.slice_input import smoothed

QUANTITY = CodedTerm("PHRASE_COSINE", "99IMAGETEXT", "Cosine similarity of image patch and phrase")
UNIT = CodedTerm("1", "UCUM", "no units")


def patch_cosines(
    patches: npt.NDArray[np.float32], phrase: npt.NDArray[np.float32], sigma: float
) -> npt.NDArray[np.float32]:
    """Cosines (grid, grid) of patches (joint, grid, grid) with a phrase (joint,), smoothed by ``sigma`` patches."""
    lengths = np.maximum(np.linalg.norm(patches, axis=0), 1e-9)
    direction = phrase / max(float(np.linalg.norm(phrase)), 1e-9)
    return smoothed((np.tensordot(direction, patches, axes=1) / lengths).astype(np.float32), sigma)


def on_the_image(
    grid: npt.NDArray[np.float32], shape: tuple[int, int], recipe: ProjectionInput
) -> npt.NDArray[np.float32]:
    """The grid's values on an image of ``shape`` (rows, columns): that of the nearest patch, 0 where no patch lies."""
    place = placement(shape, recipe)
    rows = np.floor((np.arange(shape[0]) + 0.5 - place.top) / place.rows * grid.shape[0]).astype(int)
    columns = np.floor((np.arange(shape[1]) + 0.5 - place.left) / place.columns * grid.shape[1]).astype(int)
    inside_rows = (rows >= 0) & (rows < grid.shape[0])
    inside_columns = (columns >= 0) & (columns < grid.shape[1])
    made = np.zeros(shape, np.float32)
    made[np.ix_(inside_rows, inside_columns)] = grid[np.ix_(rows[inside_rows], columns[inside_columns])]
    return made


def heat_map(role: str, plane: npt.NDArray[np.float32], slices: int, slice_index: int, concept: CodedTerm) -> HeatMap:
    """A map of one slice of a volume of ``slices``; the others are 0."""
    values = np.zeros((slices, *plane.shape), np.float32)
    values[slice_index] = plane
    return HeatMap(role, values, QUANTITY, UNIT, f"Where the phrases for {concept.meaning} match")
