"""A rank that is killed, gets stuck or fails ends the job soon, and is named.

One process imports everything and forks two ranks for each case.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pair import PATHS, free_port

pytestmark = pytest.mark.slow

CASES = ("killed", "stuck", "failed")
TIMEOUT = 5.0


def misbehave(case: str) -> None:
    """What rank 1 does in its first step."""
    if case == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if case == "stuck":
        time.sleep(600)
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")


def rank(case: str, number: int, port: int, directory: Path) -> None:
    """One rank, in a forked process: it never returns."""
    from tiny_runs import run

    from dvlm.learning.module import SFTModule

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": case, "RANK": str(number), "LOCAL_RANK": str(number)}
    with (directory / f"{case}-{number}.txt").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    step = SFTModule.training_step

    def watched(module: SFTModule, *args: Any) -> Any:
        if module.trainer.global_step == 1:
            (directory / f"{case}.start").touch()
            if number == 1:
                misbehave(case)
        return step(module, *args)

    SFTModule.training_step = watched  # type: ignore[method-assign]
    options = ("trainer.devices=2", "data.packs_per_step=2", "trainer.accelerator=cpu", "trainer.eval_at_start=false")
    code = 1
    try:
        run(directory / case, *options, "data.demo.train=12", f"trainer.rank_timeout_s={TIMEOUT}")
        code = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        raise
    finally:
        os._exit(code)


def parent(directory: Path) -> None:
    """Fork both ranks of each case; write how they ended, and how long after the fault."""
    import tiny_runs  # noqa: F401

    torch.set_num_threads(1)
    for case in CASES:
        port, children = free_port(), []
        for number in range(2):
            child = os.fork()
            if not child:
                rank(case, number, port, directory)
            children.append(child)
        codes = {}
        while len(codes) < 2:
            child, status = os.wait()
            codes[children.index(child)] = os.waitstatus_to_exitcode(status)
        seconds = time.time() - (directory / f"{case}.start").stat().st_mtime
        (directory / f"{case}.end").write_text(f"{codes[0]} {codes[1]} {seconds}")


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("lost")
    code = f"import sys; sys.path[:0] = {PATHS!r}; import test_lost_ranks as t; t.parent(t.Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(directory)], start_new_session=True)
    try:
        assert process.wait(timeout=300) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return directory


@pytest.mark.parametrize("case", CASES)
def test_the_other_rank_ends_and_names_it(ended, case):
    codes = (ended / f"{case}.end").read_text().split()
    said = (ended / f"{case}-0.txt").read_text()
    assert int(codes[0]) != 0, said
    assert int(codes[1]) != 0
    assert float(codes[2]) < 30
    reason = {"killed": "is dead", "stuck": "is stuck: it has not moved for 5 s", "failed": "has failed: OutOfMemory"}
    assert "error: rank 1 (" in said
    assert reason[case] in said
    assert (case == "stuck") == ("test_lost_ranks.py" in said.partition("error: rank 1")[2])
