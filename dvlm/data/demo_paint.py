"""Paints a generated scene: what a description says is written or coloured on the object itself.

The painter works on a canvas that is larger than the picture to the right and below, so that an object which the edge
of the picture cuts is painted whole and cut with the canvas.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dvlm.data.demo_scene import Colour, Domain, Item, Points, Role, Scene
from dvlm.drawing import put_text, text_size

Image = NDArray[np.uint8]

MARGIN = 64  # canvas to the right of and below the picture, in pixels; more than any object sticks out
SHIFT = 4  # cv2 takes points as integers in units of 1/16 pixel
FINE = 4  # a tag is painted this much larger, then scaled down, so that its tilted text stays sharp
CABLE_WIDTH = 5
EDGE: Colour = (40, 40, 44)
WHITE: Colour = (255, 255, 255)


def paint(scene: Scene) -> Image:
    """The picture of a scene: uint8 (height, width, 3), RGB."""
    canvas = _background(scene)
    painters = {Role.DEVICE: _device, Role.UNIT: _unit, Role.PORT: _port, Role.TAG: _tag, Role.CABLE: _cable}
    for item in scene.items:
        painters[item.role](canvas, item, scene.domain)
    return np.ascontiguousarray(canvas[: scene.height, : scene.width])


def _background(scene: Scene) -> Image:
    """An open cabinet: walls, two rails with holes, shelves, under light that falls off to one side."""
    width, height, domain = scene.width, scene.height, scene.domain
    flat = np.empty((height + MARGIN, width + MARGIN, 3), np.float32)
    flat[:] = domain.wall
    flat[6 : height - 6, 6 : width - 6] = domain.inside
    flat[6 : height - 6, (10, 11, width - 12, width - 11)] = domain.wall
    for y in scene.shelves:
        flat[y : y + 2, 12 : width - 12] = domain.wall
    across = np.linspace(-1, 1, width + MARGIN)[None, :, None]
    down = np.linspace(-1, 1, height + MARGIN)[:, None, None]
    lit = flat * (1 + scene.light[0] * across + scene.light[1] * down)
    return lit.clip(0, 255).astype(np.uint8)


def _fill(canvas: Image, box: Points, colour: Colour) -> None:
    (x1, y1), (x2, y2) = box
    canvas[y1:y2, x1:x2] = colour


def _case(canvas: Image, box: Points, colour: Colour) -> None:
    """A box of `colour` with a dark edge of two pixels inside its outline."""
    (x1, y1), (x2, y2) = box
    _fill(canvas, box, EDGE)
    _fill(canvas, ((x1 + 2, y1 + 2), (x2 - 2, y2 - 2)), colour)


def _centred(canvas: Image, text: str, centre: tuple[float, float], colour: Colour, size: int) -> None:
    """Text with its middle at `centre`."""
    w, h = text_size(text, size)
    put_text(canvas, text, (round(centre[0] - w / 2), round(centre[1] - h / 2)), colour, size)


def _plate(canvas: Image, box: Points, item: Item, domain: Domain) -> None:
    """The brand plate in the upper left corner of a box."""
    (x, y), _ = box
    _fill(canvas, ((x + 4, y + 4), (x + 46, y + 22)), domain.brands[item.brand])
    _centred(canvas, item.brand, (x + 25, y + 13), WHITE, 13)


def _ink(paper: Colour) -> Colour:
    """Black or white, whichever is easier to read on `paper`."""
    return EDGE if sum(paper) > 3 * 110 else WHITE


def _device(canvas: Image, item: Item, domain: Domain) -> None:
    (x1, y1), (x2, y2) = item.points
    _case(canvas, item.points, domain.device)
    _plate(canvas, item.points, item, domain)
    ink = _ink(domain.device)
    _centred(canvas, item.model, (x1 + 26, (y1 + 22 + y2) / 2), ink, 17)
    _centred(canvas, domain.marks[item.role], ((x1 + 48 + x2) / 2, y1 + 13), ink, 13)
    slots = domain.models.index(item.model) + 2
    for x in np.linspace(x1 + 58, x2 - 10, slots):
        middle, top, bottom = round(float(x)), y1 + 26, y2 - 6
        if domain.round_slots:
            cv2.circle(canvas, (middle, (top + bottom) // 2), 4, EDGE, -1, cv2.LINE_AA)
        else:
            _fill(canvas, ((middle - 3, top), (middle + 3, bottom)), (168, 204, 176))


def _unit(canvas: Image, item: Item, domain: Domain) -> None:
    (x1, y1), (x2, y2) = item.whole
    _case(canvas, item.whole, domain.unit)
    _plate(canvas, item.whole, item, domain)
    _centred(canvas, domain.marks[item.role], (x1 + 25, (y1 + 22 + y2) / 2), _ink(domain.unit), 13)
    fan, radius = ((x1 + 48 + x2) // 2, (y1 + y2) // 2), (x2 - x1 - 60) // 2
    cv2.circle(canvas, fan, radius, EDGE, 2, cv2.LINE_AA)
    cv2.circle(canvas, fan, 4, EDGE, -1, cv2.LINE_AA)


def _port(canvas: Image, item: Item, domain: Domain) -> None:
    (x1, y1), (x2, y2) = item.points
    _case(canvas, item.points, domain.colours[item.colour])
    middle = (y1 + y2) // 2
    for x in (x1 + 6, x1 + 17):
        _fill(canvas, ((x, middle - 5), (x + 9, middle + 5)), (190, 190, 190))
        _fill(canvas, ((x + 2, middle - 3), (x + 7, middle + 3)), EDGE)


def _tag(canvas: Image, item: Item, domain: Domain) -> None:
    corners = np.array(item.points, np.float32)
    low = corners.min(0).astype(int)
    high = corners.max(0).astype(int)
    w, h = (round(float(np.linalg.norm(corners[i] - corners[i + 1]))) * FINE for i in (0, 1))
    paper = np.empty((h, w, 4), np.uint8)
    paper[:] = (*EDGE, 255)
    paper[FINE:-FINE, FINE:-FINE, :3] = domain.papers[item.colour]
    face = np.ascontiguousarray(paper[..., :3])
    _centred(face, item.text, (w / 2, h / 2), EDGE, 18 * FINE)
    paper[..., :3] = face
    # Corners lie between pixels and cv2 counts from pixel centres: hence the halves.
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, ((corners - low) * FINE - 0.5).astype(np.float32))
    size = (high - low) * FINE
    warped = cv2.warpPerspective(paper, matrix, (int(size[0]), int(size[1])), flags=cv2.INTER_LINEAR)
    patch = cv2.resize(warped, None, fx=1 / FINE, fy=1 / FINE, interpolation=cv2.INTER_AREA).astype(np.float32)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    # Outside of the paper colour and alpha are 0: the colour is already weighted by the alpha.
    region[:] = (patch[..., :3] + region * (1 - patch[..., 3:] / 255)).clip(0, 255).astype(np.uint8)


def _cable(canvas: Image, item: Item, domain: Domain) -> None:
    path = np.rint((np.array(item.points) - 0.5) * 2**SHIFT).astype(np.int32)
    colour = domain.colours[item.colour]
    for tint, width, radius in ((EDGE, CABLE_WIDTH + 2, 6), (colour, CABLE_WIDTH, 5)):
        cv2.polylines(canvas, [path], False, tint, width, cv2.LINE_AA, SHIFT)
        for end in (path[0], path[-1]):
            cv2.circle(canvas, (int(end[0]), int(end[1])), radius * 2**SHIFT, tint, -1, cv2.LINE_AA, SHIFT)
