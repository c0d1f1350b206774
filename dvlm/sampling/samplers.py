"""Optuna's samplers and pruners by the names that a configuration gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from dvlm.config.knob import nearest
from dvlm.values import InputError

SAMPLERS: dict[str, type[BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "grid": optuna.samplers.RandomSampler,  # the study names the points of a grid one after the other itself
    "nsga2": optuna.samplers.NSGAIISampler,
}
PRUNERS: dict[str, type[BasePruner]] = {
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
}


def sampler(name: str, params: Mapping[str, Any], *, seed: int, trials: int) -> BaseSampler:
    """The sampler of `name` with the options `params` of its class; `trials` are planned in all.

    Raises InputError for a name or an option that is not there.
    """
    given: dict[str, Any] = {"seed": seed}
    if name == "tpe":
        given |= {"constant_liar": True}  # trials that run at the same time keep away from each other
    elif name == "nsga2":
        given |= {"population_size": max(4, trials // 5)}
    return _built("sampler", SAMPLERS, name, given | dict(params))


def pruner(name: str | None, params: Mapping[str, Any]) -> BasePruner:
    """The pruner of `name`; None ends no trial early. Raises InputError as `sampler` does."""
    return optuna.pruners.NopPruner() if name is None else _built("pruner", PRUNERS, name, params)


def grid(key: str, space: BaseDistribution) -> list[Any]:
    """The values of a parameter in a grid. Raises InputError for one that has infinitely many."""
    if isinstance(space, CategoricalDistribution):
        return list(space.choices)
    if isinstance(space, IntDistribution):
        return list(range(space.low, space.high + 1, space.step))
    assert isinstance(space, FloatDistribution)
    if space.step is None:
        raise InputError(f"{key}: a grid has no interval; give choice(...) or range(...), or another sampler")
    return [space.low + place * space.step for place in range(round((space.high - space.low) / space.step) + 1)]


def _built(kind: str, known: Mapping[str, Any], name: str, params: Mapping[str, Any]) -> Any:
    if name not in known:
        raise InputError(f"hydra.sweeper.{kind} is '{name}'{nearest(name, known, shown=list(known))}")
    try:
        return known[name](**params)
    except (TypeError, ValueError) as error:
        raise InputError(f"hydra.sweeper.{kind}_params: {error}") from error
