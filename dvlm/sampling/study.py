"""A study on disk that several sweepers share: who asks for a trial owns it, and a dead owner leaves it to others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from dvlm.sampling import samplers
from dvlm.values import InputError

OWNER, PRUNED, SETTING = "owner", "pruned_at", "setting"
DRAWS = 100  # tries to find parameters that no trial has had


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a study looks for: a space of parameters, metrics to make small or large, how to sample and prune."""

    name: str
    storage: Path
    space: Mapping[str, BaseDistribution]
    metrics: Sequence[str]
    directions: Sequence[Literal["minimize", "maximize"]]
    trials: int
    seed: int = 17
    sampler: str = "tpe"
    sampler_params: Mapping[str, Any]
    pruner: str | None = None
    pruner_params: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.pruner and len(self.directions) > 1:
            raise InputError(
                f"hydra.sweeper.pruner is {self.pruner} with {len(self.directions)} metrics: which of two trials is "
                "worse has no answer then; set pruner to null, or give one metric"
            )


class Trials:
    """The trials of a study, as one sweeper sees them: `owner` is its name, `alive` tells whether an owner lives."""

    def __init__(self, setting: Setting, owner: str, alive: Callable[[str], bool]) -> None:
        self.setting, self.owner, self.alive = setting, owner, alive
        setting.storage.parent.mkdir(parents=True, exist_ok=True)
        quiet()
        with self._alone():
            self.study = optuna.create_study(
                study_name=setting.name,
                storage=storage(setting.storage),
                directions=list(setting.directions),
                load_if_exists=True,
                pruner=samplers.pruner(setting.pruner, setting.pruner_params),
            )
            self._check()

    def _check(self) -> None:
        """Raise InputError where the study on disk looks for something else."""
        ours: dict[str, Any] = {"metrics": list(self.setting.metrics), "directions": list(self.setting.directions)}
        ours |= {"space": {key: str(space) for key, space in sorted(self.setting.space.items())}}
        theirs = self.study.user_attrs.get(SETTING)
        if theirs is None:
            self.study.set_user_attr(SETTING, ours)
        elif theirs != ours:
            other = next(key for key in ours if ours[key] != theirs[key])
            raise InputError(
                f"study {self.setting.name} in {self.setting.storage} was begun with other {other}: {theirs[other]}, "
                f"now {ours[other]}; give the same, or another hydra.sweeper.study_name"
            )

    def next(self, most: int) -> list[FrozenTrial]:
        """Up to `most` trials to run: those that a dead sweeper left running, then new ones while the study lacks some.

        No two trials have the same parameters: fewer come where the space holds no others.
        """
        found: list[FrozenTrial] = []
        with self._alone():
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if len(found) < most and not self.alive(str(trial.user_attrs.get(OWNER, ""))):
                    found.append(self._take_over(trial))
            while len(found) < most and len(self.study.get_trials(deepcopy=False)) < self.setting.trials:
                params = self._drawn()
                if params is None:
                    break
                self.study.enqueue_trial(params)
                number = self.study.ask(dict(self.setting.space)).number
                self._own(number)
                found.append(self.trial(number))
        return found

    def _drawn(self) -> dict[str, Any] | None:
        """Parameters that no trial has had. They depend on the seed and the trials before alone, whoever draws."""
        self._reseed()
        trials = self.study.get_trials(deepcopy=False)
        known = [trial.params for trial in trials]
        if self.setting.sampler == "grid":
            return next((point for point in self._points() if point not in known), None)
        # Drawn beside the study: what turns out to be known leaves no trace in it.
        draft = optuna.create_study(directions=list(self.setting.directions), sampler=self.study.sampler)
        draft.add_trials(trials)
        for _ in range(DRAWS):
            params = draft.ask(dict(self.setting.space)).params
            if params not in known:
                return params
        return None

    def _points(self) -> Iterator[dict[str, Any]]:
        names = list(self.setting.space)
        for values in product(*(samplers.grid(name, space) for name, space in self.setting.space.items())):
            yield dict(zip(names, values, strict=True))

    def _take_over(self, trial: FrozenTrial) -> FrozenTrial:
        """Own the trial of a dead sweeper, which may have died before it had drawn every parameter."""
        self._own(trial.number)
        self._reseed()
        again = optuna.trial.Trial(self.study, trial._trial_id)
        for name, space in self.setting.space.items():
            again._suggest(name, space)
        return self.trial(trial.number)

    def _reseed(self) -> None:
        setting, count = self.setting, len(self.study.get_trials(deepcopy=False))
        seed = int(np.random.SeedSequence([setting.seed, count]).generate_state(1)[0])
        self.study.sampler = samplers.sampler(setting.sampler, setting.sampler_params, seed=seed, trials=setting.trials)

    def _own(self, number: int) -> None:
        self.study._storage.set_trial_user_attr(self.trial(number)._trial_id, OWNER, self.owner)

    def trial(self, number: int) -> FrozenTrial:
        """The trial of a number, as it is now."""
        return self.study.get_trials(deepcopy=False)[number]

    def tell(self, number: int, values: Sequence[float] | None) -> FrozenTrial:
        """Record what a trial came to: its metrics; failed where there are none or one is not finite; pruned where the
        job ended early."""
        state = None
        if PRUNED in self.trial(number).user_attrs:
            values, state = None, TrialState.PRUNED
        elif values is None or not all(map(math.isfinite, values)):
            values, state = None, TrialState.FAIL
        return self.study.tell(number, values, state=state)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other sweeper asks for trials meanwhile."""
        lock = JournalFileSymlinkLock(f"{self.setting.storage}.ask")
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def best(self) -> list[FrozenTrial]:
        """The best trial, or with two metrics those of the front; none while none is complete."""
        return self.study.best_trials


def storage(path: Path) -> JournalStorage:
    """The journal of a study: a file that processes on several machines append to, without a server."""
    return JournalStorage(JournalFileBackend(str(path)))


def load(name: str, path: Path, pruner: str | None, params: Mapping[str, Any]) -> Study:
    """The study as a job sees it, which only reports to its own trial."""
    quiet()
    return optuna.load_study(study_name=name, storage=storage(path), pruner=samplers.pruner(pruner, params))


def quiet() -> None:
    """Leave out what optuna says of each trial, and of options that may still change."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
