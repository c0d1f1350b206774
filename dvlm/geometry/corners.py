"""Four corners for what is left of a cut quad.

The answer format knows only quads, but a canvas may cut one into three to eight corners. The quad that replaces such
a polygon holds all of it, lies inside the canvas, and is the smallest of these: four sides of the polygon itself,
lengthened until they meet; else its minimum rotated rectangle; else its bounding box.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import shapely
from numpy.typing import NDArray

from dvlm.geometry.order import following, signed_area
from dvlm.geometry.shapes import box_corners
from dvlm.geometry.window import SLACK

Quads = NDArray[np.float64]


def four_corners(polygons: NDArray[np.object_], width: float, height: float) -> Quads:
    """Quads (k, 4, 2) around k convex shapely polygons with an area; the corners stay on the canvas."""
    tidy = shapely.simplify(polygons, 1e-3)  # pixels: corners that the overlay left in the middle of a side
    coordinates, owner = shapely.get_coordinates(tidy, return_index=True)
    counts = np.bincount(owner, minlength=len(polygons)) - 1  # a ring repeats its first corner
    starts = np.concatenate([[0], np.cumsum(counts + 1)[:-1]])
    quads = np.empty((len(polygons), 4, 2))
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        corners = coordinates[starts[rows, None] + np.arange(count)]
        corners = np.where(signed_area(corners)[:, None, None] < 0, corners[:, ::-1], corners)
        quads[rows] = _as_quads(corners, width, height)
    return quads


def _as_quads(corners: NDArray[np.float64], width: float, height: float) -> Quads:
    """Quads (k, 4, 2) for clockwise convex polygons (k, n, 2) of n corners each."""
    if corners.shape[1] == 3:
        return _split_longest_side(corners)
    if corners.shape[1] == 4:
        return corners
    box = box_corners(np.stack([corners.min(axis=1), corners.max(axis=1)], axis=1))
    candidates = np.concatenate([_from_sides(corners), _rotated_rectangles(corners), box[:, None]], axis=1)
    size = np.array([width, height])
    inside = np.all((candidates >= -SLACK) & (candidates <= size + SLACK), axis=(2, 3))
    areas = np.where(inside, signed_area(np.where(np.isfinite(candidates), candidates, 0)), np.inf)
    return candidates[np.arange(len(corners)), areas.argmin(axis=1)]


def _split_longest_side(triangles: NDArray[np.float64]) -> Quads:
    """Triangles (k, 3, 2) as quads whose fourth corner is the middle of the longest side."""
    longest = np.linalg.norm(following(triangles) - triangles, axis=2).argmax(axis=1)
    turned = np.take_along_axis(triangles, ((longest[:, None] + np.arange(3)) % 3)[..., None], axis=1)
    middle = (turned[:, :1] + turned[:, 1:2]) / 2
    return np.concatenate([turned[:, :1], middle, turned[:, 1:]], axis=1)


def _from_sides(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every quad (k, c, 4, 2) made of four sides of each polygon; infinite where the sides do not close around it."""
    chosen = np.array(list(combinations(range(corners.shape[1]), 4)))
    along = following(corners) - corners
    start, way = corners[:, chosen], along[:, chosen]
    next_start, next_way = following(start), following(way)
    turn = _cross(way, next_way)
    closes = turn > 1e-9 * np.linalg.norm(way, axis=-1) * np.linalg.norm(next_way, axis=-1)
    share = np.divide(_cross(next_start - start, next_way), turn, out=np.zeros_like(turn), where=closes)
    quads = start + share[..., None] * way
    return np.where(closes.all(axis=2)[..., None, None], quads, np.inf)


def _rotated_rectangles(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rectangles (k, n, 4, 2) around each polygon that have one of its sides: the smallest one is among them."""
    along = following(corners) - corners
    along = along / np.linalg.norm(along, axis=2, keepdims=True)
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    u, v = along @ corners.swapaxes(1, 2), across @ corners.swapaxes(1, 2)
    extents = [(u.min(2), v.min(2)), (u.max(2), v.min(2)), (u.max(2), v.max(2)), (u.min(2), v.max(2))]
    return np.stack([a[..., None] * along + b[..., None] * across for a, b in extents], axis=2)


def _cross(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
