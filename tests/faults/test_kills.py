"""`kill -9` at random moments: no checkpoint is half there, nothing is left behind, the run ends as ever."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
import victims
from safetensors.torch import load_file
from tiny_runs import Run, same

from dvlm.checkpoints import TRAINER, CheckpointStore, fault, find, newest, saved_step

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A directory on another file system than `tmp_path`."""
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    place = Path(tempfile.mkdtemp(dir=SHARED_MEMORY))
    yield place
    shutil.rmtree(place)


def assert_sound(store: CheckpointStore, checkpoint: Path) -> None:
    """A checkpoint of `victims.save_forever` holds what was saved at its step."""
    assert fault(checkpoint) is None
    step = saved_step(checkpoint)
    for weights in (
        torch.load(checkpoint / TRAINER, weights_only=True)["state_dict"],
        load_file(checkpoint / "nested" / victims.WEIGHTS),
    ):
        assert weights
        assert all(bool((weight == step).all()) for weight in weights.values())


def test_a_save_loop_killed_a_hundred_times(start, tmp_path, elsewhere):
    store = CheckpointStore(tmp_path / "checkpoints")
    reached, interrupted, seconds = [0], 0, random.Random(17)
    for _ in range(100):
        ours, theirs = Pipe()
        victim = start(victims.save_forever, tmp_path, elsewhere, theirs)
        theirs.close()
        assert ours.poll(60), (tmp_path / "said.txt").read_text()
        first = ours.recv()  # it has cleaned, and goes on from there
        assert first >= reached[-1]
        time.sleep(seconds.uniform(0, 0.15))
        victim.kill()
        victim.join()
        interrupted += any(path.name.endswith(".tmp") for path in store.root.glob(".*"))
        # Before anything was cleaned: whatever has the name of a checkpoint is one, and the run can be resumed.
        for step in store.steps():
            assert_sound(store, store.path(step))
        if store.steps():
            reached.append(saved_step(find(str(tmp_path))))
            assert saved_step(newest(store.root)) == store.steps()[-1]
    store.clean()
    store.prune(2)
    assert all(not path.name.startswith(".") for path in store.root.iterdir())
    assert len(store.steps()) <= 3  # two, and the best
    assert not any(elsewhere.iterdir())
    assert interrupted > 20  # many were in the middle of something
    assert reached[-1] > 20


# Steps of two micro-batches whose answers student and teacher write by turns; everything is saved at each.
WRITTEN = (
    "rlhf=gkd",
    "rlhf.max_completion_length=8",
    "data.demo.train=12",
    "data.packs_per_step=2",
    "trainer.eval_steps=5",
    "trainer.save_steps=1",
    "trainer.save_total_limit=2",
    "tuner.init_lora_weights=false",
)


def said(made: Run) -> list[dict[str, float]]:
    """The log of a run, less how fast it was."""
    return [{name: value for name, value in line.items() if not name.startswith("perf/")} for line in made.log]


def test_a_run_killed_twenty_times_ends_as_if_it_had_not_been(start, tmp_path):
    options = (*WRITTEN, "trainer.num_train_epochs=10")
    whole = start(victims.train_in, tmp_path / "whole", options, log=tmp_path / "whole.txt")
    # Of 30 steps; a fast machine makes some of them before the last victim is dead.
    for step in sorted(random.Random(17).sample(range(23), 20)):
        victim = start(victims.train_until, tmp_path / "killed", options, step, 0.3)
        victim.join(120)
        assert victim.exitcode == -9, (tmp_path / "said.txt").read_text()[-3000:]
    last = start(victims.train_in, tmp_path / "killed", options)
    for process in (last, whole):
        process.join(300)
        assert process.exitcode == 0, (tmp_path / "said.txt").read_text()[-3000:]
    ours, theirs = Run(tmp_path / "killed", 0.0), Run(tmp_path / "whole", 0.0)
    mine, its = ours.trainer_state(), theirs.trainer_state()
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks"):
        same(mine[part], its[part], part)
    same(ours.adapter(), theirs.adapter())
    assert said(ours) == said(theirs)
    assert {line.get("train/on_policy") for line in ours.log} == {None, 0.0, 1.0}
    assert ours.steps() == theirs.steps()
    assert ours.checkpoint("best").readlink() == theirs.checkpoint("best").readlink()
    left = [path for path in (tmp_path / "killed").rglob(".*") if path.name.endswith(".tmp")]
    assert not left
