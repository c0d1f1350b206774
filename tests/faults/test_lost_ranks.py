"""A rank that is killed, gets stuck or fails ends the job soon, and is named."""

from __future__ import annotations

import time

import pytest
import victims
from pair import free_port

TIMEOUT = 4.0
REASONS = {
    "killed": "is dead",
    "stuck": f"is stuck: it has not moved for {TIMEOUT:g} s",
    "failed": "has failed: OutOfMemory",
}


@pytest.mark.parametrize(
    "case", ["killed", pytest.param("stuck", marks=pytest.mark.slow), pytest.param("failed", marks=pytest.mark.slow)]
)
def test_the_other_rank_ends_and_names_it(start, tmp_path, case):
    port = free_port()
    ranks = [
        start(victims.train_to_a_fault, tmp_path, case, number, port, TIMEOUT, log=tmp_path / f"{number}.txt")
        for number in range(2)
    ]
    ranks[0].join(300)
    ended = time.time()
    ranks[1].join(60)
    said = (tmp_path / "0.txt").read_text()
    assert [bool(rank.exitcode) for rank in ranks] == [True, True], said
    assert ended - (tmp_path / "fault").stat().st_mtime < 30
    assert "error: rank 1 (" in said
    assert REASONS[case] in said
    assert (case == "stuck") == ("victims.py" in said.partition("error: rank 1")[2])


@pytest.mark.slow
def test_a_disk_that_is_full_for_the_first_rank(start, small_disk, tmp_path):
    """Under FSDP: rank 1 waits for rank 0, which writes what both hold."""
    disk, port = small_disk("300k"), free_port()
    options = ("trainer.strategy=fsdp", f"trainer.rank_timeout_s={TIMEOUT}")
    ranks = [
        start(victims.train_as_rank, disk, number, port, options, log=tmp_path / f"{number}.txt") for number in range(2)
    ]
    for rank in ranks:
        rank.join(300)
    said = [(tmp_path / f"{number}.txt").read_text() for number in range(2)]
    assert [bool(rank.exitcode) for rank in ranks] == [True, True], said
    assert "DiskError: the checkpoint of step 1 cannot be saved: No space left on device" in said[0]
    assert "error: rank 0 (" in said[1]
    assert "has failed: DiskError: the checkpoint of step 1 cannot be saved" in said[1]
    assert [path.name for path in (disk / "run" / "checkpoints").iterdir()] == []
