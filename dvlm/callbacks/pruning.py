"""A trial of a sampling sweep reports each validation to its study, and ends early where the study says so."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from dvlm.config.job import Trial
from dvlm.values import InputError

AT = "sweep/pruned_at"


class Pruning(L.Callback):
    """Reports on the first rank; every rank hears what it decides. The run ends whole, with its last checkpoint.

    Comes before saving, so that a checkpoint of a validated step knows of that validation.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Report, and stop. A validation before the first step says nothing of the parameters."""
        step = trainer.global_step
        if step == 0 or trainer.state.fn != TrainerFn.FITTING:
            return
        pruned = trainer.strategy.broadcast(trainer.is_global_zero and self._falls_behind(step, module.latest))
        if pruned:
            module.publish({AT: float(step)})
            trainer.should_stop = True

    def _falls_behind(self, step: int, metrics: dict[str, float]) -> bool:
        import optuna

        from dvlm.sampling import study

        named = self.trial
        if named.metric not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("eval/")))
            raise InputError(f"hydra.sweeper.metric is {named.metric}, which is not logged; logged are {known}")
        found = study.load(named.study, named.storage, named.pruner, named.pruner_params)
        trial = optuna.trial.Trial(found, found.get_trials(deepcopy=False)[named.number]._trial_id)
        trial.report(metrics[named.metric], step)
        pruned = trial.should_prune()
        if pruned:
            trial.set_user_attr(study.PRUNED, step)
        return pruned
