"""How much each parameter matters for a metric."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from dvlm.reporting.runs import greater_is_better
from dvlm.reporting.sweep import Sweep, numbers

FEWEST_SAMPLED = 20  # runs from which Parzen estimates say something
TOP = 5  # runs that count as good ones at least


@dataclass(frozen=True)
class Importance:
    """Shares by parameter, the largest first, and the method in words."""

    metric: str
    shares: dict[str, float]
    method: str


def importance(sweep: Sweep, metric: str) -> Importance | None:
    """Of a grid: the share of the metric's variance that each parameter explains alone (functional ANOVA, exact there).
    Of sampled values: PED-ANOVA, a functional ANOVA by Parzen estimates, through optuna. None where neither fits."""
    rows = []
    for run in sweep.runs:
        value = run.value(metric) if run.usable else None
        if value is not None:
            rows.append(([run.parameter(key) for key in sweep.parameters], value))
    if len(rows) < 3 or not sweep.parameters:
        return None
    values = np.array([value for _, value in rows], np.float64)
    points = [point for point, _ in rows]
    if values.var() == 0:
        return None
    if _is_grid(points):
        shares, method = _main_effects(points, values), "share of the variance that each explains alone (ANOVA, a grid)"
        interactions = max(0.0, 1 - sum(shares))
        named = dict(zip(sweep.parameters, shares, strict=True)) | {"interactions": interactions}
    elif len(rows) >= FEWEST_SAMPLED:
        method = f"PED-ANOVA over {len(rows)} sampled runs"
        named = _sampled(sweep.parameters, points, values, greater=greater_is_better(metric))
    else:
        return None
    return Importance(metric, dict(sorted(named.items(), key=lambda item: -item[1])), method)


def _is_grid(points: Sequence[Sequence[Any]]) -> bool:
    """Whether every combination of the values is there once."""
    axes = [sorted({str(point[axis]) for point in points}) for axis in range(len(points[0]))]
    seen = [tuple(map(str, point)) for point in points]
    return len(seen) == np.prod([len(axis) for axis in axes]) and set(seen) == set(product(*axes))


def _main_effects(points: Sequence[Sequence[Any]], values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    shares = []
    for axis in range(len(points[0])):
        names = np.array([str(point[axis]) for point in points])
        means = np.array([values[names == name].mean() for name in names])
        shares.append(float(means.var() / values.var()))
    return shares


def _sampled(
    parameters: Sequence[str],
    points: Sequence[Sequence[Any]],
    values: np.ndarray[Any, np.dtype[np.float64]],
    *,
    greater: bool,
) -> dict[str, float]:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    spaces: dict[str, BaseDistribution] = {}
    for axis, name in enumerate(parameters):
        column = [point[axis] for point in points]
        known = numbers(column)
        if known and len(set(known)) > 2:
            spaces[name] = FloatDistribution(min(known), max(known), log=min(known) > 0 and max(known) > 9 * min(known))
        else:
            spaces[name] = CategoricalDistribution(sorted(set(map(str, column))))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if greater else "minimize")
    for point, value in zip(points, values, strict=True):
        given = {
            name: float(each) if isinstance(spaces[name], FloatDistribution) else str(each)
            for name, each in zip(parameters, point, strict=True)
        }
        study.add_trial(optuna.create_trial(params=given, distributions=spaces, value=float(value)))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=max(0.1, TOP / len(points)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.importance.get_param_importances(study, evaluator=evaluator)
