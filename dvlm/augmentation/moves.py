"""Affine ops: they move the image on its canvas. Consecutive ones are rendered as one warp."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from dvlm.augmentation.op import ChanceOp, register
from dvlm.augmentation.scene import Scene
from dvlm.geometry import affine
from dvlm.geometry.affine import Matrix


@dataclass(frozen=True, kw_only=True)
class AffineOp(ChanceOp):
    """An op that is one affine map."""

    @abstractmethod
    def mapping(self, width: int, height: int, rng: np.random.Generator) -> Matrix:
        """The map (3, 3) to apply on a canvas of this size in pixels, drawn from `rng`."""

    def draw(self, scene: Scene, rng: np.random.Generator) -> Scene:
        return scene.moved(self.mapping(scene.width, scene.height, rng))


@dataclass(frozen=True, kw_only=True)
class Flip(AffineOp):
    """A mirror that leaves an image alone if a description has one of the words `skip_if_desc`, such as 左 and 右."""

    skip_if_desc: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_words("skip_if_desc")

    def draw(self, scene: Scene, rng: np.random.Generator) -> Scene:
        if any(word in desc for desc in scene.descs for word in self.skip_if_desc):
            return scene.noted(f"{self.name}.skipped.desc")
        return super().draw(scene, rng)


@register("hflip")
@dataclass(frozen=True, kw_only=True)
class HFlip(Flip):
    """Mirror left and right."""

    def mapping(self, width: int, height: int, rng: np.random.Generator) -> Matrix:
        return affine.matrix(-1, 0, width, 0, 1, 0)


@register("vflip")
@dataclass(frozen=True, kw_only=True)
class VFlip(Flip):
    """Mirror top and bottom."""

    def mapping(self, width: int, height: int, rng: np.random.Generator) -> Matrix:
        return affine.matrix(1, 0, 0, 0, -1, height)


@register("rotate")
@dataclass(frozen=True, kw_only=True)
class Rotate(AffineOp):
    """Turn about the centre by up to `max_deg` degrees either way."""

    max_deg: float = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_number("max_deg", 0, 180)

    def mapping(self, width: int, height: int, rng: np.random.Generator) -> Matrix:
        return affine.about(width / 2, height / 2, affine.rotation(rng.uniform(-self.max_deg, self.max_deg)))


@register("scale")
@dataclass(frozen=True, kw_only=True)
class Scale(AffineOp):
    """Zoom about the centre by a factor between `lo` and `hi`; the canvas keeps its size."""

    lo: float = 0.9
    hi: float = 1.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_ascending("lo", "hi", 0.05, 20)

    def mapping(self, width: int, height: int, rng: np.random.Generator) -> Matrix:
        factor = rng.uniform(self.lo, self.hi)
        return affine.about(width / 2, height / 2, affine.scaling(factor, factor))
