"""Pixels: plays the drawn steps back on an image.

Only here does the pixel convention of `dvlm.geometry.affine` meet OpenCV's, which counts from the centre of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvlm.augmentation.steps import Colour, Warp, shown
from dvlm.geometry import affine
from dvlm.geometry.affine import Matrix
from dvlm.geometry.order import following
from dvlm.geometry.window import SLACK
from dvlm.values import Drawn

FILL: Final = 128  # 0 after Qwen3-VL's normalisation
_COARSE: Final = 0.7  # shrinking further than this by interpolation alone would skip pixels

Image = NDArray[np.uint8]


def render(image: Image, drawn: Drawn) -> Image:
    """The image (H, W, 3) RGB as drawn: (drawn.annotation.height, drawn.annotation.width, 3).

    The input is never written to; without steps it is returned itself. Raises ValueError for another type of image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"render takes a uint8 image (height, width, 3), got {image.dtype} {image.shape}")
    warps = [step for step in drawn.steps if isinstance(step, Warp)]
    colours = [step for step in drawn.steps if isinstance(step, Colour)]
    window = shown(warps, image.shape[1], image.shape[0])
    for warp in warps:
        image = _warp(image, warp.as_matrix(), warp.width, warp.height)
    if colours and len(window):
        image = _paint(image if warps else image.copy(), colours, window)
    return image


def _warp(image: Image, mapping: Matrix, width: int, height: int) -> Image:
    import cv2

    whole = np.rint(mapping).astype(int)
    if np.array_equal(np.abs(whole[:2, :2]), np.eye(2)) and np.allclose(mapping, whole, rtol=0, atol=SLACK):
        return _copy(image, whole, width, height)
    resize = affine.scaling(width / image.shape[1], height / image.shape[0])
    if np.allclose(mapping, resize, rtol=0, atol=SLACK):
        shrinks = width * height < image.shape[0] * image.shape[1]
        return _resized(image, width, height, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    image, mapping = _shrunk(image, mapping)
    index_map = affine.to_pixel_index(mapping)[:2]
    fill = (FILL, FILL, FILL)
    warped = cv2.warpAffine(image, index_map, (width, height), None, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, fill)
    return np.asarray(warped, np.uint8)


def _resized(image: Image, width: int, height: int, interpolation: int) -> Image:
    import cv2

    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def _copy(image: Image, mapping: NDArray[np.int64], width: int, height: int) -> Image:
    """A map by whole pixels, perhaps mirrored: the pixels stay what they are."""
    (turn_x, _, left), (_, turn_y, top) = mapping[:2].tolist()
    image = image[::turn_y, ::turn_x]
    left, top = left - image.shape[1] * (turn_x < 0), top - image.shape[0] * (turn_y < 0)
    result = np.full((height, width, 3), FILL, np.uint8)
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + image.shape[1], width), min(top + image.shape[0], height)
    if x1 < x2 and y1 < y2:
        result[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
    return result


def _shrunk(image: Image, mapping: Matrix) -> tuple[Image, Matrix]:
    """The image averaged down as far as the map will shrink it anyway, and the rest of the map."""
    import cv2

    factor = float(np.sqrt(abs(np.linalg.det(mapping))))
    if factor > _COARSE:
        return image, mapping
    height, width = image.shape[:2]
    less_wide, less_high = max(1, round(width * factor)), max(1, round(height * factor))
    rest = mapping @ affine.scaling(width / less_wide, height / less_high)
    return _resized(image, less_wide, less_high, cv2.INTER_AREA), rest


def _paint(canvas: Image, colours: Sequence[Colour], window: NDArray[np.float64]) -> Image:
    """Change the colours of the canvas, in place, where the window (n, 2) shows the image; leave the fill alone."""
    import cv2

    # The pixels whose centres are in the window's bounding box.
    x1, y1 = np.maximum(np.ceil(window.min(axis=0) - 0.5), 0).astype(int)
    x2, y2 = np.minimum(np.floor(window.max(axis=0) + 0.5), canvas.shape[1::-1]).astype(int)
    painted = np.ascontiguousarray(canvas[y1:y2, x1:x2])
    for colour in colours:
        painted = colour.op.paint(painted, colour.params)
    mask = _centres_inside(window - [x1, y1], x2 - x1, y2 - y1)
    cv2.copyTo(painted, mask, canvas[y1:y2, x1:x2])
    return canvas


def _centres_inside(window: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
    """Where a pixel (height, width) has its centre in a convex clockwise window (n, 2): 1, elsewhere 0."""
    y = np.arange(height) + 0.5
    first, last = np.zeros(height), np.full(height, float(width))
    for (x1, y1), (x2, y2) in zip(window, following(window), strict=True):
        # Inside is where (x2 - x1) (y - y1) >= (y2 - y1) (x - x1): an edge that runs down bounds x from above.
        if y1 == y2:
            last[(x2 - x1) * (y - y1) < 0] = -1
        else:
            bound = x1 + (x2 - x1) * (y - y1) / (y2 - y1)
            last, first = (np.minimum(last, bound), first) if y2 > y1 else (last, np.maximum(first, bound))
    start, stop = np.ceil(first - 0.5 - SLACK).astype(np.int32), np.floor(last + 0.5 + SLACK).astype(np.int32)
    x = np.arange(width, dtype=np.int32)
    return ((x >= start[:, None]) & (x < stop[:, None])).view(np.uint8)
