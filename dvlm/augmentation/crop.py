"""The crop that keeps labels true: it drops what it hides, and rewrites what it cuts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from dvlm.augmentation.op import ChanceOp, register
from dvlm.augmentation.scene import Scene
from dvlm.geometry import affine
from dvlm.geometry import window as windows
from dvlm.geometry.shapes import Kind


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of whole pixels."""

    left: int
    top: int
    width: int
    height: int


@register("random_crop")
@dataclass(frozen=True, kw_only=True)
class RandomCrop(ChanceOp):
    """Keep a random rectangle: a share of the area in `scale`, width to height changed by `aspect_ratio`.

    A shape that shows less than `min_coverage` of itself is dropped; below `completeness_threshold` the word
    `complete` in its description becomes `partial`. The crop is skipped, with a note `random_crop.skipped.<why>`, when
    fewer than `min_objects` shapes would be left (`min_objects`), when it would shorten or drop a line and
    `skip_if_line` is set (`line`), or when it would show nothing but fill (`fill`).
    """

    scale: tuple[float, float] = (0.7, 1.0)
    aspect_ratio: tuple[float, float] = (0.9, 1.1)
    min_coverage: float = 0.3
    completeness_threshold: float = 0.95
    min_objects: int = 4
    skip_if_line: bool = True
    complete: str = "显示完整"
    partial: str = "只显示部分"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("scale", 0.01, 1)
        self.check_range("aspect_ratio", 0.1, 10)
        self.check_number("min_coverage", 0, 1)
        self.check_number("completeness_threshold", 0, 1)
        self.check_whole("min_objects", 0)
        self.check_flag("skip_if_line")
        self.check_word("complete")
        self.check_word("partial")

    def draw(self, scene: Scene, rng: np.random.Generator) -> Scene:
        flushed = scene.flushed()
        box = self._box(scene.width, scene.height, rng)
        window = windows.within(flushed.window, box.left, box.top, box.width, box.height)
        coverage = flushed.clipped(window).coverage
        left = np.flatnonzero((coverage >= self.min_coverage) & (coverage > 0))
        reason = self._reason_to_skip(flushed, window, coverage, left)
        if reason:
            return scene.noted(f"{self.name}.skipped.{reason}")
        descs = tuple(self._description(scene.descs[index], coverage[index]) for index in left)
        kept = replace(flushed, kept=scene.kept[left], descs=descs)
        return kept.placed(affine.translation(-box.left, -box.top), box.width, box.height)

    def _box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        narrow, wide = self.aspect_ratio
        area, aspect = rng.uniform(*self.scale), math.exp(rng.uniform(math.log(narrow), math.log(wide)))
        across, down = rng.random(2)
        box_width = min(width, max(1, round(width * math.sqrt(area * aspect))))
        box_height = min(height, max(1, round(height * math.sqrt(area / aspect))))
        left, top = round(across * (width - box_width)), round(down * (height - box_height))
        return Box(left=left, top=top, width=box_width, height=box_height)

    def _reason_to_skip(self, scene: Scene, window: np.ndarray, coverage: np.ndarray, left: np.ndarray) -> str | None:
        if not len(window):
            return "fill"
        if len(left) < self.min_objects:
            return "min_objects"
        lines = scene.source.shapes.kinds[scene.kept] == Kind.LINE
        if self.skip_if_line and lines.any():
            before = scene.clipped(scene.window).coverage
            if (coverage[lines] < before[lines] - 1e-9).any():
                return "line"
        return None

    def _description(self, desc: str, coverage: float) -> str:
        return desc.replace(self.complete, self.partial) if coverage < self.completeness_threshold else desc
