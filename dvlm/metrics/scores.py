"""From sums to scores, for one evaluation or for every resample of it at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvlm.metrics.sums import KINDS, THRESHOLDS, Sums

Floats = NDArray[np.float64]
LEVEL = 0.95  # of confidence intervals
GROUPS = {**{f"_{kind}": (kind,) for kind in KINDS.values()}, "": tuple(KINDS.values())}
PAIRED = {"localisation_error": "error", "desc_exact": "exact", "desc_f1": "characters"}
OTHERS = {
    "summary_exact": ("summary/exact", "summary/images"),
    "summary_counts_exact": ("summary/counts_exact", "summary/images"),
    "summary_f1": ("summary/characters", "summary/images"),
    "count_error": ("summary/wrong", "summary/objects"),
    "parse_failures": ("failures", "answers"),
    "truncated": ("truncated", "answers"),
}


@dataclass(frozen=True)
class Score:
    """A score and its confidence interval: percentiles of scores of resampled images."""

    value: float
    low: float
    high: float


def scores(images: Sequence[Sums], *, resamples: int = 1000, seed: int = 17) -> dict[str, Score]:
    """Every score of `images`, with bootstrap intervals over images (Efron 1979); `resamples` 0 gives none.

    What has nothing to count has no entry.
    """
    names = sorted({name for sums in images for name in sums})
    table = np.array([[sums.get(name, 0.0) for name in names] for sums in images]).reshape(len(images), len(names))
    points = {name: float(value) for name, value in ratios(_columns(names, table.sum(0))).items()}
    draws: dict[str, Floats] = {}
    if resamples and len(images):
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(len(images), np.full(len(images), 1 / len(images)), size=resamples)
        draws = ratios(_columns(names, weights.astype(float) @ table))
    return {name: _interval(value, draws.get(name)) for name, value in points.items() if np.isfinite(value)}


def _columns(names: Sequence[str], table: Floats) -> dict[str, Floats]:
    return {name: table[..., column] for column, name in enumerate(names)}


def _interval(value: float, draws: Floats | None) -> Score:
    found = draws[np.isfinite(draws)] if draws is not None else np.zeros(0)
    if not len(found):
        return Score(value, value, value)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Score(value, float(low), float(high))


def ratios(sums: Mapping[str, Floats]) -> dict[str, Floats]:
    """Every score as a ratio of sums, elementwise; nan where the denominator is 0."""
    zero = np.zeros_like(next(iter(sums.values()))) if sums else np.zeros(())

    def total(*names: str) -> Floats:
        return sum((sums.get(name, zero) for name in names), zero)

    out: dict[str, Floats] = {}
    for suffix, kinds in GROUPS.items():
        told, truth = (total(*(f"{side}/{kind}" for kind in kinds)) for side in ("told", "truth"))
        pairs = [total(*(f"pairs/{kind}/{threshold:.2f}" for kind in kinds)) for threshold in THRESHOLDS]
        found = _detection(told, truth, pairs)
        for score, name in PAIRED.items():
            found[score] = _over(total(*(f"{name}/{kind}" for kind in kinds)), pairs[0])
        out |= {f"{name}{suffix}": value for name, value in found.items()}
    out |= _by_class(sums, zero) | _attributes(sums)
    return out | {name: _over(total(above), total(below)) for name, (above, below) in OTHERS.items()}


def _detection(told: Floats, truth: Floats, pairs: Sequence[Floats]) -> dict[str, Floats]:
    """Precision, recall and F1 at 0.5, F1 averaged over 0.5:0.95, and what matches nothing on either side."""
    return {
        "precision": _over(pairs[0], told),
        "recall": _over(pairs[0], truth),
        "f1": _f1(pairs[0], told, truth),
        "mean_f1": np.mean([_f1(each, told, truth) for each in pairs], axis=0),
        "hallucinated": _over(told - pairs[0], told),
        "missed": _over(truth - pairs[0], truth),
    }


def _by_class(sums: Mapping[str, Floats], zero: Floats) -> dict[str, Floats]:
    names = sorted({name.removeprefix("class/").rpartition("/")[0] for name in sums if name.startswith("class/")})
    out, totals = {}, {"told": zero, "truth": zero, "pairs": zero}
    for name in names:
        own = {side: sums.get(f"class/{name}/{side}", zero) for side in totals}
        out[f"class/{name}/precision"] = _over(own["pairs"], own["told"])
        out[f"class/{name}/recall"] = _over(own["pairs"], own["truth"])
        out[f"class/{name}/f1"] = _f1(own["pairs"], own["told"], own["truth"])
        totals = {side: totals[side] + own[side] for side in totals}
    return out | ({"caption_f1": _f1(totals["pairs"], totals["told"], totals["truth"])} if names else {})


def _attributes(sums: Mapping[str, Floats]) -> dict[str, Floats]:
    keys = sorted(name.removeprefix("attribute/").rpartition("/")[0] for name in sums if name.endswith("/count"))
    return {f"attribute/{key}": _over(sums[f"attribute/{key}/right"], sums[f"attribute/{key}/count"]) for key in keys}


def _over(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(np.asarray(below, float), np.nan), where=np.asarray(below) > 0)


def _f1(pairs: Floats, told: Floats, truth: Floats) -> Floats:
    return _over(2 * pairs, told + truth)
