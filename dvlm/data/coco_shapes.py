"""The shape of a COCO annotation: its box, or a quad around its polygon."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dvlm.data.verify import OUTSIDE
from dvlm.geometry.affine import rectangle
from dvlm.geometry.clip import clip as clip_shapes
from dvlm.geometry.order import clockwise
from dvlm.geometry.shapes import Kind, Shapes

DECIMALS = 2  # of a pixel, as in COCO's own files
LARGEST = 1e9  # pixels

Points = NDArray[np.float64]


class BadShape(ValueError):
    """An annotation without a shape: what was `found`, and what was `expected`."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"{found}, expected {expected}")
        self.found, self.expected = found, expected


def shape(annotation: dict[str, Any], width: int, height: int, *, quads: bool, clip: bool) -> tuple[Kind, list[float]]:
    """The (kind, flat coordinates) of an annotation in an image of width x height pixels.

    With `quads` the polygon: its own corners where it has four, else the smallest rotated rectangle around all of its
    parts; the box where there is no polygon with an area (none, or a mask of run lengths). Points up to a pixel beyond
    the image are moved onto its edge; farther ones stay where they are with `clip`, and raise BadShape without.
    """
    rings = _rings(annotation) if quads else []
    points = np.concatenate(rings) if rings else _box(annotation)
    beyond = max(-points.min(), *(points.max(axis=0) - (width, height)))
    if beyond <= OUTSIDE:
        points = np.clip(points, 0, (width, height))
    elif not clip:
        found = f"{'segmentation' if rings else 'bbox'} reaches {beyond:.1f} pixels beyond the image"
        raise BadShape(found, f"pixels inside {width}x{height} (or outside=clip, which cuts)")
    if not rings:
        return Kind.BBOX, points.reshape(-1).tolist()
    quad = _quad(points, whole=len(rings) == 1)
    if quad is None:
        return shape(annotation, width, height, quads=False, clip=clip)
    return Kind.QUAD, quad.reshape(-1).tolist()


def visible(shapes: Shapes, width: int, height: int) -> tuple[Shapes, list[int]]:
    """What the image shows of the shapes, quads clockwise, and the indices of those that it shows an area of."""
    clipped = clip_shapes(shapes, rectangle(width, height), width, height)
    points, quads = clipped.shapes.points.copy(), clipped.shapes.rows(Kind.QUAD)
    points[quads] = clockwise(points[quads])
    bounds = np.round(clipped.shapes.bounds, DECIMALS)
    kept = np.flatnonzero((clipped.coverage > 0) & (bounds[:, 2:] > bounds[:, :2]).all(axis=1))
    return replace(clipped.shapes, points=points).take(kept), kept.tolist()


def tidy(points: Points) -> list[float]:
    """Flat coordinates of points (n, 2), rounded; whole numbers without a point."""
    return [int(value) if value.is_integer() else value for value in np.round(points, DECIMALS).reshape(-1).tolist()]


def _box(annotation: dict[str, Any]) -> Points:
    """The two corners (2, 2) of the box x, y, width, height."""
    box = annotation.get("bbox")
    if box is None or not _numbers(box) or len(box) != 4 or min(box[2:]) < 0:
        raise BadShape(f"bbox is {'missing' if box is None else box}", "[x, y, width, height] in pixels")
    x, y, width, height = box
    return np.array([[x, y], [x + width, y + height]], np.float64)


def _rings(annotation: dict[str, Any]) -> list[Points]:
    """The corners (n, 2) of each part of a polygon; none where it has a mask of run lengths, or nothing."""
    parts = annotation.get("segmentation")
    if not parts or isinstance(parts, dict):
        return []
    if not isinstance(parts, list) or not all(_numbers(part) and len(part) % 2 == 0 for part in parts):
        raise BadShape(f"segmentation is {str(parts)[:100]}", "lists of x, y, x, y, ...")
    rings = [np.array(part, np.float64).reshape(-1, 2) for part in parts if part]
    # Some tools repeat the first corner at the end.
    return [ring[:-1] if len(ring) > 1 and (ring[0] == ring[-1]).all() else ring for ring in rings]


def _quad(points: Points, *, whole: bool) -> Points | None:
    """Four corners (4, 2): the points themselves if they are one `whole` polygon; None without an area."""
    own = whole and len(points) == 4 and shapely.is_valid(shapely.Polygon(points))
    outline = shapely.Polygon(points) if own else shapely.minimum_rotated_rectangle(shapely.MultiPoint(points))
    if not isinstance(outline, shapely.Polygon) or outline.area == 0:
        return None
    return shapely.get_coordinates(outline)[:4]


def _numbers(values: Any) -> bool:
    """Whether these are finite numbers that a float holds."""
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST
        for value in values
    )
