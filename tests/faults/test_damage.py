"""Every byte of a checkpoint counts: one that is flipped is found and named, and the checkpoint before is taken."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path

import pytest
import victims
from tiny_runs import GKD, Run

from dvlm.checkpoints import MANIFEST, TRAINER, CheckpointStore, find, newest
from dvlm.inference.source import resolve

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def flip(file: Path, position: int, bits: int) -> None:
    """Change the bits of one byte; the same again restores it."""
    content = bytearray(file.read_bytes())
    content[position] ^= bits
    file.write_bytes(content)


@pytest.fixture
def small(tmp_path) -> CheckpointStore:
    """Two checkpoints of a few hundred bytes, in shards."""
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    for step in (1, 2):
        with store.writing(step) as directory:
            for name in (*SHARDS, TRAINER):
                (directory / name).write_bytes(random.Random(f"{step}{name}").randbytes(120))
    return store


def test_every_byte_of_a_small_checkpoint(small, caplog):
    """With each bit of it, all of them, and one in lower case for upper case."""
    last = small.path(2)
    cases = 0
    for file in sorted(last.iterdir()):
        for position in range(file.stat().st_size):
            bits = (1 << position % 8, 0xFF, 0x20)[position % 3]
            flip(file, position, bits)
            assert find(str(small.root.parent)) == small.path(1), (file.name, position, bits)
            flip(file, position, bits)
            cases += 1
    assert cases > 700
    assert all(file.name in caplog.text for file in last.iterdir())
    assert find(str(small.root.parent)) == last


@pytest.fixture(scope="module")
def made(tmp_path_factory, _server) -> Path:
    """A run of three steps, each saved, the last one the best."""
    place = tmp_path_factory.mktemp("made")
    options = (GKD, "trainer.save_steps=1", "trainer.eval_steps=1")
    process = _server.Process(
        target=victims.live, args=(victims.train_in, place / "said.txt", (place / "run", options))
    )
    process.start()
    process.join(300)
    assert process.exitcode == 0, (place / "said.txt").read_text()
    return place / "run"


@pytest.fixture
def damaged(made, tmp_path) -> Run:
    """A copy of it, to be damaged."""
    shutil.copytree(made, tmp_path / "run", symlinks=True)
    return Run(tmp_path / "run", 0.0)


def test_sampled_bytes_of_a_real_checkpoint(damaged):
    last, draws = damaged.checkpoint(3), random.Random(17)
    for file in sorted(path for path in last.rglob("*") if path.is_file()):
        size = file.stat().st_size
        for position in {0, size - 1, *(draws.randrange(size) for _ in range(6))}:
            bits = draws.randrange(1, 256)
            flip(file, position, bits)
            assert newest(last.parent) == damaged.checkpoint(2), (file.name, position, bits)
            flip(file, position, bits)
    assert newest(last.parent) == last


@pytest.mark.parametrize("name", [TRAINER, MANIFEST, "adapter_model.safetensors"])
def test_whoever_picks_a_checkpoint_takes_the_one_before(damaged, caplog, name):
    """Resume by the command and by `resume_from`, an earlier stage's weights, export and inference."""
    flip(damaged.checkpoint(3) / name, 11, 4)
    before = damaged.checkpoint(2)
    with caplog.at_level(logging.WARNING):
        assert newest(damaged.directory / "checkpoints") == before
        assert find(str(damaged.directory)) == before
        assert find(str(damaged.directory), prefer=("best", "last")) == before
        assert resolve(str(damaged.directory), None).directory == before
    assert caplog.text.count(name) >= 4
    assert f"{before} is taken instead" in caplog.text


def test_a_run_goes_on_from_the_one_before(damaged, start, tmp_path, made):
    flip(damaged.checkpoint(3) / TRAINER, 1000, 1)
    process = start(victims.train_in, damaged.directory, (GKD, "trainer.save_steps=1", "trainer.eval_steps=1"))
    process.join(300)
    said = (tmp_path / "said.txt").read_text()
    assert process.exitcode == 0, said
    assert f"{TRAINER} is damaged: it is not what manifest.json says; {damaged.checkpoint(2)} is taken instead" in said
    whole = Run(made, 0.0)
    assert damaged.trainer_state()["state_dict"].keys() == whole.trainer_state()["state_dict"].keys()
    assert damaged.metrics("train/") == whole.metrics("train/")
    assert newest(damaged.directory / "checkpoints") == damaged.checkpoint(3)
