"""What a run has logged, read quickly: every validation, and of the training steps as many as a curve can show."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FILE = "logging.jsonl"
HITS, MISSES, RATE = "perf/teacher_cache_hits", "perf/teacher_cache_misses", "perf/tokens_per_second"
POINTS = 250  # of a training curve; a sweep of 500 long runs is read in seconds that way


class Series(NamedTuple):
    """A metric: `values` (n,) at the optimizer steps `steps` (n,), n >= 1, in the order in which they were logged."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def last(self) -> float:
        """The value that was logged last."""
        return float(self.values[-1])

    def at(self, step: int) -> float | None:
        """The last value of a step, or None where the step has none."""
        found = self.values[self.steps == step]
        return float(found[-1]) if len(found) else None

    def best(self, *, greater: bool) -> float:
        """The least value after the start, or with `greater` the greatest; nan where nothing else was logged."""
        values = self.values[~np.isnan(self.values) & (self.steps > 0)]
        if not len(values):
            return float("nan")
        return float(values.max() if greater else values.min())


@dataclass(frozen=True)
class Log:
    """The series of a run by the name of their metric; `hits` and `misses` of the teacher cache, counted over all its
    lines; `cached` (n, 3): hits, misses and tokens a second of the training steps that were kept."""

    series: Mapping[str, Series]
    hits: float = 0.0
    misses: float = 0.0
    cached: tuple[tuple[float, float, float], ...] = ()

    @property
    def last_step(self) -> int:
        """The last optimizer step of which anything is known."""
        return max((int(series.steps.max()) for series in self.series.values()), default=0)

    def values(self, name: str) -> NDArray[np.float64]:
        """The values of a metric, none where it was not logged."""
        return self.series[name].values if name in self.series else np.empty(0)


def read(path: Path) -> Log:
    """The log of `path`, empty where there is none yet. Of training steps about `POINTS` are kept.

    A line that is not whole, as a dying run leaves one, is no line.
    """
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    text, cached = path.read_bytes() if path.is_file() else b"", []
    for row in _rows(text):
        step = row.pop("step", None)
        if isinstance(step, int):
            for name, value in row.items():
                if isinstance(value, int | float):
                    found[name].append((step, value))
            if HITS in row and RATE in row:
                cached.append((row[HITS], row[MISSES], row[RATE]))
    series = {name: _series(pairs) for name, pairs in found.items()}
    return Log(series, _sum(text, HITS), _sum(text, MISSES), tuple(cached))


def _sum(text: bytes, counter: str) -> float:
    """The sum of a counter over every line, the thinned ones too."""
    return sum(map(float, re.findall(rb'"%s": ([0-9.e+]+)' % counter.encode(), text)))


def _series(pairs: list[tuple[int, float]]) -> Series:
    steps, values = zip(*pairs, strict=True)
    return Series(np.array(steps, np.int64), np.array(values, np.float64))


def _rows(text: bytes) -> Iterator[dict[str, Any]]:
    lines = text.split(b"\n")
    stride, last = max(1, len(lines) // POINTS), len(lines) - 2  # after the last line comes an empty one
    for place, line in enumerate(lines):
        if place % stride and place != last and b'"train/loss"' in line and b'"eval/' not in line:
            continue  # one of many training steps
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
