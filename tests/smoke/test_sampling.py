"""Sampling sweeps as a user runs them: killed and resumed, failing, and pruned from inside training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import CACHE, small_config
from tiny_runs import GKD, SHORT

from dvlm.config.job import Job, Trial
from dvlm.reporting import sweep as sweeps
from dvlm.reporting.ranking import front
from dvlm.reporting.runs import KL, SFT
from dvlm.sampling import study
from dvlm.sampling.study import Setting, Trials
from dvlm.train import train

JOBS = Path(__file__).resolve().parents[1] / "idle_jobs.py"
SAMPLED = ("hydra/sweeper=optuna", "sweep.name=study", "hydra.launcher.n_jobs=2", "hydra.launcher.warm=[]")
BOTH = ("hydra.sweeper.sampler=nsga2", f"hydra.sweeper.metric=[{KL},{SFT}]", "hydra.sweeper.n_trials=12")
SPACE = ("rlhf=gkd_forward", "rlhf.beta=interval(0.02,0.5)", "optim.learning_rate=tag(log,interval(1e-5,1e-3))")


def command(*overrides: str) -> list[str]:
    return [sys.executable, str(JOBS), "-m", *SAMPLED, f"cache_dir={CACHE}", *overrides]


def sweep(directory: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*overrides), cwd=directory, capture_output=True, text=True, timeout=900)


def numbers(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.is_file() else []


def test_a_killed_sweeper_is_resumed_and_no_trial_runs_twice(tmp_path):
    directory = tmp_path / "outputs" / "sweeps" / "study"
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command(*BOTH, *SPACE), cwd=tmp_path, stdout=log, stderr=log)
        while len(numbers(directory / "started")) < 5:
            assert first.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.02)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert len(numbers(directory / "ended")) < 12
    done = sweep(tmp_path, *BOTH, *SPACE)
    assert done.returncode == 0, done.stderr
    assert "study study: 12 trials" in done.stdout
    assert sorted(numbers(directory / "ended")) == list(range(12))

    found = study.load("study", directory / "optuna.journal", None, {})
    assert [trial.state.name for trial in found.trials] == ["COMPLETE"] * 12
    assert len({tuple(trial.params.values()) for trial in found.trials}) == 12
    read = sweeps.read(directory)
    assert len(read.runs) == 12
    assert read.parameters == ["rlhf.beta", "optim.learning_rate"]
    best = {tuple(trial.params.values()) for trial in found.best_trials}
    assert best == {tuple(map(run.parameter, read.parameters)) for run in front(read.runs, KL, SFT)}


@pytest.mark.slow
def test_a_failing_trial_is_recorded_and_the_others_go_on(tmp_path):
    options = ("hydra.sweeper.sampler=grid", "seed=13,14", "rlhf.beta=0.1", "rlhf=gkd_forward")
    done = sweep(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert "trial 0 fail" in done.stdout
    assert "trial 1 complete 0.8" in done.stdout
    assert "study study: 2 trials of 20: the space holds no others" in done.stdout
    (failed,) = (run for run in sweeps.read(tmp_path / "outputs" / "sweeps" / "study").runs if run.state == "failed")
    assert "seed 13 fails" in failed.error


def test_what_cannot_be_sampled_ends_before_a_job_starts(tmp_path):
    done = sweep(tmp_path, *BOTH, *SPACE, "hydra.sweeper.pruner=median")
    assert done.returncode == 2
    assert done.stderr.startswith("error: hydra.sweeper.pruner is median with 2 metrics")
    assert not (tmp_path / "outputs" / "sweeps" / "study" / "started").exists()


def test_a_trial_that_falls_behind_ends_early(tmp_path):
    """Its study has seen a trial that was better at step 1: the run ends there, whole, and counts as pruned."""
    from optuna.distributions import FloatDistribution

    path, params = tmp_path / "optuna.journal", {"n_startup_trials": 1, "n_warmup_steps": 0}
    setting = Setting(
        name="s",
        storage=path,
        space={"rlhf.beta": FloatDistribution(0, 1)},
        metrics=[SFT],
        directions=["minimize"],
        trials=2,
        sampler_params={},
        pruner="median",
        pruner_params=params,
    )
    trials = Trials(setting, "me", lambda owner: True)
    better, ours = trials.next(2)
    trials.study._storage.set_trial_intermediate_value(better._trial_id, 1, 0.01)
    trials.tell(better.number, [0.01])
    trial = Trial(study="s", storage=path, number=ours.number, metric=SFT, pruner="median", pruner_params=params)
    directory = tmp_path / "run"
    config = small_config(*SHORT, GKD, "trainer.eval_steps=1")
    train(config, directory, Job(sweep=tmp_path, trial=trial))
    lines = [json.loads(line) for line in (directory / "logging.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {0, 1}, "three steps were planned"
    assert [line["sweep/pruned_at"] for line in lines if "sweep/pruned_at" in line] == [1]
    assert (directory / "checkpoints" / "last").resolve().name == "step-000001"
    assert trials.tell(ours.number, [5.0]).state.name == "PRUNED"
