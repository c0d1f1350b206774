"""Lines cut by a window: of the parts inside, the longest.

Not with shapely: its overlay splits a line wherever it crosses itself, and a coiled cable would fall apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvlm.geometry.window import SLACK, edge_distances


@dataclass(frozen=True, eq=False)
class LongestParts:
    """The longest inside part of k lines.

    `points` (m, 2) of all parts end to end, `counts` (k,) points of each part (0 where nothing is inside), `coverage`
    (k,) the share of the whole line that is inside.
    """

    points: NDArray[np.float64]
    counts: NDArray[np.int64]
    coverage: NDArray[np.float64]


def longest_inside(points: NDArray[np.float64], counts: NDArray[np.int64], window: NDArray[np.float64]) -> LongestParts:
    """Cut k lines, their vertices (m, 2) laid end to end and `counts` (k,) of them each, by a window (n, 2)."""
    lines = len(counts)
    owner, start, end = _segments(points, counts)
    enter, leave = _inside_interval(start, end, window)
    lengths = np.linalg.norm(end - start, axis=1)
    visible = np.maximum(leave - enter, 0) * lengths
    whole = np.bincount(owner, lengths, minlength=lines)
    shown = np.bincount(owner, visible, minlength=lines)
    chosen = _in_longest_run(owner, enter, leave, visible)
    start, end, owner = start[chosen], end[chosen], owner[chosen]
    heads = start + enter[chosen, None] * (end - start)
    tails = start + leave[chosen, None] * (end - start)
    first = np.diff(owner, prepend=-1) != 0
    # A part is the head of its first segment and the tail of every segment.
    slots = np.arange(len(owner)) + np.cumsum(first)
    parts = np.empty((len(owner) + int(first.sum()), 2))
    parts[slots], parts[slots[first] - 1] = tails, heads[first]
    return LongestParts(
        points=parts,
        counts=np.bincount(owner, 1 + first, minlength=lines).astype(np.int64),
        coverage=np.divide(shown, whole, out=np.zeros(lines), where=whole > 0),
    )


def _segments(points: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
    """The line (s,) of each segment, and where it starts and ends (s, 2)."""
    owner = np.repeat(np.arange(len(counts)), counts)
    joined = np.flatnonzero(owner[:-1] == owner[1:])
    return owner[joined], points[joined], points[joined + 1]


def _inside_interval(start: NDArray, end: NDArray, window: NDArray) -> tuple[NDArray, NDArray]:
    """The inside interval [enter, leave] (s,) of each segment, as shares of it; enter > leave where none is."""
    from_start, from_end = edge_distances(start, window), edge_distances(end, window)
    starts_out, ends_out = from_start < -SLACK, from_end < -SLACK
    step = from_start - from_end
    crossing = np.divide(from_start, step, out=np.zeros_like(step), where=step != 0)
    enter = np.where(starts_out, np.where(ends_out, np.inf, crossing), 0.0).max(axis=1)
    leave = np.where(ends_out, crossing, 1.0).min(axis=1)
    outside = ~np.isfinite(enter) | (enter > leave)
    return np.where(outside, 1.0, np.clip(enter, 0, 1)), np.where(outside, 0.0, np.clip(leave, 0, 1))


def _in_longest_run(owner: NDArray, enter: NDArray, leave: NDArray, visible: NDArray) -> NDArray[np.int64]:
    """The indices of the segments in the longest unbroken inside run of each line; of equal runs the first."""
    inside = np.flatnonzero(enter < leave)
    if not len(inside):
        return inside
    previous, this = inside[:-1], inside[1:]
    unbroken = (this == previous + 1) & (owner[this] == owner[previous]) & (leave[previous] == 1) & (enter[this] == 0)
    run = np.concatenate([[0], np.cumsum(~unbroken)])
    lengths = np.bincount(run, visible[inside])
    run_owner = owner[inside][np.concatenate([[True], ~unbroken])]
    order = np.lexsort((-np.arange(len(lengths)), lengths, run_owner))
    last = np.append(np.diff(run_owner[order]) != 0, True)
    return inside[np.isin(run, order[last])]
