"""Image files: size from the header, pixels, both after EXIF orientation. Errors name the file."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)
# What PIL raises for files that were damaged at random.
DAMAGED = (
    *(OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
DEEP = ("I", "F")  # first letters of PIL's modes with more than 8 bits a channel
METADATA = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")


class ImageError(OSError):
    """An image that cannot be read; the message says why."""


def size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation, from the header alone."""
    with _opened(path) as image:
        width, height = image.size
        # A TIFF has been turned already when PIL states its size.
        turned = image.format != "TIFF" and _exif(image, path).get(ORIENTATION) in SIDEWAYS
        return (height, width) if turned else (width, height)


def load(path: Path) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) uint8 after EXIF orientation."""
    with _opened(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, its pixels not yet decoded; what goes wrong with it is an ImageError."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(DEEP):
                # PIL would clip them to 8 bits: a picture all white or all black.
                raise ValueError(f"its pixels are of mode {image.mode}; save it with 8 bits a channel")
            yield image
    except DAMAGED as error:
        raise ImageError(_reason(path, error)) from error


def _exif(image: Image.Image, path: Path) -> Image.Exif:
    """EXIF data; PIL decodes a whole PNG to look for it behind the pixels, which is left out where nothing is there."""
    if isinstance(image, PngImageFile) and not _has_metadata_behind_pixels(path):
        return Image.Image.getexif(image)
    return image.getexif()


def _has_metadata_behind_pixels(png: Path) -> bool:
    """Whether a chunk of metadata follows the pixels, or the file ends too early to tell."""
    pixels = False
    with png.open("rb") as handle:
        handle.seek(8)
        while len(head := handle.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IEND":
                return False
            pixels |= kind == b"IDAT"
            if pixels and kind in METADATA:
                return True
            handle.seek(length + 4, os.SEEK_CUR)
    return True


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist"
    if isinstance(error, UnidentifiedImageError):
        return f"{path} is not an image that can be read"
    return f"{path} cannot be read: {error}"
