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


def box_corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The four corners (..., 4, 2) of boxes (..., 2, 2), clockwise from the top left."""
    flat = boxes.reshape(*boxes.shape[:-2], 4)
    return flat[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(*boxes.shape[:-2], 4, 2)


@dataclass(frozen=True, eq=False)
class BBox:
    """An upright box: `points` (2, 2) are its top left and bottom right corners."""

    points: NDArray[np.float64]

    @property
    def corners(self) -> NDArray[np.float64]:
        """The four corners (4, 2), clockwise from the top left."""
        return box_corners(self.points)


@dataclass(frozen=True, eq=False)
class Quad:
    """Four corners: `points` (4, 2)."""

    points: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """An open polyline: `points` (n, 2) are its vertices."""

    points: NDArray[np.float64]


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

    def __getitem__(self, index: int) -> BBox | Quad | Line:
        """Shape `index` as a value of its own; its points are a view."""
        if not 0 <= index < len(self):
            raise IndexError(f"shape {index} of {len(self)}")
        return (BBox, Quad, Line)[self.kinds[index]](self.of(index))

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

    def rows(self, kind: Kind) -> NDArray[np.int64]:
        """The rows of `points` that hold the boxes (k, 2) or the quads (k, 4)."""
        return self.starts[:-1][self.kinds == kind][:, None] + np.arange(4 if kind is Kind.QUAD else 2)

    def replaced(
        self, indices: NDArray[np.int64], kind: Kind, points: NDArray[np.float64], counts: NDArray[np.int64]
    ) -> Shapes:
        """With the shapes at `indices` (j,) of the given kind and points: `counts` (j,) each, (m, 2) end to end."""
        kinds, sizes = self.kinds.copy(), self.counts
        others = np.ones(len(self), bool)
        others[indices] = False
        kept = self.points[np.repeat(others, sizes)]
        kinds[indices], sizes[indices] = kind, counts
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        fresh = np.empty((starts[-1], 2))
        fresh[np.repeat(others, sizes)] = kept
        rows = np.arange(len(points)) + np.repeat(starts[indices] - np.cumsum(counts) + counts, counts)
        fresh[rows] = points
        return Shapes(kinds=kinds, points=fresh, starts=starts)
