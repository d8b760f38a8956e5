"""Marks and outlines as graphic data of reports and presentation states.

Both count alike: (column, row), the outer corner of the first pixel is 0.0 \\ 0.0, that of the last is Columns \\ Rows
(PS3.3 C.10.5.1.2 and C.18.6.1.2). Results count (row, column) from the centre of the first voxel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicom_sr.errors import ObjectInvalid
from models.results import Mark, MarkShape

Points = npt.NDArray[np.float64]

_HALF = 0.5
# An FL of Explicit VR holds 65534 bytes (PS3.5 7.1.2): 8191 points, one of them the first again.
_CORNERS = {MarkShape.POINT: (1, 1), MarkShape.BOX: (2, 2), MarkShape.POLYGON: (3, 8190)}


def to_graphic(points_yx: npt.ArrayLike) -> Points:
    """Points of a result as (column, row) from the corner of the image, shape (n, 2)."""
    return np.asarray(points_yx, np.float64).reshape(-1, 2)[:, ::-1] + _HALF


def closed(points: Points) -> Points:
    """The same with the first point repeated at the end, as a closed POLYLINE has it."""
    return np.vstack([points, points[:1]])


def mark_points(mark: Mark, rows: int, columns: int) -> Points:
    """Graphic data of a mark: one point, or a closed polyline.

    Parameters
    ----------
    rows, columns : int
        Size of the image. What reaches over its edge is cut there.

    Returns
    -------
    numpy.ndarray
        float64, shape (n, 2), (column, row) within 0 … Columns and 0 … Rows.

    Raises
    ------
    ObjectInvalid
        The mark has the wrong number of points for its shape, a coordinate is no number, or nothing of it lies in the
        image.
    """
    least, most = _CORNERS[mark.shape]
    points = to_graphic(mark.points_yx)
    if not least <= len(points) <= most or not np.isfinite(points).all():
        raise ObjectInvalid(f"a {mark.shape.value} has points that make none", shape=mark.shape.value)
    edge = np.array([columns, rows], np.float64)
    inside = np.clip(points, 0.0, edge)
    if mark.shape is MarkShape.POINT:
        if not np.array_equal(inside, points):
            raise ObjectInvalid("a point lies outside its image", shape=mark.shape.value)
        return inside
    if mark.shape is MarkShape.BOX:
        (left, top), (right, bottom) = inside.min(axis=0), inside.max(axis=0)
        inside = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    if (np.ptp(inside, axis=0) <= 0.0).any():
        raise ObjectInvalid(f"a {mark.shape.value} has no area inside its image", shape=mark.shape.value)
    return closed(inside)
