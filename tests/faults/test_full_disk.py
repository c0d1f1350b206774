"""A full disk is one clear error: the checkpoint before is whole, nothing is left of the new one, and a run goes on
once there is space. What a run can do without costs a warning. The disks are real, and full."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import victims
from support import CACHE, small_config
from tiny_runs import GKD, SHORT, Run

from dvlm import run
from dvlm.callbacks.jsonl_logger import JsonlLogger
from dvlm.checkpoints import CheckpointStore, fault
from dvlm.data import lengths
from dvlm.dumps import Dumps
from dvlm.durable import refusal
from dvlm.learning.state_store import StateStore
from dvlm.sweeps.status import State, Status

# Full tuning: a checkpoint has 13 MB. Six steps, each saved.
FULL = (*SHORT, GKD, "tuner=full", "tuner.freeze_aligner=false", "trainer.num_train_epochs=2", "trainer.save_steps=1")
QUIET = ("callbacks.sample_pictures=0", "callbacks.progress=none", "logger=none")


def fill(directory: Path, *, leave: int = 0) -> None:
    """Leave so many bytes of the file system of `directory`."""
    with (directory / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    os.truncate(file.name, os.path.getsize(file.name) - leave)


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*"))


def test_a_run_whose_disk_becomes_full_and_is_given_space(start, small_disk, tmp_path):
    directory = small_disk("60m") / "run"
    command = (*FULL, *QUIET, f"cache_dir={CACHE}", f"hydra.run.dir={directory}")
    first = start(victims.train_command, *command)
    first.join(300)
    said = (tmp_path / "said.txt").read_text()
    assert first.exitcode == 2, said
    error = said[said.index("error: ") :]
    saved = Run(directory, 0.0).steps()
    assert f"error: the checkpoint of step {saved[-1] + 1} cannot be saved: No space left on device" in error
    assert f"step-{saved[-1]:06d} before it is untouched; free space" in error
    assert "Traceback" not in said
    store = CheckpointStore(directory / "checkpoints")
    assert len(saved) >= 2
    assert [fault(store.path(step)) for step in saved] == [None] * len(saved)
    assert sorted(path.name for path in store.root.iterdir()) == ["last", *(store.path(step).name for step in saved)]
    status = Status.read(directory)
    assert status.state is State.FAILED
    assert "No space left on device" in status.error
    small_disk("200m")
    second = start(victims.train_command, *command, log=tmp_path / "again.txt")
    second.join(300)
    assert second.exitcode == 0, (tmp_path / "again.txt").read_text()
    assert Run(directory, 0.0).steps() == [1, 2, 3, 4, 5, 6]
    assert Status.read(directory).state is State.SUCCEEDED


@pytest.fixture
def full(small_disk) -> Path:
    """A directory on a disk that takes nothing more; `status.json` is there already."""
    place = small_disk("1m")
    Status(state=State.RUNNING, started="now").write(place)
    (place / "logging.jsonl").touch()
    fill(place)
    return place


def test_what_a_run_must_write_is_named(full):
    before = entries(full)
    config = small_config()
    for name, write in {
        "config.yaml": lambda: run.write_config(full, config),
        "run.json": lambda: run.describe(full, config, {"plan": "x" * 10_000}),
        "logging.jsonl": lambda: JsonlLogger(full).log_metrics({"train/loss": 1.0}, 1),
        "status.json": lambda: Status(state=State.FAILED, started="now").write(full),
    }.items():
        with pytest.raises(OSError, match="No space left on device") as caught:
            write()
        assert refusal(caught.value).startswith("No space left on device: ")
        assert name in refusal(caught.value) or name == "run.json"
    assert entries(full) == before
    assert Status.read(full).state is State.RUNNING


def test_what_a_run_can_do_without_costs_a_warning(full, caplog):
    before = entries(full)
    with caplog.at_level(logging.WARNING):
        Status.update(full, step=3)
        lengths._keep(full / "lengths" / "epoch-0000.bin", np.zeros((1000, 2), np.int64))
    assert "status.json cannot be written" in caplog.text
    assert "epoch-0000.bin cannot be written, and the next run measures again" in caplog.text
    with pytest.warns(UserWarning, match="cannot be written, going on without it: .*No space left on device"):
        StateStore(full / "teacher", 10**9).write("a/bcd", torch.zeros(100, 100))
    module = SimpleNamespace(named_parameters=lambda: [("weight", torch.nn.Parameter(torch.zeros(10)))])
    plan = SimpleNamespace(packs=[], packs_per_step=1)
    dumps = Dumps(full / "dumps", small_config(), SimpleNamespace(train_plan=plan))
    assert "(no dump: " in dumps.dump(module, 1, "train/loss is nan", {"train/loss": 1.0})
    assert [name for name in entries(full) if name.endswith((".tmp", ".bin", ".safetensors"))] == []
    assert set(before) <= set(entries(full))


def test_a_log_that_was_cut_off_by_a_full_disk_is_read_again(full):
    os.truncate(full / "filling", 0)
    log, lines = JsonlLogger(full), itertools.count()
    fill(full, leave=4096)

    def until_it_is_full() -> None:
        while True:
            log.log_metrics({"train/loss": 0.5, "note": "x" * 300}, next(lines))

    with pytest.raises(OSError, match="No space left on device"):
        until_it_is_full()
    os.truncate(full / "filling", 0)
    JsonlLogger(full, (full, 10**6))
    assert len((full / "logging.jsonl").read_text().splitlines()) == next(lines) - 1 > 5
