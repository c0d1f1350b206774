"""A sweep on this machine: jobs side by side, one killed, one failing; and the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import CACHE, SMALL
from tiny_runs import GKD, SHORT

from dvlm.sweeps import lock
from dvlm.sweeps.status import State, Status, Sweep

PATIENCE = 300.0  # seconds, for a machine with much else to do
METRIC = "trainer.metric_for_best_model"
FAILING, KILLED = "eval/nothing", "eval/token_accuracy"
COMMAND = (GKD, f"cache_dir={CACHE}", *SMALL, *SHORT, "trainer.num_train_epochs=2", "trainer.save_steps=1")


def sweep(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """A sweep command under way, in `directory`."""
    command = [sys.executable, "-m", "dvlm.train", "-m", *COMMAND, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_one(jobs: Path, process: subprocess.Popen[str]) -> None:
    """kill -9 to the job that validates by `KILLED`, as soon as it has saved something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        for directory in jobs.glob(f"*{KILLED.replace('/', '-')}-*"):
            status = Status.read(directory)
            if status is not None and list(directory.glob("checkpoints/step-*")):
                os.kill(int(status.job), signal.SIGKILL)
                return
        time.sleep(0.02)
    pytest.fail("the job to kill did not start")


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, list[str], list[int]]:
    """The sweep's directory after two runs of its command, with what they printed and their exit codes."""
    place = tmp_path_factory.mktemp("sweep")
    jobs = place / "outputs" / "sweeps" / "metrics"
    values = f"{METRIC}=eval/loss,eval/sft_loss,{KILLED},{FAILING}"
    said, codes = [], []
    for again in (False, True):
        process = sweep(place, values, "sweep.name=metrics", "hydra.launcher.n_jobs=2")
        if not again:
            kill_one(jobs, process)
        said.append(process.communicate(timeout=PATIENCE)[0])
        codes.append(process.returncode)
    return jobs, said, codes


def started(said: str) -> list[str]:
    return sorted(line.split("-")[-1].split()[0] for line in said.splitlines() if line.endswith(" starts"))


def test_others_go_on_when_one_is_killed_and_one_fails(swept):
    jobs, said, codes = swept
    assert codes[0] == 1, said[0]
    assert len(started(said[0])) == 4
    assert said[0].count(" succeeded") == 2
    assert f"{METRIC} is {FAILING}, which is not logged" in said[0]
    assert "failed: killed by SIGKILL; last seen at step" in said[0]


def test_the_same_command_again_runs_what_is_missing_or_failed(swept):
    jobs, said, codes = swept
    assert codes[1] == 1, said[1]
    assert len(started(said[1])) == 2
    states = {directory.name: Status.read(directory) for directory in jobs.iterdir() if directory.is_dir()}
    assert len(states) == 4
    killed = next(status for name, status in states.items() if KILLED.rpartition("/")[2] in name)
    assert (killed.state, killed.restarts, killed.step) == (State.SUCCEEDED, 1, 6)
    assert killed.value is not None
    assert [status.state for status in states.values()].count(State.FAILED) == 1


def test_a_killed_job_continues_where_it_was_saved(swept):
    jobs, _, _ = swept
    killed = next(jobs.glob(f"*{KILLED.rpartition('/')[2]}*"))
    lines = [json.loads(line) for line in (killed / "logging.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4, 5, 6]
    assert json.loads((killed / "run.json").read_text())["restarts"] == 1
    assert "resumes" in (killed / "job.log").read_text()
    assert lock.holder(killed) is None


def test_a_sweep_lists_its_jobs(swept):
    jobs, _, _ = swept
    sweep = Sweep.read(jobs)
    assert sweep.name == "metrics"
    assert sweep.command[1:4] == ["-m", "dvlm.train", "-m"]
    assert sorted(job.directory for job in sweep.jobs) == sorted(path.name for path in jobs.iterdir() if path.is_dir())
    values = [f"{METRIC}={value}" for value in ("eval/loss", "eval/sft_loss", KILLED, FAILING)]
    assert all(value in job.overrides for value, job in zip(values, sweep.jobs, strict=True))
