"""Windows: the convex part of a canvas that shows the image, as its corners (n, 2), clockwise; (0, 2) when empty."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
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
    corners = window.tolist()
    for axis, limit, sign in ((0, x, 1), (1, y, 1), (0, x + width, -1), (1, y + height, -1)):
        corners = list(_cut(corners, axis, limit, sign))
    if len(corners) < 3:
        return np.zeros((0, 2))
    cut = np.array(corners)
    return cut if signed_area(cut) else np.zeros((0, 2))


def _cut(corners: list[list[float]], axis: int, limit: float, sign: int) -> Iterator[list[float]]:
    """The part of a convex polygon on one side of a line along an axis (Sutherland and Hodgman 1974)."""
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        before, after = sign * (start[axis] - limit), sign * (end[axis] - limit)
        if before >= 0:
            yield start
        if before * after < 0:
            share = before / (before - after)
            point = [start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])]
            point[axis] = limit
            yield point


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
