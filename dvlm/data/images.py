"""Image files: size from the header, pixels, both after EXIF orientation. Errors name the file.

Whatever a file holds becomes RGB of 8 bits. Of 16 bits a channel the upper 8 are kept; what is transparent lies on
white, as a viewer shows it; orientations that do not exist, and EXIF data that cannot be read, turn nothing.
"""

from __future__ import annotations

import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from dvlm.values import printable

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)
# PIL reads more: of these, some start another program (EPS), and all have code that photographs never need.
FORMATS = [
    *("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000"),
    *(["AVIF"] if find_spec("PIL.AvifImagePlugin") else []),
]
# What PIL raises for files that were damaged at random.
DAMAGED = (
    *(OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
SIXTEEN = "I;16"  # how PIL's modes of 16 bits begin
DEEP = ("I", "F")  # PIL's modes of 32 bits
METADATA = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")

# PIL warns of what it goes on to read, or to refuse with an error.
warnings.filterwarnings("ignore", module=r"PIL\..*")


class ImageError(OSError):
    """An image that cannot be read; the message says why."""


def size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation, from the header alone."""
    with _opened(path) as image:
        width, height = image.size
        # A TIFF has been turned already when PIL states its size.
        turned = image.format != "TIFF" and _orientation(image, path) in SIDEWAYS
        return (height, width) if turned else (width, height)


def load(path: Path) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) uint8 after EXIF orientation."""
    with _opened(path) as image:
        image.load()
        turn = TURNS.get(_orientation(image, path))
        upright = image if turn is None else image.transpose(turn)
        return np.array(_rgb(upright))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, its pixels not yet decoded; what goes wrong with it is an ImageError."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            # To read from a pipe or a device may never end.
            raise ValueError("it is a directory, a pipe or a device")
        # By its handle, not its name: PIL maps the file of a name into memory, and scrambles the pixels of a TIFF there
        # that is to be turned.
        with path.open("rb") as handle, Image.open(handle, formats=FORMATS) as image:
            if image.mode in DEEP:
                # PIL would clip them to 8 bits: a picture all white or all black.
                raise ValueError(f"its pixels are of mode {image.mode}, 32 bits a channel; save it with 8 or 16")
            yield image
    except DAMAGED as error:
        raise ImageError(_reason(path, error)) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(SIXTEEN):
        # PIL keeps the upper byte of colours of 16 bits, but clips greys.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    return image.convert("RGB")


def _orientation(image: Image.Image, path: Path) -> int:
    """1 to 8; 1 where the file says none, one that does not exist, or what cannot be read."""
    if isinstance(image, PngImageFile) and _has_metadata_behind_pixels(path):
        image.load()
    try:
        # Of a PNG, the method of its own would decode all pixels to look behind them.
        exif = Image.Image.getexif(image) if isinstance(image, PngImageFile) else image.getexif()
        found = exif.get(ORIENTATION)
    except DAMAGED:
        return 1
    return found if found in (1, *TURNS) else 1


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
    shown = printable(str(path))
    if isinstance(error, FileNotFoundError):
        return f"{shown} does not exist"
    if isinstance(error, UnidentifiedImageError):
        return f"{shown} is not an image that can be read: expected one of {', '.join(FORMATS)}"
    return f"{shown} cannot be read: {printable(str(error))}"
