"""Canvas ops: they change the size of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dvlm.augmentation.op import ChanceOp, Op, register
from dvlm.augmentation.scene import Scene
from dvlm.geometry import affine


@dataclass(frozen=True, kw_only=True)
class FittingOp(Op):
    """An op that ends on a canvas whose sides are multiples of `multiple` and whose area is at most `max_pixels`.

    The image is shrunk as far as `max_pixels` asks (null: no limit) and sits in the top left corner; the rest is fill.
    """

    always: ClassVar[bool] = True
    multiple: int = 32
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        self.check_whole("multiple", 1)
        if self.max_pixels is not None:
            self.check_whole("max_pixels", self.multiple**2)

    def fit(self, scene: Scene, left: float, top: float, width: int, height: int) -> Scene:
        """The rectangle at (left, top) of the canvas, put on a canvas that fits."""
        shrunk_width, shrunk_height = shrink(width, height, self.multiple, self.max_pixels)
        resize = affine.scaling(shrunk_width / width, shrunk_height / height)
        return scene.placed(resize @ affine.translation(-left, -top), shrunk_width, shrunk_height).placed(
            affine.identity(), _up(shrunk_width, self.multiple), _up(shrunk_height, self.multiple)
        )


@register("pad_to_multiple")
@dataclass(frozen=True, kw_only=True)
class PadToMultiple(FittingOp):
    """Fill at the right and the bottom up to a multiple. Holds for clean images too."""

    def draw(self, scene: Scene, rng: np.random.Generator) -> Scene:
        return self.fit(scene.flushed(), 0, 0, scene.width, scene.height)


@register("expand_to_fit_affine")
@dataclass(frozen=True, kw_only=True)
class ExpandToFitAffine(FittingOp):
    """Give the canvas the size that the affine ops just before it need, so that they cut nothing off.

    Then as `pad_to_multiple`; on clean images it is the same.
    """

    def draw(self, scene: Scene, rng: np.random.Generator) -> Scene:
        corners = affine.apply(scene.pending, affine.rectangle(scene.width, scene.height))
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        return self.fit(scene, left, top, _whole(right - left), _whole(bottom - top))


@register("resize_by_scale")
@dataclass(frozen=True, kw_only=True)
class ResizeByScale(ChanceOp):
    """Resize the image and its canvas by a factor between `lo` and `hi`.

    Each side is then rounded to a multiple of `align_multiple` by stretching, as the model's own processor does.
    """

    lo: float = 0.8
    hi: float = 1.2
    align_multiple: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_ascending("lo", "hi", 0.05, 20)
        self.check_whole("align_multiple", 1)

    def draw(self, scene: Scene, rng: np.random.Generator) -> Scene:
        factor = rng.uniform(self.lo, self.hi)
        width, height = self._aligned(scene.width * factor), self._aligned(scene.height * factor)
        flushed = scene.flushed()
        return flushed.placed(affine.scaling(width / scene.width, height / scene.height), width, height)

    def _aligned(self, side: float) -> int:
        return max(1, round(side / self.align_multiple)) * self.align_multiple


def shrink(width: int, height: int, multiple: int, max_pixels: int | None) -> tuple[int, int]:
    """The largest size of the same shape, to rounding, that takes at most `max_pixels` padded to the multiple.

    A size that fits stays as it is.
    """
    if max_pixels is None or _up(width, multiple) * _up(height, multiple) <= max_pixels:
        return width, height
    # Padded sides grow in steps; the best factor is one where a side just fills a whole number of multiples.
    factors = np.concatenate([np.arange(multiple, side, multiple) / side for side in (width, height)])
    padded = [np.maximum(np.ceil(factors * side / multiple - 1e-9), 1) for side in (width, height)]
    factor = max(factors[padded[0] * padded[1] * multiple**2 <= max_pixels])
    return max(1, int(width * factor + 1e-6)), max(1, int(height * factor + 1e-6))


def _up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _whole(side: float) -> int:
    """A side that is whole to rounding must not gain a pixel."""
    return max(1, int(np.ceil(side - 1e-6)))
