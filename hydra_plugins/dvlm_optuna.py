"""Hydra's sampling sweeper of DVLM: `hydra/sweeper=optuna`.

Each batch asks the study for trials, lets the launcher run them, and tells the study what became of them. The study
lies in a journal file: the same command again goes on with it, and on another node it helps.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

POLL = 2.0  # seconds between looks at a job that a dead sweeper has left running


class OptunaSweeper(Sweeper):
    """Trials from a study: conf/hydra/sweeper/optuna.yaml."""

    def __init__(
        self,
        *,
        sampler: str,
        metric: str | Sequence[str] | None,
        direction: str | Sequence[str] | None,
        n_trials: int,
        n_jobs: int,
        seed: int,
        sampler_params: Mapping[str, Any] | None,
        pruner: str | None,
        pruner_params: Mapping[str, Any] | None,
        study_name: str,
        storage: str,
        params: Mapping[str, Any] | None,
        trial: int | None,
    ) -> None:
        self.metrics, self.directions = _listed(metric), _listed(direction)
        self.trials, self.n_jobs, self.params = n_trials, n_jobs, dict(params or {})
        self.options: dict[str, Any] = {
            "name": study_name,
            "storage": Path(storage),
            "seed": seed,
            "sampler": sampler,
            "sampler_params": dict(sampler_params or {}),
            "pruner": pruner,
            "pruner_params": dict(pruner_params or {}),
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run trials until the study has as many as it is to have; returns the best of them."""
        from dvlm.sampling import owners
        from dvlm.sampling.study import Trials
        from dvlm.sweeps import lock
        from dvlm.sweeps.place import Place
        from dvlm.values import InputError
        from hydra_plugins._dvlm_space import example, written

        self.directory = Path(self.config.hydra.sweep.dir)
        self.directory.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.directory / "multirun.yaml")
        place = Place.here(os.environ)
        owner = owners.name(place)
        try:
            fixed, setting = self._setting(arguments)
            # A key or value that does not compose is found before it is part of the study.
            self.validate_batch_is_legal([[*fixed, *written(example(setting.space))]])
            with lock.held(owners.directory(self.directory, owner), place):
                trials = Trials(setting, owner, partial(owners.lives, self.directory))
                while batch := trials.next(self.n_jobs):
                    self._run(trials, batch, fixed)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from error
        return self._closing(trials)

    def _setting(self, arguments: list[str]) -> tuple[list[str], Any]:
        """The overrides of every trial, and what the study looks for; raises InputError for what does not fit."""
        from dvlm.reporting.runs import greater_is_better
        from dvlm.sampling.study import Setting
        from dvlm.values import InputError
        from hydra_plugins._dvlm_space import split

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        lines = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        fixed, space = split(parser.parse_overrides(lines))
        if not space:
            raise InputError(
                "there is nothing to sample: give for example rlhf.beta='interval(0.05,0.5)', or hydra.sweeper.params"
            )
        guessed = ["maximize" if greater_is_better(name) else "minimize" for name in self.metrics]
        directions = self.directions or guessed or ["minimize"]
        if self.metrics and len(directions) != len(self.metrics):
            raise InputError(
                f"hydra.sweeper.direction has {len(directions)} values for {len(self.metrics)} metrics; give one each"
            )
        if wrong := set(directions) - {"minimize", "maximize"}:
            raise InputError(f"hydra.sweeper.direction is '{wrong.pop()}', expected minimize or maximize")
        if self.options["pruner"] and not self.metrics:
            raise InputError("hydra.sweeper.pruner needs hydra.sweeper.metric: what validations report is compared")
        if self.trials < 1 or self.n_jobs < 1:
            raise InputError(f"hydra.sweeper: n_trials {self.trials} and n_jobs {self.n_jobs}, expected at least 1")
        return fixed, Setting(
            space=space, metrics=self.metrics, directions=directions, trials=self.trials, **self.options
        )

    def _run(self, trials: Any, batch: Sequence[Any], fixed: list[str]) -> None:
        from dvlm.sweeps.status import State, Status
        from hydra_plugins._dvlm_space import written

        jobs = [[*fixed, *written(trial.params), f"hydra.sweeper.trial={trial.number}"] for trial in batch]
        self.validate_batch_is_legal(jobs)
        results = self._launched(jobs, min(trial.number for trial in batch))
        for trial, result in zip(batch, results, strict=True):
            status = Status.read(_directory(result))
            if status is not None and status.state is State.PREEMPTED:
                # Not told: it stays open, and whoever gives the command again goes on with it.
                print(f"trial {trial.number} preempted at step {status.step}", flush=True)
                continue
            told = trials.tell(trial.number, self._values(result))
            text = ", ".join(f"{value:.4g}" for value in told.values or ())
            print(f"trial {told.number} {told.state.name.lower()} {text}  {' '.join(written(told.params))}", flush=True)

    def _launched(self, jobs: list[list[str]], first: int) -> list[JobReturn]:
        """Run the jobs; those that a dead sweeper has started and that still run are waited for."""
        from dvlm.sweeps import lock

        results = list(self.launcher.launch(jobs, initial_job_idx=first))
        held = [place for place, result in enumerate(results) if _failed(result) and lock.holder(_directory(result))]
        if held:
            while any(lock.holder(_directory(results[place])) for place in held):
                time.sleep(POLL)
            again = self.launcher.launch([jobs[place] for place in held], initial_job_idx=first)
            for place, result in zip(held, again, strict=True):
                results[place] = result
        return results

    def _values(self, result: JobReturn) -> list[float] | None:
        """What a job is judged by: its metrics at the best checkpoint, without `metric` what it returned."""
        from dvlm.reporting import runs

        if _failed(result):
            return None
        if self.metrics:
            run = runs.read(_directory(result))
            found = [run.value(name) for name in self.metrics]
        else:
            value = result.return_value
            found = list(value) if isinstance(value, Sequence) else [value]
        return None if any(each is None for each in found) else [float(each) for each in found]

    def _closing(self, trials: Any) -> list[dict[str, Any]]:
        from hydra_plugins._dvlm_space import written

        best = trials.best()
        count = len(trials.study.get_trials(deepcopy=False))
        exhausted = "" if count >= self.trials else f" of {self.trials}: the space holds no others"
        print(f"study {trials.setting.name}: {count} trials{exhausted}", flush=True)
        for trial in best:
            names = self.metrics or [f"value {place}" for place in range(len(trial.values))]
            values = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, trial.values, strict=True))
            word = "best " if len(best) == 1 else "front"
            print(f"{word} trial {trial.number}  {values}  {' '.join(written(trial.params))}", flush=True)
        return [{"trial": trial.number, "params": trial.params, "values": trial.values} for trial in best]


def _listed(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _failed(result: JobReturn) -> bool:
    return result.status != JobStatus.COMPLETED


def _directory(result: JobReturn) -> Path:
    hydra = result.hydra_cfg.hydra
    if OmegaConf.is_missing(hydra.runtime, "output_dir"):
        return Path(hydra.sweep.dir) / str(hydra.sweep.subdir)
    return Path(hydra.runtime.output_dir)
