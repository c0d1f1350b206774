"""What a drawn augmentation does to the pixels: small frozen values that render plays back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Painter(Protocol):
    """A colour op as render sees it."""

    def paint(self, image: NDArray[np.uint8], params: tuple[float, ...]) -> NDArray[np.uint8]:
        """The image (H, W, 3) RGB with its colours changed as drawn; the size stays."""


@dataclass(frozen=True)
class Warp:
    """Map the canvas by `matrix`, the upper two rows (a, b, c, d, e, f), onto a canvas of `width` x `height` pixels.

    What the old canvas does not reach is filled.
    """

    matrix: tuple[float, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Colour:
    """Let `op` paint with the drawn `params`."""

    op: Painter
    params: tuple[float, ...]


Step = Warp | Colour
