"""Images whose pixels say where a shape is, to compare with where its label says it is.

Each shape is painted in a channel of its own, 255 on the grey of the fill, so that half of an edge pixel is the same
threshold towards the image and towards the fill, and shapes may overlap.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dvlm.augmentation.render import FILL
from dvlm.geometry.shapes import Kind, Shapes, box_corners

CHANNELS = 3
_FINE = 8  # shapes are painted this much finer, then averaged


def corners(shapes: Shapes, index: int) -> NDArray[np.float64]:
    """The polygon (4, 2) of a box or a quad."""
    return box_corners(shapes.of(index)) if shapes.kind(index) is Kind.BBOX else shapes.of(index)


def coverage(polygon: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """The share (height, width) of each pixel that a convex clockwise polygon (n, 2) covers, by fine sampling."""
    share = np.zeros((height, width))
    x1, y1 = np.maximum(np.floor(polygon.min(axis=0)).astype(int), 0)
    x2, y2 = np.minimum(np.ceil(polygon.max(axis=0)).astype(int), [width, height])
    if x1 >= x2 or y1 >= y2:
        return share
    x = x1 + (np.arange((x2 - x1) * _FINE) + 0.5) / _FINE
    y = (y1 + (np.arange((y2 - y1) * _FINE) + 0.5) / _FINE)[:, None]
    inside = np.ones((len(y), len(x)), bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0
    blocks = inside.reshape(y2 - y1, _FINE, x2 - x1, _FINE)
    share[y1:y2, x1:x2] = blocks.mean(axis=(1, 3))
    return share


def paint(shapes: Shapes, width: int, height: int) -> NDArray[np.uint8]:
    """An image (height, width, 3) with shape i in channel i: boxes and quads filled, lines 3 pixels wide."""
    image = np.full((height, width, CHANNELS), FILL, np.uint8)
    for index in range(len(shapes)):
        if shapes.kind(index) is Kind.LINE:
            channel = np.ascontiguousarray(image[..., index])
            vertices = np.round((shapes.of(index) - 0.5) * 16).astype(np.int32)
            cv2.polylines(channel, [vertices], False, 255, 3, cv2.LINE_AA, shift=4)
            image[..., index] = channel
        else:
            share = coverage(corners(shapes, index), width, height)
            image[..., index] = np.round(FILL + (255 - FILL) * share)
    return image


def painted(image: NDArray[np.uint8], index: int) -> NDArray[np.bool_]:
    """The pixels (height, width) of which shape `index` holds at least half."""
    return image[..., index] > (FILL + 255) / 2
