"""A run that is resumed ends as the run that was never interrupted: weights, optimizer, logs, bit for bit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tiny_runs import GKD, Run, run, same

from dvlm.models.tiny import prepare
from dvlm.values import InputError

# Six steps over two epochs: validated at 2, 4 and 6, saved at every step.
SIX = (GKD, "trainer.num_train_epochs=2", "trainer.save_steps=1", "trainer.eval_steps=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("whole"), *SIX)


def assert_same_end(resumed: Run, whole: Run) -> None:
    ours, theirs = resumed.trainer_state(), whole.trainer_state()
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks"):
        same(ours[part], theirs[part], part)
    same(resumed.adapter(), whole.adapter())
    for prefix in ("train/", "eval/"):
        assert resumed.metrics(prefix) == whole.metrics(prefix)
    assert resumed.value == whole.value


@pytest.mark.parametrize(
    ("step", "workers"),
    [(1, 0), (2, 2), (3, 0), (4, 0)],
    ids=["mid-epoch", "validated-2-workers", "epoch-boundary", "second-epoch"],
)
def test_resume_from_a_checkpoint(whole, tmp_path, step, workers):
    resumed = run(tmp_path, *SIX, f"resume_from={whole.checkpoint(step)}", f"data.dataloader_num_workers={workers}")
    assert_same_end(resumed, whole)
    assert not resumed.checkpoint(1).exists() or step == 1


def test_resume_from_a_run_directory_takes_its_last_checkpoint(whole, tmp_path):
    stopped = tmp_path / "stopped"
    shutil.copytree(whole.directory, stopped, symlinks=True)
    for step in (4, 5, 6):
        shutil.rmtree(stopped / "checkpoints" / f"step-{step:06d}")
    for link, step in (("last", 3), ("best", 2)):
        (stopped / "checkpoints" / link).unlink()
        os.symlink(f"step-{step:06d}", stopped / "checkpoints" / link)
    resumed = run(tmp_path / "resumed", *SIX, f"resume_from={stopped}")
    assert_same_end(resumed, whole)
    assert resumed.steps() == [2, 4, 5, 6]


def test_resume_between_accumulated_steps(tmp_path):
    options = (
        GKD,
        "trainer.num_train_epochs=2",
        "data.packs_per_step=2",
        "trainer.save_steps=1",
        "trainer.eval_steps=2",
    )
    whole = run(tmp_path / "whole", *options)
    assert whole.steps() == [1, 2, 3]
    resumed = run(tmp_path / "resumed", *options, f"resume_from={whole.checkpoint(1)}")
    assert_same_end(resumed, whole)


def test_resume_with_dropout_continues_its_random_numbers(tmp_path):
    options = ("tuner.lora_dropout=0.2", "trainer.save_steps=1")
    whole = run(tmp_path / "whole", *options)
    assert_same_end(run(tmp_path / "resumed", *options, f"resume_from={whole.checkpoint(2)}"), whole)


def test_resume_of_full_tuning(tmp_path):
    options = (GKD, "tuner=full", "tuner.freeze_aligner=false", "trainer.save_steps=1", "optim.learning_rate=1e-4")
    whole = run(tmp_path / "whole", *options)
    resumed = run(tmp_path / "resumed", *options, f"resume_from={whole.checkpoint(1)}")
    same(resumed.trainer_state()["state_dict"], whole.trainer_state()["state_dict"])
    assert resumed.metrics("train/") == whole.metrics("train/")
    assert resumed.metrics("eval/") == whole.metrics("eval/")


def test_a_finished_run_resumed_stays_as_it_is(whole, tmp_path):
    again = run(tmp_path, *SIX, f"resume_from={whole.directory}")
    assert again.metrics("train/") == whole.metrics("train/")
    assert again.metrics("eval/") == whole.metrics("eval/")
    assert again.value == whole.value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tuner.freeze_aligner=false", "resume with the same tuner"),
        ("tuner.lora_rank=4", "another shape.*resume with the same tuner"),
        ("trainer.num_train_epochs=3", "of a run of 6 steps, this run has 9"),
        ("seed=18", "the packs of the first 2 steps are not those"),
    ],
)
def test_what_is_not_the_same_run_is_refused(whole, tmp_path, override, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, *SIX, f"resume_from={whole.checkpoint(2)}", override)


def test_another_base_model_is_refused(whole, cache, tmp_path):
    with pytest.raises(InputError, match="resume_from: .* was trained on .* not on"):
        run(tmp_path, *SIX, f"resume_from={whole.checkpoint(2)}", f"model.model={prepare(cache, seed=18)}")


def test_a_damaged_checkpoint_is_refused(whole, tmp_path):
    damaged = tmp_path / "step-000002"
    shutil.copytree(whole.checkpoint(2), damaged)
    weights = damaged / "trainer.ckpt"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"trainer\.ckpt is damaged"):
        run(tmp_path / "run", *SIX, f"resume_from={damaged}")


def test_nothing_to_resume_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="no checkpoint in"):
        run(tmp_path / "run", *SIX, f"resume_from={tmp_path}")
