"""The order of shapes in an image, and of the corners in a quad."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvlm.geometry.shapes import Shapes


def top_left(shapes: Shapes) -> NDArray[np.int64]:
    """The indices (k,) that sort shapes from top to bottom, then from left to right; equals keep their order.

    A shape counts by the top-left corner of its bounding box.
    """
    bounds = shapes.bounds
    return np.lexsort((bounds[:, 0], bounds[:, 1])).astype(np.int64)


def following(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """The next corner of each corner of closed polygons (..., n, 2)."""
    return np.concatenate([corners[..., 1:, :], corners[..., :1, :]], axis=-2)


def signed_area(polygons: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area (...) of polygons (..., n, 2): positive where the corners run clockwise on the screen."""
    corners = polygons - polygons[..., :1, :]  # near the origin, where no digits are lost
    after = following(corners)
    return (corners[..., 0] * after[..., 1] - corners[..., 1] * after[..., 0]).sum(axis=-1) / 2


def clockwise(quads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quads (k, 4, 2) with the same corners, clockwise on the screen, from the corner nearest to the top left.

    Nearest means the smallest x + y, of equals the upper one, so that a quad has one spelling whatever flip or
    rotation made it.
    """
    backwards = signed_area(quads) < 0
    quads = np.where(backwards[:, None, None], quads[:, ::-1], quads)
    # Equal sums are equal to rounding: a square on its tip must not change its first corner with the last bit.
    sums = np.round(quads.sum(axis=-1), 6)
    lowest = sums == sums.min(axis=1, keepdims=True)
    first = np.where(lowest, quads[..., 1], np.inf).argmin(axis=1)
    order = (first[:, None] + np.arange(4)) % 4
    return np.take_along_axis(quads, order[..., None], axis=1)
