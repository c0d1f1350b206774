"""Sweeps on a real SLURM: a whole one, jobs that are killed and that fail, preemption in every way, two ranks a job."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support import CACHE, SMALL

from dvlm.sweeps import lock, selection
from dvlm.sweeps.place import Place
from dvlm.sweeps.status import State, Status, Sweep
from dvlm.values import InputError

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600.0  # seconds, for a machine with much else to do
JOB = (
    "+experiment=gkd_forward",
    f"cache_dir={CACHE}",
    *SMALL,
    "data.demo.train=6",
    "data.demo.val=2",
    "data.max_pixels=16384",
    "data.packs_per_step=2",
    "data.images_per_user_turn=1",
    "global_max_length=320",
    "trainer.num_train_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.cpu_threads=1",
)
CLUSTER = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.time=60")
METRIC = "trainer.metric_for_best_model"


def begin(place: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    """A sweep command under way; its jobs are below `place`."""
    command = [sys.executable, "-m", "dvlm.train", "-m", *JOB, f"sweep.name={name}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What a command printed, once it has ended."""
    return process.communicate(timeout=PATIENCE)[0]


def report(place: Path, name: str) -> str:
    """What `dvlm.report` says of a sweep."""
    command = [sys.executable, "-m", "dvlm.report", f"sweep=outputs/sweeps/{name}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=place, env=environment, check=True, text=True, capture_output=True).stdout


def until(what: Callable[[], Any]) -> Any:
    """Wait for a value that is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{what} took more than {PATIENCE:.0f} s")


def runs(place: Path, name: str) -> list[Path]:
    """The run directories of a sweep."""
    return sorted(place.glob(f"outputs/sweeps/{name}/[a-z]*-*/"))


def losses(directory: Path) -> list[dict[str, float]]:
    """The logged lines without what depends on time."""
    lines = [json.loads(line) for line in (directory / "logging.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("perf/")} for line in lines]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("slurm")


def test_a_grid_of_two_by_two_by_two(place):
    grid = ("rlhf.beta=0.1,0.2", "optim.learning_rate=1e-4,3e-4", "seed=1,2", "trainer.num_train_epochs=1")
    process = begin(place, "grid", *CLUSTER, *grid, "hydra.launcher.array_parallelism=4")
    said = finish(process)
    assert process.returncode == 0, said
    states = [Status.read(directory) for directory in runs(place, "grid")]
    assert [status.state for status in states] == [State.SUCCEEDED] * 8
    assert len({status.job.partition("_")[0] for status in states}) == 1  # one array
    assert len(Sweep.read(place / "outputs" / "sweeps" / "grid").jobs) == 8


def test_the_best_run_of_the_grid_is_exported_by_the_command_that_the_report_prints(place):
    said = report(place, "grid")
    assert said.count(" succeeded ") == 8
    (command,) = re.findall(r"^next +(python -m dvlm\.export .*)$", said, re.MULTILINE)
    words = shlex.split(command)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words[1:]], cwd=place, env=environment, check=True, timeout=PATIENCE)
    merged = next(word.removeprefix("output=") for word in words if word.startswith("output="))
    assert len(load_file(place / merged / "model.safetensors")) > 100


def test_killed_and_failing_jobs_leave_the_others_alone_and_run_again(place):
    values = ("eval/loss", "eval/sft_loss", "eval/token_accuracy", "eval/nothing")
    command = (*CLUSTER, f"{METRIC}={','.join(values)}", "trainer.save_steps=1", "trainer.num_train_epochs=4")
    process = begin(place, "faults", *command)

    def victim() -> Path | None:
        found = [run for run in runs(place, "faults") if "accuracy" in run.name and list(run.glob("checkpoints/step*"))]
        return found[0] if found else None

    job = Status.read(until(victim)).job
    pid = json.loads(next(until(victim).glob(".lock.*")).read_text())["place"]["pid"]
    os.kill(pid, 9)
    said = finish(process)
    assert process.returncode == 1, said
    assert said.count(" succeeded") == 2
    assert f"failed: SLURM job {job}: FAILED; last seen at step" in said
    assert f"{METRIC} is eval/nothing, which is not logged" in said
    told = [line for line in report(place, "faults").splitlines() if line.startswith("failed ")]
    assert [victim().name in line or "nothing" in line for line in told] == [True, True]
    again = begin(place, "faults", *command)
    said = finish(again)
    assert said.count(" starts") == 2
    assert said.count(" succeeded") == 1
    assert Status.read(victim()).restarts == 1


def test_a_waiting_job_holds_its_directory_until_it_is_cancelled(tmp_path):
    command = ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true"]
    job = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()
    lock.claim(tmp_path / "run", Place.here({"SLURM_JOB_ID": job}))
    assert f"is held by SLURM job {job} " in selection.refusal(tmp_path / "run")
    with pytest.raises(InputError, match=f"held by SLURM job {job}"):
        lock.claim(tmp_path / "run", Place.here({}))
    subprocess.run(["scancel", job], check=True)
    until(lambda: lock.holder(tmp_path / "run") is None)
    lock.claim(tmp_path / "run", Place.here({}))


@pytest.fixture(scope="module")
def whole(place) -> Path:
    """A job that nothing interrupts."""
    process = begin(place, "whole", *CLUSTER, "trainer.eval_steps=2", "trainer.num_train_epochs=4")
    assert process.wait(PATIENCE) == 0, finish(process)
    return runs(place, "whole")[0]


@pytest.mark.parametrize(
    "ask",
    [
        ("scancel", "--signal=USR2"),
        ("scancel", "--signal=TERM"),
        ("scontrol", "requeue"),
    ],
    ids=["USR2", "TERM", "requeue"],
)
def test_a_preempted_job_ends_as_one_that_was_not(place, whole, ask):
    name = ask[-1].rpartition("=")[2]
    process = begin(place, name, *CLUSTER, "trainer.eval_steps=2", "trainer.num_train_epochs=4")
    run = until(lambda: [run for run in runs(place, name) if (run / "logging.jsonl").exists()])[0]
    until(lambda: any("train/loss" in line for line in losses(run)))
    job = Status.read(run).job
    subprocess.run([*ask, job], check=True, timeout=PATIENCE)
    said = finish(process)
    assert process.returncode == 0, said
    assert losses(run) == losses(whole)
    ours, theirs = (load_file(each / "checkpoints" / "last" / "adapter_model.safetensors") for each in (run, whole))
    assert all((ours[key] == theirs[key]).all() for key in theirs)
    assert Status.read(run).restarts == json.loads((run / "run.json").read_text())["restarts"] == 1


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_two_ranks_learn_what_one_does(place, whole, launcher):
    where = CLUSTER if launcher == "slurm" else ("hydra/launcher=local",)
    name = f"ranks-{launcher}"
    process = begin(place, name, *where, "trainer.devices=2", "trainer.eval_steps=2", "trainer.num_train_epochs=4")
    said = finish(process)
    assert process.returncode == 0, said
    (run,) = runs(place, name)
    for ours, theirs in zip(losses(run), losses(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    assert sorted(path.name for path in (place / "outputs").iterdir()) == ["sweeps"]
