"""One image while its augmentation is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dvlm.augmentation.steps import Step
from dvlm.geometry import affine
from dvlm.geometry.affine import Matrix
from dvlm.values import Annotation, Drawn


@dataclass(frozen=True, eq=False)
class Scene:
    """What the ops so far make of an image: ops return a new scene, nothing is written back.

    The shapes stay as they were in `source`; `total` maps them onto the canvas of `width` x `height`, so that they
    are mapped once and clipped once, however many ops there are. `pending` is the part of `total` that no step renders
    yet. `window` (n, 2) is the convex region of the canvas that shows the image; the rest is fill. `kept` and `descs`
    are the indices into `source` and the descriptions of the shapes that are left.
    """

    source: Annotation
    width: int
    height: int
    window: NDArray[np.float64]
    kept: NDArray[np.int64]
    descs: tuple[str, ...]
    total: Matrix = field(default_factory=affine.identity)
    pending: Matrix = field(default_factory=affine.identity)
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, annotation: Annotation) -> Scene:
        """The untouched image."""
        return cls(
            source=annotation,
            width=annotation.width,
            height=annotation.height,
            window=affine.rectangle(annotation.width, annotation.height),
            kept=np.arange(len(annotation.shapes)),
            descs=annotation.descs,
        )

    def finish(self) -> Drawn:
        """The outcome."""
        coverage = (1.0,) * len(self.kept)
        return Drawn(self.source, self.steps, tuple(self.kept.tolist()), coverage, self.notes)
