"""Image files: size from the header, pixels, both after EXIF orientation. Errors name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)


class ImageError(OSError):
    """An image that cannot be read; the message says why."""


def size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation, from the header alone."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION) in SIDEWAYS
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ImageError(_reason(path, error)) from error
    return (height, width) if turned else (width, height)


def load(path: Path) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) uint8 after EXIF orientation."""
    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ImageError(_reason(path, error)) from error


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist"
    if isinstance(error, UnidentifiedImageError):
        return f"{path} is not an image that can be read"
    return f"{path} cannot be read: {error}"
