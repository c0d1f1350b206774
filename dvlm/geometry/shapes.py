"""The shapes of one image as a struct of arrays, so that a thousand objects cost about what one costs.

A box is stored as its two corners, a quad as four corners in clockwise order (y points down), a line as its n
vertices. The legend: k shapes, m points of all shapes together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Kind(IntEnum):
    """The geometry of an object; `key` is its name in a record and in an answer."""

    BBOX = 0
    QUAD = 1
    LINE = 2

    @property
    def key(self) -> str:
        """The JSON key: `bbox_2d`, `quad` or `line`."""
        return ("bbox_2d", "quad", "line")[self]


@dataclass(frozen=True, eq=False)
class Shapes:
    """k shapes: `kinds` (k,) int8 of `Kind`, `points` (m, 2) float64 pixels, `starts` (k+1,) int64 into `points`."""

    kinds: NDArray[np.int8]
    points: NDArray[np.float64]
    starts: NDArray[np.int64]

    @classmethod
    def build(cls, shapes: Iterable[tuple[Kind, Sequence[float]]]) -> Shapes:
        """From (kind, flat coordinates [x1, y1, x2, y2, ...]) pairs; the caller has checked the counts."""
        pairs = list(shapes)
        points = [np.asarray(flat, np.float64).reshape(-1, 2) for _, flat in pairs]
        return cls(
            kinds=np.array([kind for kind, _ in pairs], np.int8),
            points=np.concatenate(points) if points else np.zeros((0, 2)),
            starts=np.concatenate([[0], np.cumsum([len(p) for p in points])]).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.kinds)

    def kind(self, index: int) -> Kind:
        """The kind of shape `index`."""
        return Kind(int(self.kinds[index]))

    def of(self, index: int) -> NDArray[np.float64]:
        """The points (n, 2) of shape `index`: a view."""
        return self.points[self.starts[index] : self.starts[index + 1]]

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of points of each shape, (k,)."""
        return np.diff(self.starts)

    @property
    def bounds(self) -> NDArray[np.float64]:
        """The bounding boxes (k, 4) as x1, y1, x2, y2."""
        if not len(self):
            return np.zeros((0, 4))
        low = np.minimum.reduceat(self.points, self.starts[:-1])
        return np.concatenate([low, np.maximum.reduceat(self.points, self.starts[:-1])], axis=1)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Shapes:
        """The shapes at `indices`, in that order."""
        chosen = np.asarray(indices, np.int64).reshape(-1)
        counts = self.counts[chosen]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(starts[-1]) + np.repeat(self.starts[chosen] - starts[:-1], counts)
        return Shapes(kinds=self.kinds[chosen], points=self.points[rows], starts=starts)
