"""Affine maps of points, and the one pixel convention.

Coordinates are continuous: x points right, y points down, and the pixel in column j and row i is the square
[j, j + 1] x [i, i + 1] with its centre at (j + 0.5, i + 0.5). An image of width W covers 0..W, so the box of a whole
image is [0, 0, W, H], a horizontal flip is x -> W - x, and a resize by s is x -> s * x. Labels, matrices and crops all
follow this. OpenCV instead puts the centre of the first pixel at (0, 0); `to_pixel_index` crosses that bridge, and
only render does.

A map is a matrix (3, 3) whose last row is 0 0 1; `second @ first` does `first` first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
_IDENTITY = np.eye(3)
_IDENTITY.setflags(write=False)


def identity() -> Matrix:
    """The map that leaves every point where it is: one for all, read-only."""
    return _IDENTITY


def matrix(a: float, b: float, c: float, d: float, e: float, f: float) -> Matrix:
    """The map (x, y) -> (a x + b y + c, d x + e y + f)."""
    return np.array([[a, b, c], [d, e, f], [0.0, 0.0, 1.0]])


def translation(dx: float, dy: float) -> Matrix:
    """The map that adds (dx, dy) pixels."""
    return matrix(1, 0, dx, 0, 1, dy)


def scaling(sx: float, sy: float) -> Matrix:
    """The map that multiplies x by sx and y by sy: a resize of the whole canvas."""
    return matrix(sx, 0, 0, 0, sy, 0)


def rotation(degrees: float) -> Matrix:
    """The turn about the origin, clockwise on the screen for positive degrees; exact for quarter turns."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if degrees % 90 == 0:
        cosine, sine = round(cosine), round(sine)
    return matrix(cosine, -sine, 0, sine, cosine, 0)


def about(centre_x: float, centre_y: float, inner: Matrix) -> Matrix:
    """The map `inner` with (centre_x, centre_y) as its origin."""
    return translation(centre_x, centre_y) @ inner @ translation(-centre_x, -centre_y)


def apply(mapping: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mapped points (..., 2).

    >>> apply(translation(1, 2), np.array([[0.0, 0.0], [3.0, 4.0]])).tolist()
    [[1.0, 2.0], [4.0, 6.0]]
    """
    return points @ mapping[:2, :2].T + mapping[:2, 2]


def inverse(mapping: Matrix) -> Matrix:
    """The map that undoes `mapping`."""
    return np.linalg.inv(mapping).astype(np.float64)


def keeps_boxes(mapping: Matrix) -> bool:
    """Whether the map takes upright boxes to upright boxes: flips, scales, shifts and quarter turns do."""
    linear = np.abs(mapping[:2, :2])
    slack = 1e-9 * linear.max()
    return bool(max(linear[0, 1], linear[1, 0]) <= slack or max(linear[0, 0], linear[1, 1]) <= slack)


def to_pixel_index(mapping: Matrix) -> Matrix:
    """The same map for points counted from the centre of the first pixel, as OpenCV does."""
    return translation(-0.5, -0.5) @ mapping @ translation(0.5, 0.5)


def rectangle(width: float, height: float) -> NDArray[np.float64]:
    """The corners (4, 2) of a canvas, clockwise from the top left."""
    return np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
