"""How far a sweep is, in one line."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from dvlm.reporting.progress import progress
from dvlm.sweeps import lock
from dvlm.sweeps.place import Place
from dvlm.sweeps.status import Job, State, Status, Sweep


def test_jobs_by_state_and_time_left(tmp_path):
    assert str(progress(tmp_path)) == "0/0 done"
    jobs = [Job(directory=name, overrides=[]) for name in ("a", "b", "c", "d", "e")]
    Sweep(name="x", command=[], created="", jobs=jobs).write(tmp_path)
    assert str(progress(tmp_path)) == "0/5 done, 5 waiting"
    now = datetime.now(UTC)
    started = (now - timedelta(minutes=10)).isoformat()
    Status(state=State.SUCCEEDED, started=started, ended=now.isoformat()).write(tmp_path / "a")
    Status(state=State.FAILED, started=started, ended=now.isoformat(), error="x").write(tmp_path / "b")
    assert progress(tmp_path).left is None, "nothing runs"
    Status(state=State.RUNNING, started=started, step=5, steps=10).write(tmp_path / "c")
    with lock.held(tmp_path / "c", Place.here(os.environ)):
        found = progress(tmp_path)
    assert found.left == pytest.approx(2.5 * 600, rel=0.01), "half a job and two more, at ten minutes each"
    assert str(found) == "1/5 done, 1 running, 1 failed, 2 waiting, 25:00 left"
    assert progress(tmp_path).states["failed"] == 2, "what says it runs and is held by nobody was killed"
