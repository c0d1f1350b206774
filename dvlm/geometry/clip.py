"""Shapes under a map, and what a window leaves of them: clipping, coverage, repair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from dvlm.geometry import affine
from dvlm.geometry.affine import Matrix
from dvlm.geometry.corners import four_corners
from dvlm.geometry.order import clockwise
from dvlm.geometry.polyline import longest_inside
from dvlm.geometry.shapes import Kind, Shapes, box_corners
from dvlm.geometry.window import contains

_NO_AREA = 1e-6  # square pixels


@dataclass(frozen=True, eq=False)
class Clipped:
    """k shapes inside a window, and `coverage` (k,): the share of each one's area or length that is inside."""

    shapes: Shapes
    coverage: NDArray[np.float64]


def transform(shapes: Shapes, mapping: Matrix) -> Shapes:
    """The shapes under a map. A box becomes a quad unless the map keeps boxes upright; quads run clockwise."""
    if not affine.keeps_boxes(mapping):
        shapes = _boxes_as_quads(shapes)
    points = affine.apply(mapping, shapes.points)
    boxes, quads = shapes.rows(Kind.BBOX), shapes.rows(Kind.QUAD)
    points[boxes] = np.stack([points[boxes].min(axis=1), points[boxes].max(axis=1)], axis=1)
    points[quads] = clockwise(points[quads])
    return replace(shapes, points=points)


def clip(shapes: Shapes, window: NDArray[np.float64], width: float, height: float) -> Clipped:
    """What the window (n, 2) shows of the shapes; nothing is dropped, no coordinate is outside width x height.

    A cut box stays a box, a cut quad gets the best four corners, a line keeps its longest inside part. What is all
    outside, or has no area, is clamped to the canvas; its coverage is 0, or 1 where the centre is inside.
    """
    coverage = np.ones(len(shapes))
    cut = np.flatnonzero(~_inside(shapes, window))
    for kind, clip_kind in ((Kind.BBOX, _clip_areas), (Kind.QUAD, _clip_areas), (Kind.LINE, _clip_lines)):
        chosen = cut[shapes.kinds[cut] == kind]
        if len(chosen):
            part = clip_kind(shapes.take(chosen), window, width, height)
            shapes = shapes.replaced(chosen, kind, part.shapes.points, part.shapes.counts)
            coverage[chosen] = part.coverage
    return Clipped(_clamp(shapes, width, height), coverage)


def _inside(shapes: Shapes, window: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which shapes (k,) the window holds whole."""
    if not len(shapes):
        return np.zeros(0, bool)
    (left, top), (right, bottom) = shapes.points.min(axis=0), shapes.points.max(axis=0)
    if contains(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), window).all():
        return np.ones(len(shapes), bool)
    held = np.logical_and.reduceat(contains(shapes.points, window), shapes.starts[:-1])
    # Two corners inside do not make a box inside: a window may be tilted.
    corners = box_corners(shapes.points[shapes.rows(Kind.BBOX)])
    held[shapes.kinds == Kind.BBOX] = contains(corners.reshape(-1, 2), window).reshape(-1, 4).all(axis=1)
    return held


def _clip_areas(shapes: Shapes, window: NDArray[np.float64], width: float, height: float) -> Clipped:
    """Boxes only, or quads only."""
    kind = shapes.kind(0)
    points = shapes.points[shapes.rows(kind)]
    corners = box_corners(points) if kind is Kind.BBOX else points
    polygons = shapely.make_valid(shapely.polygons(corners))
    parts = shapely.intersection(polygons, shapely.Polygon(window))
    whole, shown = shapely.area(polygons), shapely.area(parts)
    centred = contains(corners.mean(axis=1), window).astype(float)
    coverage = np.divide(shown, whole, out=centred, where=whole > _NO_AREA)
    points = np.clip(points, 0, [width, height])
    seen = np.flatnonzero(shown > _NO_AREA)
    if kind is Kind.BBOX:
        points[seen] = shapely.bounds(parts[seen]).reshape(-1, 2, 2)
    else:
        points[seen] = four_corners(shapely.convex_hull(parts[seen]), width, height)
        points = clockwise(points)
    return Clipped(replace(shapes, points=points.reshape(-1, 2)), np.minimum(coverage, 1))


def _clip_lines(shapes: Shapes, window: NDArray[np.float64], width: float, height: float) -> Clipped:
    """Lines only."""
    if not len(window):
        return Clipped(shapes, np.zeros(len(shapes)))
    parts = longest_inside(shapes.points, shapes.counts, window)
    seen = np.flatnonzero(parts.counts)
    return Clipped(shapes.replaced(seen, Kind.LINE, parts.points, parts.counts[seen]), np.minimum(parts.coverage, 1))


def _clamp(shapes: Shapes, width: float, height: float) -> Shapes:
    """The shapes with every coordinate on the canvas."""
    return replace(shapes, points=np.clip(shapes.points, 0, [width, height]))


def _boxes_as_quads(shapes: Shapes) -> Shapes:
    boxes = np.flatnonzero(shapes.kinds == Kind.BBOX)
    corners = box_corners(shapes.points[shapes.rows(Kind.BBOX)])
    return shapes.replaced(boxes, Kind.QUAD, corners.reshape(-1, 2), np.full(len(boxes), 4))
