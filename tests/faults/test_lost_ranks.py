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
        start(victims.train_as_rank, tmp_path, case, number, port, TIMEOUT, log=tmp_path / f"{number}.txt")
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
