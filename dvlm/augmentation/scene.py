"""One image while its augmentation is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dvlm.augmentation.steps import Colour, Painter, Warp
from dvlm.geometry import affine
from dvlm.geometry import window as windows
from dvlm.geometry.affine import Matrix
from dvlm.geometry.clip import Clipped, clip, transform
from dvlm.values import Annotation, Drawn


@dataclass(frozen=True, eq=False)
class Scene:
    """What the ops so far make of an image; an op returns a new scene.

    The shapes stay as they are in `source`, and are mapped and clipped once, at the end, however many ops there are.
    `width` x `height` is the canvas in pixels. `total` maps the source onto it; `pending` is the part of `total` that
    no step renders yet, the affine ops since the last canvas op. `window` (n, 2) is the region of the last rendered
    canvas that shows the image; the rest is fill. `kept` indexes the shapes of `source` that are left, `descs` are
    their descriptions.
    """

    source: Annotation
    width: int
    height: int
    window: NDArray[np.float64]
    kept: NDArray[np.int64]
    descs: tuple[str, ...]
    total: Matrix = field(default_factory=affine.identity)
    pending: Matrix = field(default_factory=affine.identity)
    warps: tuple[Warp, ...] = ()
    colours: tuple[Colour, ...] = ()
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

    def moved(self, mapping: Matrix) -> Scene:
        """With the image moved on the same canvas. Consecutive moves are rendered as one warp."""
        return replace(self, total=mapping @ self.total, pending=mapping @ self.pending)

    def placed(self, mapping: Matrix, width: int, height: int) -> Scene:
        """With the image moved onto a new canvas: what ends up outside it is gone, and what it gains is fill."""
        scene = self.moved(mapping)
        if (width, height) == (self.width, self.height) and scene._is_flushed:
            return scene
        warp = Warp(tuple(scene.pending[:2].reshape(-1).tolist()), width, height)
        return replace(
            scene,
            width=width,
            height=height,
            window=windows.within(windows.moved(self.window, scene.pending), 0, 0, width, height),
            pending=affine.identity(),
            warps=_append(self.warps, warp),
        )

    def flushed(self) -> Scene:
        """With nothing pending: what affine ops moved off the canvas is gone."""
        return self if self._is_flushed else self.placed(affine.identity(), self.width, self.height)

    @property
    def _is_flushed(self) -> bool:
        return self.pending is affine.identity() or np.array_equal(self.pending, affine.identity())

    def painted(self, op: Painter, params: tuple[float, ...]) -> Scene:
        """With a colour op to render after every warp."""
        return replace(self, colours=(*self.colours, Colour(op, params)))

    def noted(self, event: str) -> Scene:
        """With an event to count, such as `random_crop.skipped.line`."""
        return replace(self, notes=(*self.notes, event))

    def clipped(self, window: NDArray[np.float64]) -> Clipped:
        """The shapes that are left, on this canvas, as a window (n, 2) of it shows them; coverage is of the source."""
        shapes = transform(self.source.shapes.take(self.kept), self.total)
        return clip(shapes, window, self.width, self.height)

    def finish(self) -> Drawn:
        """The outcome. Without a warp the shapes are those of the source, untouched."""
        scene = self.flushed()
        if not scene.warps:
            every = tuple(range(len(scene.source.shapes)))
            return Drawn(scene.source, scene.colours, every, (1.0,) * len(every), scene.notes)
        clipped = scene.clipped(scene.window)
        return Drawn(
            annotation=Annotation(scene.width, scene.height, clipped.shapes, scene.descs),
            steps=(*scene.warps, *scene.colours),
            kept=tuple(scene.kept.tolist()),
            coverage=tuple(clipped.coverage.tolist()),
            notes=scene.notes,
        )


def _append(warps: tuple[Warp, ...], new: Warp) -> tuple[Warp, ...]:
    """The warps and one more: as one with the last where the new canvas shows nothing from outside the old one."""
    if warps:
        old, mapping = warps[-1], new.as_matrix()
        seen = affine.apply(affine.inverse(mapping), affine.rectangle(new.width, new.height))
        slack = windows.SLACK
        if seen.min() >= -slack and (seen <= np.array([old.width, old.height]) + slack).all():
            joined = mapping @ old.as_matrix()
            return (*warps[:-1], Warp(tuple(joined[:2].reshape(-1).tolist()), new.width, new.height))
    return (*warps, new)
