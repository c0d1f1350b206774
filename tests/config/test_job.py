"""What a job learns of its sweep from Hydra."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from dvlm.config import keys
from dvlm.config.compose import register
from dvlm.config.job import Job, Trial


@pytest.fixture
def current():
    """`current(*overrides)`: the job that Hydra would run with these."""

    def job(*overrides: str) -> Job:
        register()
        with hydra.initialize_config_dir(str(keys.CONF), version_base="1.3"):
            HydraConfig.instance().set_config(hydra.compose("train", list(overrides), return_hydra_config=True))
        return Job.current()

    yield job
    HydraConfig.instance().cfg = None
    GlobalHydra.instance().clear()


def test_a_run_alone(current):
    assert current("rlhf=gkd_forward") == Job(overrides=("rlhf=gkd_forward",))


def test_a_job_of_a_sweep(current):
    job = current("seed=3", "hydra.mode=MULTIRUN", "sweep.name=grid")
    assert job == Job(overrides=("seed=3", "sweep.name=grid"), sweep=Path("outputs/sweeps/grid"))


def test_a_trial_that_may_end_early(current):
    sampled = ("hydra.mode=MULTIRUN", "hydra/sweeper=optuna", "hydra.sweeper.trial=3")
    assert current(*sampled).trial is None, "nothing prunes it"
    job = current(
        *sampled, "sweep.name=s", "hydra.sweeper.pruner=median", "hydra.sweeper.pruner_params={n_warmup_steps: 5}"
    )
    storage = Path("outputs/sweeps/s/optuna.journal")
    params = {"n_warmup_steps": 5}
    assert job.trial == Trial(
        study="s", storage=storage, number=3, metric="eval/sft_loss", pruner="median", pruner_params=params
    )
    assert job.overrides == ("sweep.name=s",), "the trial is no override of the run"
