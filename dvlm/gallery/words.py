"""What augmentation did to one image, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from dvlm.augmentation.op import Op
from dvlm.augmentation.steps import Colour, Warp, padding_ratio, shown
from dvlm.geometry import affine
from dvlm.geometry.affine import Matrix
from dvlm.geometry.order import signed_area
from dvlm.values import Drawn

VISIBLE = 0.005  # of a share; what is less is not worth a word
SEEDS = 1e6  # a parameter from here on is a seed
REASONS = {
    "desc": "a description names a side",
    "fill": "it would show nothing but fill",
    "line": "it would cut a line",
    "min_objects": "too few objects would be left",
}


@dataclass(frozen=True)
class Event:
    """Something that happened to an image: `name` is the same for every image, `detail` is this image's."""

    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.detail}".strip()


def events(drawn: Drawn, width: int, height: int) -> list[Event]:
    """What happened to an image of `width` x `height` pixels: its moves, its colours, and the ops that were skipped."""
    warps = [step for step in drawn.steps if isinstance(step, Warp)]
    colours = [step for step in drawn.steps if isinstance(step, Colour)]
    moves = list(_moves(warps, width, height)) if warps else []
    fill = padding_ratio(drawn, width, height)
    filled = [Event("fill", f"{fill:.1%} of the canvas")] if fill > VISIBLE / 10 else []
    return [*moves, *filled, *map(_colour, colours), *map(_note, drawn.notes)]


def _moves(warps: list[Warp], width: int, height: int) -> Iterator[Event]:
    """The warps as one map: mirrored first, then turned, then resized; and what the canvas cuts off."""
    total = reduce(lambda first, then: then.as_matrix() @ first, warps, affine.identity())
    turned, mirrored = _unmirrored(total[:2, :2])
    if mirrored:
        yield Event("mirrored", mirrored)
    degrees = math.degrees(math.atan2(turned[1, 0], turned[0, 0]))
    if abs(degrees) > VISIBLE * 10:
        yield Event("turned", f"{abs(degrees):.1f}° {'clockwise' if degrees > 0 else 'anticlockwise'}")
    across, down = np.linalg.norm(turned, axis=0).tolist()
    if abs(across - 1) > VISIBLE or abs(down - 1) > VISIBLE:
        yield Event("resized", f"to {across:.0%}" if abs(across - down) < VISIBLE else f"to {across:.1%} × {down:.1%}")
    slant = math.degrees(math.asin(float(turned[:, 0] @ turned[:, 1]) / (across * down)))
    if abs(slant) > VISIBLE * 100:
        yield Event("slanted", f"by {abs(slant):.1f}°")
    lost = 1 - _area(shown(warps, width, height)) / (width * height * across * down * math.cos(math.radians(slant)))
    if lost > VISIBLE / 10:
        yield Event("cut", f"{lost:.1%} of the picture")


def _area(window: np.ndarray) -> float:
    return float(signed_area(window)) if len(window) else 0.0


def _unmirrored(linear: Matrix) -> tuple[Matrix, str]:
    """The map (2, 2) without its mirror, and which one: of the two ways to say it, the one that turns less."""
    if np.linalg.det(linear) > 0:
        return linear, ""
    sideways = linear @ np.diag([-1.0, 1.0])
    if sideways[0, 0] >= 0:
        return sideways, "left to right"
    return linear @ np.diag([1.0, -1.0]), "top to bottom"


def _colour(step: Colour) -> Event:
    name = step.op.name if isinstance(step.op, Op) else type(step.op).__name__
    # `noise` draws a seed too: a number that tells nobody anything.
    return Event(name, " / ".join(f"{value:.3g}" for value in step.params if abs(value) < SEEDS))


def _note(note: str) -> Event:
    """`random_crop.skipped.line` as `random_crop skipped: it would cut a line`."""
    op, _, rest = note.partition(".")
    what, _, reason = rest.partition(".")
    return Event(f"{op} {what}: {REASONS.get(reason, reason)}" if reason else note)
