"""How alike two shapes of one kind are, from 0 to 1.

Boxes and quads: intersection over union of their areas. Lines have none: each is widened by `LINE_RADIUS` of the
image's diagonal on every side, and these bands are compared. A line that runs beside another at that distance scores
about 1/3.
"""

from __future__ import annotations

import math

import numpy as np
import shapely
from numpy.typing import NDArray

from dvlm.geometry.shapes import Kind, Shapes, box_corners

LINE_RADIUS = 0.02  # of the diagonal of the image

Floats = NDArray[np.float64]


def similarities(kind: Kind, told: Shapes, truth: Shapes, diagonal: float) -> Floats:
    """(p, t) similarity of each shape of `told` with each of `truth`, all of `kind`; `diagonal` in pixels."""
    if not len(told) or not len(truth):
        return np.zeros((len(told), len(truth)))
    return _iou(_regions(kind, told, diagonal)[:, None], _regions(kind, truth, diagonal)[None])


def localisation_error(kind: Kind, told: Floats, truth: Floats, diagonal: float) -> float:
    """How far two shapes (n, 2), (m, 2) of `kind` are apart, as a share of the diagonal.

    Boxes and quads: mean distance of corresponding corners, for quads in the rotation that fits best. Lines: symmetric
    Chamfer distance of `CHAMFER_POINTS` points spaced evenly on each.
    """
    if kind is Kind.LINE:
        ours, theirs = _along(told), _along(truth)
        between = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
        return float((between.min(0).mean() + between.min(1).mean()) / 2 / diagonal)
    ours, theirs = (box_corners(told), box_corners(truth)) if kind is Kind.BBOX else (told, truth)
    turns = range(4) if kind is Kind.QUAD else range(1)
    return float(min(np.linalg.norm(np.roll(ours, turn, 0) - theirs, axis=-1).mean() for turn in turns) / diagonal)


CHAMFER_POINTS = 64


def _along(points: Floats) -> Floats:
    line = shapely.linestrings(points)
    stations = np.linspace(0, 1, CHAMFER_POINTS)
    return shapely.get_coordinates(shapely.line_interpolate_point(line, stations, normalized=True))


def diagonal(width: int, height: int) -> float:
    """The diagonal of an image in pixels."""
    return math.hypot(width, height)


def _regions(kind: Kind, shapes: Shapes, size: float) -> NDArray[np.object_]:
    """The areas (k,) that stand for the shapes."""
    if kind is Kind.LINE:
        lines = [shapely.linestrings(shapes.of(index)) for index in range(len(shapes))]
        return shapely.buffer(np.array(lines), LINE_RADIUS * size)
    points = shapes.points[shapes.rows(kind)]
    corners = box_corners(points) if kind is Kind.BBOX else points
    # A quad that crosses itself has no area of its own; its hull has.
    polygons = shapely.polygons(corners)
    return np.where(shapely.is_valid(polygons), polygons, shapely.convex_hull(polygons))


def _iou(first: NDArray[np.object_], second: NDArray[np.object_]) -> Floats:
    common = shapely.area(shapely.intersection(first, second))
    union = shapely.area(first) + shapely.area(second) - common
    # Two shapes without area are alike exactly where they are equal.
    return np.where(union > 0, common / np.where(union > 0, union, 1), shapely.equals(first, second).astype(float))
