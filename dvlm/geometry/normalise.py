"""Pixel coordinates to the integers of an answer (`emit_norm`) and back, to rounding."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Norm = Literal["none", "norm100", "norm1000"]
_STEPS: Final = {"none": None, "norm100": 100, "norm1000": 1000}


def normalise(points: NDArray[np.float64], width: int, height: int, norm: Norm) -> NDArray[np.int64]:
    """Points (n, 2) in pixels to integers (n, 2), clamped into range.

    `none` gives rounded pixels, x in 0..width and y in 0..height; `norm100` and `norm1000` give 0..100 and 0..1000 of
    the width and the height. Raises ValueError for another norm or a size that is not positive.
    """
    size, top = _scale(width, height, norm)
    return np.clip(np.rint(points / size * top), 0, top).astype(np.int64)


def denormalise(points: NDArray[np.int64], width: int, height: int, norm: Norm) -> NDArray[np.float64]:
    """Integers (n, 2) of an answer back to pixels (n, 2): `normalise` of the result gives the same integers again.

    Values out of range stay out of range. Raises ValueError as `normalise` does.
    """
    size, top = _scale(width, height, norm)
    return np.asarray(points, np.float64) / top * size


def _scale(width: int, height: int, norm: Norm) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The size (2,) in pixels and the integer (2,) that stands for it."""
    if norm not in _STEPS:
        raise ValueError(f"emit_norm must be one of {', '.join(_STEPS)}, got {norm!r}")
    if width <= 0 or height <= 0:
        raise ValueError(f"an image has a positive width and height, got {width}x{height}")
    size = np.array([width, height], np.float64)
    steps = _STEPS[norm]
    return size, size if steps is None else np.full(2, float(steps))
