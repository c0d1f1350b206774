"""How much each parameter matters for a metric."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvlm.reporting.runs import greater_is_better
from dvlm.reporting.sweep import Sweep, numbers

FULL = 0.75  # share of the combinations from which runs count as a grid
FEWEST_SAMPLED = 20  # runs from which Parzen estimates say something
TOP = 5  # runs that count as good ones at least


@dataclass(frozen=True)
class Importance:
    """Shares by parameter, the largest first, and the method in words."""

    metric: str
    shares: dict[str, float]
    method: str


def importance(sweep: Sweep, metric: str) -> Importance | None:
    """Of a grid: the share of the metric's variance that each parameter explains alone (functional ANOVA, exact where
    no combination is missing).
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
    filled = _filled(points)
    if filled >= FULL:
        shares, cells = _main_effects(points, values), "" if filled == 1 else f", {filled:.0%} of its cells"
        method = f"share of the variance that each explains alone (ANOVA of the grid{cells})"
        named = dict(zip(sweep.parameters, shares, strict=True)) | {"interactions": max(0.0, 1 - sum(shares))}
    elif len(rows) >= FEWEST_SAMPLED:
        method = f"PED-ANOVA over {len(rows)} sampled runs"
        named = _sampled(sweep.parameters, points, values, greater=greater_is_better(metric))
    else:
        return None
    return Importance(metric, dict(sorted(named.items(), key=lambda item: -item[1])), method)


def _filled(points: Sequence[Sequence[Any]]) -> float:
    """The share of the combinations of all values that is there."""
    combinations = math.prod(len({str(point[axis]) for point in points}) for axis in range(len(points[0])))
    return len({tuple(map(str, point)) for point in points}) / combinations


def _main_effects(points: Sequence[Sequence[Any]], values: NDArray[np.float64]) -> list[float]:
    shares = []
    for axis in range(len(points[0])):
        names = np.array([str(point[axis]) for point in points])
        groups = [values[names == name] for name in sorted(set(names))]
        between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
        shares.append(float(between / (len(values) * values.var())))
    return shares


def _sampled(
    parameters: Sequence[str],
    points: Sequence[Sequence[Any]],
    values: NDArray[np.float64],
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
