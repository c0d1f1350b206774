"""Status of a run and list of a sweep's jobs: what was written is read back, and only whole files are seen."""

from __future__ import annotations

import json

from dvlm.sweeps.status import Job, State, Status, Sweep


def test_a_status_is_read_back(tmp_path):
    status = Status(state=State.FAILED, started="2030-01-01T00:00:00+00:00", error="ValueError: 值", step=3, steps=9)
    status.write(tmp_path / "run")
    assert Status.read(tmp_path / "run") == status
    assert json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))["state"] == "failed"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["status.json"]


def test_a_run_that_never_started_has_no_status(tmp_path):
    assert Status.read(tmp_path / "run") is None
    assert Sweep.read(tmp_path) is None


def test_a_sweep_keeps_its_jobs_and_takes_new_ones(tmp_path):
    first, second = (Job(directory=f"beta-{n}", overrides=[f"rlhf.beta={n}"]) for n in (1, 2))
    begun = Sweep.extend(tmp_path / "grid", command=["a"], jobs=[first])
    grown = Sweep.extend(tmp_path / "grid", command=["b"], jobs=[second, first])
    assert grown == Sweep(name="grid", command=["a"], created=begun.created, jobs=[first, second])
    assert Sweep.read(tmp_path / "grid") == grown
