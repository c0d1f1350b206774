"""A study that sweepers share: who runs which trial, and that none is run twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from dvlm.sampling.study import PRUNED, Setting, Trials
from dvlm.values import InputError

SPACE = {"rlhf.beta": FloatDistribution(0.02, 0.5), "optim.learning_rate": FloatDistribution(1e-5, 1e-3, log=True)}
SMALL = {"a": CategoricalDistribution(["x", "y", "z"]), "b": IntDistribution(0, 4, step=2)}


def setting(tmp_path: Path, **changes: Any) -> Setting:
    plain: dict[str, Any] = {
        "name": "s",
        "storage": tmp_path / "optuna.journal",
        "space": SPACE,
        "metrics": ["eval/sft_loss"],
        "directions": ["minimize"],
        "trials": 6,
        "sampler_params": {},
        "pruner_params": {},
    }
    return Setting(**plain | changes)


def sweeper(chosen: Setting, name: str = "me", living: tuple[str, ...] = ("me",)) -> Trials:
    return Trials(chosen, name, lambda owner: owner in living)


def numbers(trials) -> list[int]:
    return [trial.number for trial in trials]


def test_trials_until_the_study_has_as_many_as_asked_for(tmp_path):
    trials = sweeper(setting(tmp_path))
    for expected in ([0, 1, 2, 3], [4, 5], []):
        batch = trials.next(4)
        assert numbers(batch) == expected
        for trial in batch:
            assert set(trial.params) == set(SPACE)
            trials.tell(trial.number, [1.0 + trial.number])
    assert numbers(trials.best()) == [0]
    more = sweeper(setting(tmp_path, trials=8))
    assert numbers(more.next(4)) == [6, 7], "the same study goes on"


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "nsga2"])
def test_a_small_space_is_gone_through_once(tmp_path, sampler):
    """NSGA-II repeats its parents, random draws repeat themselves: neither is run again."""
    trials = sweeper(setting(tmp_path, space=SMALL, trials=40, sampler=sampler))
    seen = []
    while batch := trials.next(2):
        for trial in batch:
            seen.append(tuple(trial.params.values()))
            trials.tell(trial.number, [float(trial.params["b"])])
    assert len(seen) == len(set(seen)) == 9


def test_what_is_drawn_depends_on_the_seed_and_the_trials_before(tmp_path):
    drawn = []
    for folder, seed in (("a", 17), ("b", 17), ("c", 18)):
        trials = sweeper(setting(tmp_path / folder, seed=seed, sampler="tpe"))
        drawn.append([trial.params for trial in trials.next(3)])
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_trials_of_a_dead_sweeper_are_taken_over_and_those_of_a_living_one_are_not(tmp_path):
    ours, dead = setting(tmp_path), sweeper(setting(tmp_path), "dead")
    left = dead.next(2)
    dead.study.ask()  # it died before it drew a parameter and left its name
    living = sweeper(ours, "other", living=("dead", "other", "")).next(1)
    me = sweeper(ours, "me", living=("me", "other"))
    batch = me.next(10)
    assert numbers(batch) == [0, 1, 2, 4, 5]
    assert [trial.params for trial in batch[:2]] == [trial.params for trial in left]
    assert set(batch[2].params) == set(SPACE)
    assert numbers(living) == [3]
    assert me.next(10) == [], "they are ours now, and run"


def test_failed_pruned_and_complete(tmp_path):
    trials = sweeper(setting(tmp_path))
    for number, values in ((0, None), (1, [float("nan")]), (2, [0.5]), (3, [0.1])):
        (trial,) = trials.next(1)
        if number == 3:
            trials.study._storage.set_trial_user_attr(trial._trial_id, PRUNED, 7)
        trials.tell(trial.number, values)
    states = [trial.state for trial in trials.study.trials]
    assert states == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED]


def test_a_front_of_two_metrics(tmp_path):
    two = setting(tmp_path, metrics=["a", "b"], directions=["minimize", "maximize"], sampler="nsga2")
    trials = sweeper(two)
    for trial, values in zip(trials.next(3), [(1, 1), (2, 2), (2, 1)], strict=True):
        trials.tell(trial.number, values)
    assert numbers(trials.best()) == [0, 1]


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match="pruner is median with 2 metrics"):
        setting(tmp_path, directions=["minimize", "minimize"], pruner="median")
    with pytest.raises(InputError, match="sampler is 'tpee'; did you mean 'tpe'"):
        sweeper(setting(tmp_path, sampler="tpee")).next(1)
    with pytest.raises(InputError, match="pruner_params: .*n_warmup"):
        sweeper(setting(tmp_path, pruner="median", pruner_params={"n_warmup": 1}))
    with pytest.raises(InputError, match=r"rlhf.beta: a grid has no interval; give choice"):
        sweeper(setting(tmp_path, sampler="grid")).next(1)
    first = setting(tmp_path / "one")
    sweeper(first)
    with pytest.raises(InputError, match="was begun with other space"):
        sweeper(replace(first, space=SMALL))
    with pytest.raises(InputError, match="was begun with other metrics"):
        sweeper(replace(first, metrics=["eval/kl_loss"]))
