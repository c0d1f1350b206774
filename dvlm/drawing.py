"""Draws shapes with their Chinese descriptions on pictures, for people to look at.

Pictures are uint8 (H, W, 3), RGB. Points are pixels, where x = 0 is the left edge of the first pixel. Text is painted
with the font that comes with OpenCV: no font has to be installed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvlm import durable
from dvlm.geometry.shapes import Kind, Shapes

Image = NDArray[np.uint8]
Boxes = NDArray[np.float64]  # (n, 4): x1, y1, x2, y2
Colour = tuple[int, int, int]

READABLE = 960  # a picture whose longer side is shorter is enlarged by a whole factor, at most MOST
MOST = 8
SMALLEST = 15  # pixels of the smallest text
CROWD = 0.15  # the share of a picture that labels may cover before their text gets smaller
MAX_LINES = 3  # of one label; what is longer ends in an ellipsis
CELL = 4  # pixels; labels look for a place on a map of cells of this size
SHIFT = 4  # cv2 takes points as integers in units of 1/16 pixel
PAPER: Colour = (245, 245, 245)
INK: Colour = (20, 20, 20)
WHITE: Colour = (255, 255, 255)
PALETTE: tuple[Colour, ...] = (
    (214, 39, 40), (31, 119, 180), (44, 140, 44), (148, 60, 189), (205, 95, 0),
    (0, 150, 160), (227, 60, 160), (140, 86, 75), (110, 120, 20), (60, 60, 200),
)  # fmt: skip


@cache
def _face() -> cv2.FontFace:
    return cv2.FontFace("uni")


def _one_line(text: str) -> str:
    """`text` without line breaks and other control characters, which the font would not show in place."""
    return "".join(char if char.isprintable() else " " for char in text)


def text_size(text: str, size: int) -> tuple[int, int]:
    """Width and height in pixels of one line of `text` in a font of `size` pixels, as `put_text` paints it."""
    return int(cv2.getTextSize((0, 0), _one_line(text), (0, 0), _face(), size)[2]), round(1.3 * size)


def put_text(image: Image, text: str, origin: tuple[int, int], colour: Colour, size: int) -> None:
    """Paint one line of `text` into a contiguous `image`, with the upper left corner of the line at `origin`."""
    baseline = (origin[0], origin[1] + round(1.03 * size))
    cv2.putText(image, _one_line(text), baseline, colour, _face(), size)


def draw(image: Image, shapes: Shapes, descs: Sequence[str], *, title: str = "", colour: Colour | None = None) -> Image:
    """A copy of `image` with the outline of every shape and its description beside it.

    A small picture is enlarged by a whole factor, so the result is larger than `image`, and `title` adds a strip on
    top. Shapes of one type (the first part of a description) share a colour, the same in every picture; `colour`
    overrules it. The first corner of a quad and the first vertex of a line have a dot. Raises ValueError for an image
    of another form, for points that are not finite, and if there is not one description a shape.
    """
    _check_image(image)
    if len(shapes) != len(descs):
        raise ValueError(f"one description a shape is needed, got {len(descs)} for {len(shapes)} shapes")
    if not np.isfinite(shapes.points).all():
        raise ValueError("the points of shapes must be finite: check the record or the answer they come from")
    factor = min(MOST, max(1, math.ceil(READABLE / max(image.shape[:2]))))
    canvas = np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), np.uint8)
    extent = np.array([canvas.shape[1], canvas.shape[0]], float)
    # A wild answer may name points far outside; cv2 counts in 32 bits.
    outlines = [_outline(shapes, i, factor).clip(-extent, 2 * extent) for i in range(len(shapes))]
    colours = [colour or type_colour(desc) for desc in descs]
    for index, (outline, tint) in enumerate(zip(outlines, colours, strict=True)):
        _stroke(canvas, outline, shapes.kind(index), tint)
    _label(canvas, outlines, [shapes.kind(i) for i in range(len(shapes))], descs, colours)
    return _titled(canvas, title) if title else canvas


def type_colour(desc: str) -> Colour:
    """The colour of a description's type: a pure function of the part before the first `/`."""
    return PALETTE[zlib.crc32(desc.split("/")[0].encode()) % len(PALETTE)]


def side_by_side(images: Sequence[Image], titles: Sequence[str]) -> Image:
    """The pictures from left to right, each under its title, the shorter ones padded below.

    Raises ValueError without pictures, for an image of another form, and if there is not one title a picture.
    """
    if not images or len(images) != len(titles):
        raise ValueError(f"one title a picture and at least one are needed, got {len(images)} and {len(titles)}")
    for image in images:
        _check_image(image)
    parts = [_titled(image, title) for image, title in zip(images, titles, strict=True)]
    height = max(part.shape[0] for part in parts)
    gap = 8
    padded = [np.pad(part, ((0, height - len(part)), (0, gap), (0, 0)), constant_values=PAPER[0]) for part in parts]
    return np.concatenate(padded, axis=1)[:, :-gap]


def save_png(path: Path, image: Image) -> None:
    """Write `image` as a PNG file: any characters in `path`, parents are made, the file appears whole or not at all."""
    _check_image(image)
    with durable.appearing(path, synced=False) as fresh:
        fresh.write_bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def _check_image(image: Image) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image must be uint8 (height, width, 3) RGB, got {image.dtype} {image.shape}")


def _outline(shapes: Shapes, index: int, factor: int) -> NDArray[np.float64]:
    """The points (n, 2) of a shape in the enlarged picture; a box as its four corners."""
    points = shapes.of(index) * factor
    if shapes.kind(index) is Kind.BBOX:
        (x1, y1), (x2, y2) = points
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    return points


def _stroke(canvas: Image, outline: NDArray[np.float64], kind: Kind, colour: Colour) -> None:
    """A thin line in `colour` on a white one, so that it shows on every ground."""
    thin = max(2, round(max(canvas.shape[:2]) / 600))
    fixed = np.rint((outline - 0.5) * 2**SHIFT).astype(np.int32)  # cv2 counts from pixel centres
    for tint, width in ((WHITE, thin + 2), (colour, thin)):
        cv2.polylines(canvas, [fixed], kind is not Kind.LINE, tint, width, cv2.LINE_AA, SHIFT)
        for order, point in enumerate(fixed if kind is Kind.LINE else fixed[:1] if kind is Kind.QUAD else []):
            radius = (2 * width if order == 0 else width + 1) * 2**SHIFT
            cv2.circle(canvas, (int(point[0]), int(point[1])), radius, tint, -1, cv2.LINE_AA, SHIFT)


def _label(
    canvas: Image,
    outlines: Sequence[NDArray[np.float64]],
    kinds: Sequence[Kind],
    descs: Sequence[str],
    colours: Sequence[Colour],
) -> None:
    """Write every description where it hides as little as can be: other labels first of all, then shapes."""
    height, width = canvas.shape[:2]
    size = _label_size(descs, width, height)
    shapes = [_parts(outline, kind, size) for outline, kind in zip(outlines, kinds, strict=True)]
    texts = [_wrap(desc, size, width // 2) for desc in descs]
    busy = np.zeros((height // CELL + 1, width // CELL + 1))
    for part in np.concatenate([*shapes, np.zeros((0, 4))]):
        _occupy(busy, part, 1)
    labels = []
    for anchors, lines in zip(shapes, texts, strict=True):
        w, h = max(text_size(line, size)[0] for line in lines) + 8, len(lines) * text_size("", size)[1]
        corners = _candidates(anchors, w, h, width, height)
        boxes = np.concatenate([corners, corners + (w, h)], axis=1)
        cost = _occupied(busy, boxes) + 0.05 * _distance(boxes, anchors) / size
        labels.append(boxes[np.argmin(cost)])
        _occupy(busy, labels[-1], 6)
    for label, anchors, colour in zip(labels, shapes, colours, strict=True):
        if _distance(label[None], anchors)[0] > size / 2:
            _leader(canvas, label, anchors, colour)
    for label, lines, colour in zip(labels, texts, colours, strict=True):
        _write(canvas, label.astype(int).tolist(), lines, colour, size)


def _label_size(descs: Sequence[str], width: int, height: int) -> int:
    """The text size for all labels of a picture: smaller where they would cover more than CROWD of it."""
    size = max(SMALLEST, round(max(height, width) / 50))
    area = sum(math.prod(text_size(desc, size)) for desc in descs)
    return max(SMALLEST, int(size * min(1.0, math.sqrt(CROWD * width * height / max(1, area)))))


def _write(canvas: Image, label: list[int], lines: Sequence[str], colour: Colour, size: int) -> None:
    """White `lines` on `colour` in the box `label`."""
    x1, y1, x2, y2 = label
    canvas[y1:y2, x1:x2] = WHITE
    canvas[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = colour
    for row, line in enumerate(lines):
        put_text(canvas, line, (x1 + 4, y1 + row * (y2 - y1) // len(lines)), WHITE, size)


def _parts(outline: NDArray[np.float64], kind: Kind, size: int) -> Boxes:
    """What a label should not cover: the box around a shape, or small boxes along a line."""
    if kind is not Kind.LINE:
        return np.concatenate([outline.min(0), outline.max(0)])[None]
    parts = []
    for start, end in zip(outline[:-1], outline[1:], strict=True):
        steps = max(2, min(24, round(float(np.linalg.norm(end - start)) / size) + 1))
        parts.append(start + np.linspace(0, 1, steps)[:, None] * (end - start))
    points = np.concatenate(parts)
    return np.concatenate([points - size / 2, points + size / 2], axis=1)


def _candidates(anchors: Boxes, w: int, h: int, width: int, height: int) -> NDArray[np.float64]:
    """Upper left corners (n, 2) for a label of w x h pixels: around its shape first, then all over the picture."""
    x1, y1, x2, y2 = anchors.T
    beside = [(x1, y1 - h), (x1, y2), (x2 - w, y1 - h), (x2 - w, y2), (x2, y1), (x1 - w, y1), (x2, y2 - h)]
    around = np.concatenate([np.stack(pair, axis=1) for pair in [*beside, (x1 - w, y2 - h), (x1, y1)]])
    grid = np.meshgrid(np.linspace(0, width - w, 16), np.arange(0, height, max(1, h)))
    everywhere = np.stack([axis.reshape(-1) for axis in grid], axis=1)
    return np.rint(np.concatenate([around, everywhere])).clip(0, (max(0, width - w), max(0, height - h)))


def _occupy(busy: NDArray[np.float64], box: NDArray[np.float64], weight: float) -> None:
    """Add `weight` to every cell of the map `busy` (CELL x CELL pixels each) that `box` covers."""
    x1, y1, x2, y2 = np.rint(box / CELL).clip(0).astype(int)
    busy[y1:y2, x1:x2] += weight


def _occupied(busy: NDArray[np.float64], boxes: Boxes) -> NDArray[np.float64]:
    """(n,): the mean of the map `busy` over each box."""
    total = cv2.integral(busy)
    x1, y1, x2, y2 = np.rint(boxes / CELL).astype(int).clip(0, np.tile(busy.shape[::-1], 2)).T
    return (total[y2, x2] - total[y1, x2] - total[y2, x1] + total[y1, x1]) / ((x2 - x1) * (y2 - y1))


def _distance(boxes: Boxes, anchors: Boxes) -> NDArray[np.float64]:
    """(n,): pixels from each box to the nearest anchor."""
    gap = np.maximum(anchors[None, :, :2] - boxes[:, None, 2:], boxes[:, None, :2] - anchors[None, :, 2:])
    return np.linalg.norm(gap.clip(0), axis=2).min(axis=1)


def _leader(canvas: Image, label: Boxes, anchors: Boxes, colour: Colour) -> None:
    """A line from a label to the nearest part of its shape."""
    part = anchors[int(np.argmin([_distance(label[None], anchor[None])[0] for anchor in anchors]))]
    end = np.clip((label[:2] + label[2:]) / 2, part[:2], part[2:])
    start = np.clip(end, label[:2], label[2:])
    for tint, width in ((WHITE, 3), (colour, 1)):
        cv2.line(canvas, np.rint(start).astype(int).tolist(), np.rint(end).astype(int).tolist(), tint, width)


def _wrap(text: str, size: int, limit: int) -> list[str]:
    """`text` in at most MAX_LINES lines of about `limit` pixels."""
    count = math.ceil(text_size(text, size)[0] / max(1, limit))
    if count <= 1:
        return [text]
    length = math.ceil(len(text) / count)
    lines = [text[start : start + length] for start in range(0, len(text), length)]
    return lines if len(lines) <= MAX_LINES else [*lines[: MAX_LINES - 1], lines[MAX_LINES - 1][:-1] + "…"]


def _titled(image: Image, title: str) -> Image:
    """`image` under a strip with `title`, wrapped to its width."""
    size = max(SMALLEST, round(max(image.shape[:2]) / 45))
    lines = _wrap(title, size, image.shape[1] - 12)
    step = text_size("", size)[1]
    strip = np.full((len(lines) * step + 6, image.shape[1], 3), PAPER, np.uint8)
    for row, line in enumerate(lines):
        put_text(strip, line, (6, 3 + row * step), INK, size)
    return np.concatenate([strip, image])
