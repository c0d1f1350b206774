"""Image files: EXIF orientation, sizes without pixels, and files that are damaged."""

import io
import random
import warnings

import datakit
import numpy as np
import pytest
from PIL import Image

from dvlm.data import images
from dvlm.data.images import ImageError

# A picture whose four corners differ, and where its red corner is after each orientation.
RED, CORNERS = (255, 0, 0), {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}
WHERE = {"tl": (2, 2), "tr": (2, -3), "br": (-3, -3), "bl": (-3, 2)}


def oriented(path, orientation):
    """80x60 as stored, red at the stored top left, tagged with an orientation."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:16, :16] = RED
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    lossless = {"lossless": True} if path.suffix == ".webp" else {"quality": 95} if path.suffix == ".jpg" else {}
    Image.fromarray(pixels).save(path, exif=exif, **lossless)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp"])
def test_orientation_turns_size_and_pixels_alike(tmp_path, suffix, orientation):
    path = oriented(tmp_path / f"图{suffix}", orientation)
    pixels = images.load(path)
    assert images.size(path) == pixels.shape[1::-1] == ((80, 60) if orientation < 5 else (60, 80))
    assert (np.abs(pixels[WHERE[CORNERS[orientation]]].astype(int) - RED) < 40).all()


def test_orientation_behind_the_pixels_of_a_png(tmp_path):
    whole = oriented(tmp_path / "a.png", 6).read_bytes()
    start = whole.index(b"eXIf") - 4
    length = 12 + int.from_bytes(whole[start : start + 4], "big")
    chunk, rest = whole[start : start + length], whole[:start] + whole[start + length :]
    end = rest.index(b"IEND") - 4
    moved = tmp_path / "b.png"
    moved.write_bytes(rest[:end] + chunk + rest[end:])
    assert images.size(moved) == images.load(moved).shape[1::-1] == (60, 80)


def test_the_size_of_a_png_needs_no_pixels(tmp_path, monkeypatch):
    path = datakit.picture(tmp_path / "a.png", 64, 48)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    assert images.size(path) == (64, 48)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_of_eight_bits_becomes_rgb(tmp_path, mode):
    path = tmp_path / "a.tiff"
    Image.fromarray(np.full((6, 8, 3), 255, np.uint8)).convert(mode).save(path)
    assert (images.load(path) == 255).all()
    assert images.load(path).shape == (6, 8, 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_eight_bits_a_channel_are_refused(tmp_path, dtype):
    path = tmp_path / "a.tiff"
    Image.fromarray(np.arange(48).reshape(6, 8).astype(dtype)).save(path)
    for read in (images.size, images.load):
        with pytest.raises(ImageError, match=r"a.tiff cannot be read: its pixels are of mode .*8 bits a channel"):
            read(path)


def test_what_is_wrong_is_said(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    for path, reason in {
        "missing.png": "does not exist",
        "text.png": "is not an image that can be read",
        "empty.png": "is not an image that can be read",
        ".": "cannot be read: .*directory",
    }.items():
        for read in (images.size, images.load):
            with pytest.raises(ImageError, match=reason):
                read(tmp_path / path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_truncated_image(tmp_path, suffix):
    path = datakit.picture(tmp_path / f"a{suffix}", 200, 150)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match="truncated"):
        images.load(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_a_damaged_file_is_an_image_error_and_nothing_else(tmp_path, kind):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(
        buffer, kind, **({} if kind in ("GIF", "BMP") else {"exif": exif})
    )
    dice, path, refused = random.Random(5), tmp_path / "damaged", 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(100):
            damaged = bytearray(buffer.getvalue())
            for _ in range(dice.randint(1, 6)):
                damaged[dice.randrange(min(len(damaged), 300))] = dice.randrange(256)
            path.write_bytes(bytes(damaged[: dice.randrange(len(damaged))] if dice.random() < 0.3 else damaged))
            for read in (images.size, images.load):
                try:
                    read(path)
                except ImageError:
                    refused += 1
    assert refused > 10
