"""A run directory has one holder: the living refuse others, the dead are followed, a requeued job comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dvlm.durable import born
from dvlm.sweeps import lock, scheduler
from dvlm.sweeps.place import Place, slurm_job
from dvlm.sweeps.status import State, Status
from dvlm.values import InputError


@pytest.fixture
def here() -> Place:
    return Place.here({})


@pytest.fixture
def sleeper():
    """Another process of this machine."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def test_a_living_holder_is_named(here, sleeper, tmp_path):
    other = replace(here, pid=sleeper.pid, born=born(sleeper.pid))
    lock.claim(tmp_path, other)
    with pytest.raises(InputError, match=f"held by process {sleeper.pid} on {here.host} since 20"):
        lock.claim(tmp_path, here)
    assert lock.holder(tmp_path).place == other


def test_a_dead_holder_is_followed(here, sleeper, tmp_path):
    lock.claim(tmp_path, replace(here, pid=sleeper.pid, born=born(sleeper.pid)))
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has waited for it
    assert lock.holder(tmp_path) is None
    lock.claim(tmp_path, here)
    assert lock.holder(tmp_path).place == here


def test_a_process_that_got_an_old_number_is_not_its_predecessor(here, tmp_path):
    lock.claim(tmp_path, replace(here, born=here.born - 1))
    assert lock.holder(tmp_path) is None


def test_a_lock_ends_with_its_block(here, sleeper, tmp_path):
    with lock.held(tmp_path, here):
        assert lock.holder(tmp_path).place == here
    assert lock.holder(tmp_path) is None
    lock.claim(tmp_path, replace(here, pid=sleeper.pid, born=born(sleeper.pid)))


def test_a_holder_elsewhere_lives_as_long_as_its_signs_of_life(here, tmp_path):
    file = lock.claim(tmp_path, replace(here, host="elsewhere", boot="another"))
    assert lock.holder(tmp_path).place.host == "elsewhere"
    os.utime(file, (0, 0))
    assert lock.holder(tmp_path) is None


def test_a_requeued_job_takes_its_lock_again_and_no_other_job_does(here, tmp_path, monkeypatch):
    queue = {"7_3": "PENDING"}
    monkeypatch.setattr(scheduler, "states", lambda: queue)
    lock.claim(tmp_path, replace(here, host="login", boot="another", slurm="7_3"))
    with pytest.raises(InputError, match="held by SLURM job 7_3"):
        lock.claim(tmp_path, replace(here, slurm="8_3"))
    lock.claim(tmp_path, replace(here, slurm="7_3"))
    queue["7_3"] = "FAILED"
    lock.claim(tmp_path, replace(here, slurm="8_3"))


def test_one_of_many_at_the_same_moment_gets_it(here, tmp_path):
    def take(pid: int) -> bool:
        try:
            lock.claim(tmp_path, replace(here, boot="another", pid=pid))
        except InputError:
            return False
        return True

    lock.release(lock.claim(tmp_path, here))
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(take, range(8))) == 1


def test_a_run_that_nobody_holds_was_killed(here, tmp_path):
    Status(state=State.RUNNING, started="", step=4).write(tmp_path)
    with lock.held(tmp_path, here):
        assert lock.observed(tmp_path).state is State.RUNNING
    seen = lock.observed(tmp_path)
    assert (seen.state, seen.error) == (State.FAILED, "killed; last seen at step 4")
    Status(state=State.SUCCEEDED, started="").write(tmp_path)
    assert lock.observed(tmp_path).state is State.SUCCEEDED


def test_the_name_of_a_slurm_job_survives_a_requeue():
    array = {"SLURM_JOB_ID": "19", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "2"}
    assert slurm_job(array) == "17_2"
    assert slurm_job({"SLURM_JOB_ID": "19"}) == "19"
    assert slurm_job({}) is None
