"""What a drawn augmentation does to the pixels: small frozen values that render plays back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dvlm.geometry import affine
from dvlm.geometry import window as windows
from dvlm.geometry.affine import Matrix
from dvlm.geometry.order import signed_area
from dvlm.values import Drawn


class Painter(Protocol):
    """A colour op as render sees it."""

    def paint(self, image: NDArray[np.uint8], params: tuple[float, ...]) -> NDArray[np.uint8]:
        """A new image (H, W, 3) RGB of the same size, its colours changed as drawn."""


@dataclass(frozen=True)
class Warp:
    """Map the canvas by `matrix`, the upper two rows of an affine map, onto a canvas of `width` x `height` pixels.

    What the old canvas does not reach is filled.
    """

    matrix: tuple[float, ...]
    width: int
    height: int

    def as_matrix(self) -> Matrix:
        """The map (3, 3)."""
        return affine.matrix(*self.matrix)


@dataclass(frozen=True)
class Colour:
    """Let `op` paint with the drawn `params`."""

    op: Painter
    params: tuple[float, ...]


Step = Warp | Colour


def shown(steps: Iterable[Step], width: int, height: int) -> NDArray[np.float64]:
    """The window (n, 2) of the final canvas that shows the image of `width` x `height` pixels; the rest is fill."""
    region = affine.rectangle(width, height)
    for step in steps:
        if isinstance(step, Warp):
            region = windows.within(windows.moved(region, step.as_matrix()), 0, 0, step.width, step.height)
    return region


def padding_ratio(drawn: Drawn, width: int, height: int) -> float:
    """The share of the final canvas that is fill, for an image of `width` x `height` pixels."""
    canvas = drawn.annotation.width * drawn.annotation.height
    return 1 - float(signed_area(shown(drawn.steps, width, height))) / canvas
