"""What one image adds to the scores: named sums, so that every score is a ratio of sums and can be resampled.

Names: `told/quad`, `truth/quad` objects; `pairs/quad/0.50` matched pairs at a threshold; of the pairs at 0.5
`error/quad` (localisation), `exact/quad` and `characters/quad` (descriptions); `class/<c>/...`; `attribute/<key>/...`;
`summary/...` for summaries; `answers` and `failures` are counted once a turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from dvlm.geometry.shapes import Kind
from dvlm.metrics import words
from dvlm.metrics.matching import match
from dvlm.metrics.similarity import diagonal, localisation_error, similarities
from dvlm.values import Annotation

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
KINDS = {kind: kind.name.lower() for kind in Kind}

Sums = dict[str, float]


def dense(told: Annotation, truth: Annotation) -> Sums:
    """The sums of one image in dense mode; `told` and `truth` are in pixels of the same image."""
    sums: Counter[str] = Counter()
    size = diagonal(truth.width, truth.height)
    for kind, name in KINDS.items():
        ours, theirs = np.flatnonzero(told.shapes.kinds == kind), np.flatnonzero(truth.shapes.kinds == kind)
        alike = similarities(kind, told.shapes.take(ours), truth.shapes.take(theirs), size)
        sums[f"told/{name}"] += len(ours)
        sums[f"truth/{name}"] += len(theirs)
        for threshold in THRESHOLDS:
            sums[f"pairs/{name}/{threshold:.2f}"] += len(match(alike, threshold))
        for row, column in match(alike, THRESHOLDS[0]):
            i, j = int(ours[row]), int(theirs[column])
            error = localisation_error(kind, told.shapes.of(i), truth.shapes.of(j), size)
            sums.update(_pair(name, error, told.descs[i], truth.descs[j]))
        sums.update(_classes(alike, [told.descs[i] for i in ours], [truth.descs[j] for j in theirs]))
    return dict(sums)


def _pair(kind: str, error: float, told: str, truth: str) -> Counter[str]:
    """What a matched pair adds: how far off it is, and how its descriptions agree."""
    sums: Counter[str] = Counter()
    sums[f"error/{kind}"] += error  # type: ignore[assignment]
    sums[f"exact/{kind}"] += told == truth
    sums[f"characters/{kind}"] += words.character_f1(told, truth)  # type: ignore[assignment]
    ours, theirs = words.attributes(told), words.attributes(truth)
    for key, value in theirs.items():
        sums[f"attribute/{key}/count"] += 1
        sums[f"attribute/{key}/right"] += ours.get(key) == value
    return sums


def _classes(alike: np.ndarray, told: Sequence[str], truth: Sequence[str]) -> Counter[str]:
    """Objects and pairs at 0.5 of each class: only objects of one class can be a pair."""
    ours, theirs = (np.array([words.class_of(desc) for desc in descs], object) for descs in (told, truth))
    sums: Counter[str] = Counter()
    for name in sorted({*ours, *theirs}):
        rows, columns = np.flatnonzero(ours == name), np.flatnonzero(theirs == name)
        sums[f"class/{name}/told"] += len(rows)
        sums[f"class/{name}/truth"] += len(columns)
        sums[f"class/{name}/pairs"] += len(match(alike[np.ix_(rows, columns)], THRESHOLDS[0]))
    return sums


def summary(told: str, truth: str) -> Sums:
    """The sums of one image in summary mode."""
    wrong, objects = words.count_error(told, truth)
    return {
        "summary/images": 1,
        "summary/exact": float(told == truth),
        "summary/counts_exact": float(wrong == 0),
        "summary/characters": words.character_f1(told, truth),
        "summary/wrong": wrong,
        "summary/objects": objects,
    }
