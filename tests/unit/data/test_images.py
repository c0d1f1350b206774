"""Image files: EXIF orientation, sizes without pixels, and files that are damaged."""

import io
import os
import random
import struct
import warnings
import zlib

import cv2
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


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "P", "I;16"])
def test_a_tiff_that_is_not_compressed_is_turned_in_every_mode(tmp_path, mode, orientation):
    grey = np.zeros((12, 16), np.uint8)
    grey[:4, :4] = 255
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    image.save(tmp_path / "a.tif", exif=exif)
    wanted = np.rot90(grey, 2 if orientation == 3 else -1)
    assert images.size(tmp_path / "a.tif") == wanted.shape[::-1]
    assert (images.load(tmp_path / "a.tif") == wanted[..., None]).all()


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


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_a_channel_are_refused(tmp_path, dtype):
    path = tmp_path / "a.tiff"
    Image.fromarray(np.arange(48).reshape(6, 8).astype(dtype)).save(path)
    for read in (images.size, images.load):
        with pytest.raises(ImageError, match=r"a.tiff cannot be read: its pixels are of mode .*save it with 8 or 16"):
            read(path)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_the_upper_8_are_kept(tmp_path, suffix, channels):
    """Greys as colours: PIL would clip greys to white."""
    deep = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.dstack([deep] * channels))
    assert (images.load(path) == (deep >> 8)[..., None]).all()


def test_what_is_transparent_lies_on_white(tmp_path):
    """Whatever colour hides under it, in every form that a PNG has for it."""
    seen, hidden, half = (200, 30, 40, 255), (0, 0, 0, 0), (0, 0, 0, 128)
    Image.fromarray(np.array([[seen, hidden, half]], np.uint8)).save(tmp_path / "rgba.png")
    Image.fromarray(np.array([[[90, 255], [0, 0], [0, 128]]], np.uint8)).save(tmp_path / "la.png")
    palette = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
    palette.putpalette([200, 30, 40, 0, 0, 0])
    palette.save(tmp_path / "p.png", transparency=1)
    Image.fromarray(np.array([[90, 0, 0]], np.uint8)).save(tmp_path / "l.png", transparency=0)
    white, grey = [255] * 3, [127] * 3
    assert images.load(tmp_path / "rgba.png").tolist() == [[list(seen[:3]), white, grey]]
    assert images.load(tmp_path / "la.png").tolist() == [[[90] * 3, white, grey]]
    assert images.load(tmp_path / "p.png").tolist() == [[list(seen[:3]), white, white]]
    assert images.load(tmp_path / "l.png").tolist() == [[[90] * 3, white, white]]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp"])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, suffix, orientation):
    path = oriented(tmp_path / f"a{suffix}", orientation)
    assert images.size(path) == images.load(path).shape[1::-1] == (80, 60)


EXIF = {
    "no TIFF at all": b"Exif\0\0garbage",
    "no entries": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "cut": b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6",
}


@pytest.mark.parametrize("exif", EXIF.values(), ids=EXIF.keys())
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_damaged_exif_data_turn_nothing(tmp_path, suffix, exif):
    path = datakit.picture(tmp_path / f"a{suffix}", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert images.size(path) == images.load(path).shape[1::-1] == (64, 48)


def png_of(width, height):
    """A PNG that claims a size, with next to no pixels behind it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(99))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_of(100_000, 100_000))
    for read in (images.size, images.load):
        with pytest.raises(ImageError, match=r"bomb.png cannot be read: .*10000000000 pixels.* limit of 178956970"):
            read(tmp_path / "bomb.png")


def test_text_that_unpacks_to_gigabytes_is_refused(tmp_path):
    packed = b"a\0\0" + zlib.compress(bytes(200 << 20), 9)
    chunk = struct.pack(">I", len(packed)) + b"zTXt" + packed + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    whole = datakit.picture(tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:33] + chunk + whole[33:])
    with pytest.raises(ImageError, match="b.png cannot be read: Decompressed data too large"):
        images.load(tmp_path / "b.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="a pipe or a device"):
        images.size(tmp_path / "a.png")


def test_no_other_program_is_started_for_a_picture(tmp_path):
    """PIL would hand PostScript to Ghostscript."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert Image.open(tmp_path / "a.png").format == "EPS"
    with pytest.raises(ImageError, match="is not an image that can be read: expected one of JPEG, PNG"):
        images.size(tmp_path / "a.png")


def test_what_is_wrong_is_said(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    for path, reason in {
        "missing.png": "does not exist",
        "text.png": "is not an image that can be read",
        "empty.png": "is not an image that can be read",
        ".": "cannot be read: it is a directory",
        "a\0b.png": "cannot be read: embedded null",
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
