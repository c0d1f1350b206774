"""The pipeline: a pure value that draws what happens to a turn's images, without a pixel.

record's Annotation -> Scene -> op.draw, op by op -> Drawn -> render (pixels)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dvlm.augmentation import canvas, colour, crop, moves  # noqa: F401  importing them registers their ops
from dvlm.augmentation.build import build_op
from dvlm.augmentation.op import Op
from dvlm.augmentation.scene import Scene
from dvlm.values import Annotation, Drawn

FILE = "canvas.json"


@dataclass(frozen=True)
class Pipeline:
    """Ops in the order of the YAML file; `bypass_prob` is the share of turns that stay clean."""

    ops: tuple[Op, ...] = ()
    bypass_prob: float = 0.0

    @classmethod
    def build(cls, ops: Sequence[Mapping[str, Any]], bypass_prob: float = 0.0) -> Pipeline:
        """From items such as `{"name": "hflip", "params": {"prob": 0.3}}`.

        Raises ValueError that names the key of an unknown op, an unknown parameter or a bad value.
        """
        if not 0 <= bypass_prob <= 1:
            raise ValueError(f"augmentation.bypass_prob must be in [0, 1], got {bypass_prob}")
        built = tuple(build_op(item, f"augmentation.ops[{index}]") for index, item in enumerate(ops))
        return cls(ops=built, bypass_prob=bypass_prob)

    def clean(self) -> Pipeline:
        """The pipeline of bypassed, validation and inference images: only the ops that always hold."""
        return Pipeline(ops=tuple(op for op in self.ops if op.always))

    def save(self, directory: Path) -> None:
        """Write the ops that always hold into `canvas.json` of a checkpoint: inference images need them too."""
        ops = [{"name": op.name, "params": asdict(op)} for op in self.clean().ops]
        (directory / FILE).write_text(json.dumps(ops, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Pipeline:
        """From `canvas.json` of a checkpoint; without one, images stay as they are."""
        file = directory / FILE
        return cls.build(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else cls()

    def draw(self, annotations: Sequence[Annotation], rng: np.random.Generator) -> tuple[Drawn, ...]:
        """What becomes of each image of one turn: its annotation afterwards, and the steps for its pixels.

        One coin decides whether the whole turn bypasses; then each image has its own generator, so that its draws do
        not depend on what the other images are.
        """
        bypassed = rng.random() < self.bypass_prob
        ops = self.clean().ops if bypassed else self.ops
        children = rng.spawn(len(annotations))
        return tuple(_draw_image(ops, each, child) for each, child in zip(annotations, children, strict=True))


def _draw_image(ops: tuple[Op, ...], annotation: Annotation, rng: np.random.Generator) -> Drawn:
    """Each op has a coin and a seed of its own: to change an op, or to append one, leaves the draws of the others."""
    numbers = rng.integers(2**53, size=(len(ops), 2))
    scene = Scene.of(annotation)
    for op, (coin, seed) in zip(ops, numbers, strict=True):
        if op.applies(coin / 2**53):
            scene = op.draw(scene, np.random.default_rng(seed))
    return scene.finish()
