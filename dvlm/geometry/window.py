"""Windows: the convex part of a canvas that shows the image, as its corners (n, 2), clockwise; (0, 2) when empty."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from dvlm.geometry import affine
from dvlm.geometry.affine import Matrix
from dvlm.geometry.order import following, signed_area

SLACK = 1e-6  # pixels: what is this near to an edge lies on it


def moved(window: NDArray[np.float64], mapping: Matrix) -> NDArray[np.float64]:
    """The window (n, 2) under a map, clockwise again after a flip."""
    return _clockwise(affine.apply(mapping, window))


def within(window: NDArray[np.float64], x: float, y: float, width: float, height: float) -> NDArray[np.float64]:
    """The part (n, 2) of a window in the upright rectangle whose top left corner is (x, y)."""
    low, high = np.array([x, y]) - SLACK, np.array([x + width, y + height]) + SLACK
    if ((window >= low) & (window <= high)).all():
        return window
    common = shapely.intersection(shapely.Polygon(window), shapely.box(x, y, x + width, y + height))
    if not shapely.area(common):
        return np.zeros((0, 2))
    return _clockwise(shapely.get_coordinates(common)[:-1])


def _clockwise(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return corners if signed_area(corners) >= 0 else corners[::-1]


def edge_distances(points: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far points (m, 2) lie inside each of the n edges of a window, (m, n) pixels; negative means outside."""
    along = following(window) - window
    normals = np.stack([-along[:, 1], along[:, 0]]) / np.hypot(along[:, 0], along[:, 1])
    return points @ normals - (window * normals.T).sum(axis=1)


def contains(points: NDArray[np.float64], window: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the points (m, 2) a window holds, its border included: (m,)."""
    if not len(window):
        return np.zeros(len(points), bool)
    return edge_distances(points, window).min(axis=1) >= -SLACK
