"""Where a mark lies, as graphic data of reports and presentation states count it (PS3.3 C.10.5.1.2, C.18.6.1.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from models.results import Mark, MarkShape

Point = tuple[float, float]

TOLERANCE = 1e-2
"""In pixels: graphic data are single precision."""


def points_of(data: Sequence[float]) -> list[Point]:
    """Graphic data as (column, row) pairs."""
    values = [float(v) for v in data]
    return list(zip(values[::2], values[1::2], strict=True))


def expected_points(mark: Mark, rows: int, columns: int) -> list[Point]:
    """Corners as column and row from the corner of the image, cut at its edge."""
    cut = [(min(max(x + 0.5, 0.0), columns), min(max(y + 0.5, 0.0), rows)) for y, x in mark.points_yx]
    if mark.shape is not MarkShape.BOX:
        return cut
    (xs, ys) = zip(*cut, strict=True)
    return [(min(xs), min(ys)), (max(xs), min(ys)), (max(xs), max(ys)), (min(xs), max(ys))]


def place_problems(graphic_type: str, points: list[Point], mark: Mark, rows: int, columns: int) -> Iterator[str]:
    """What is wrong with the graphic of a mark."""
    if graphic_type != ("POINT" if mark.shape is MarkShape.POINT else "POLYLINE"):
        yield "has another graphic type than its shape"
        return
    if not inside(points, rows, columns):
        yield "lies outside its image"
    if mark.shape is not MarkShape.POINT:
        if len(points) < 4 or points[0] != points[-1]:
            yield "is not closed"
            return
        points = points[:-1]
    expected = expected_points(mark, rows, columns)
    if len(points) != len(expected) or any(
        abs(a - b) > TOLERANCE for p, q in zip(points, expected, strict=True) for a, b in zip(p, q, strict=True)
    ):
        yield "is not where the result has it"


def inside(points: Sequence[Point], rows: int, columns: int) -> bool:
    """Whether all points lie within 0 … Columns and 0 … Rows."""
    return all(0.0 <= x <= columns and 0.0 <= y <= rows for x, y in points)
