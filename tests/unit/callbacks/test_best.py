"""What `best` means, and what a resumed run does with the best of the run that it continues."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dvlm.augmentation.pipeline import Pipeline
from dvlm.callbacks.best import Best
from dvlm.callbacks.saving import Saving
from dvlm.callbacks.stopping import EarlyStopping
from dvlm.checkpoints import CheckpointStore
from dvlm.config import TrainerConfig
from dvlm.values import InputError

NAN = float("nan")


def improvements(values: list[float], **knobs: Any) -> list[bool]:
    best = Best(TrainerConfig(**knobs))
    return [best.improves({"eval/loss": value}, step) for step, value in enumerate(values, 1)]


def test_less_is_better_unless_more_is():
    assert improvements([3.0, 2.0, 2.0, 2.5, 1.0]) == [True, True, False, False, True]
    assert improvements([3.0, 2.0, 4.0], greater_is_better=True) == [True, False, True]


def test_what_is_not_finite_is_never_best_and_does_not_stay():
    assert improvements([NAN, 3.0, NAN, 2.0]) == [False, True, False, True]
    assert improvements([float("inf"), 3.0], greater_is_better=True) == [False, True]


def test_a_metric_that_is_not_logged():
    best = Best(TrainerConfig(metric_for_best_model="eval/kl_loss"))
    with pytest.raises(InputError, match="is eval/kl_loss, which is not logged; logged are eval/loss"):
        best.improves({"eval/loss": 1.0, "train/loss": 2.0}, 1)


def store_of(root: Path, *steps: int) -> CheckpointStore:
    store = CheckpointStore(root)
    for step in steps:
        with store.writing(step) as directory:
            (directory / "a.bin").write_text(str(step))
    return store


def trainer() -> Any:
    return SimpleNamespace(is_global_zero=True, strategy=SimpleNamespace(broadcast=lambda said: said))


def resumed(tmp_path: Path, best: int | None, at: int = 4) -> Saving:
    theirs = store_of(tmp_path / "theirs", 2, 4, 6)
    theirs.point("best", 6)
    saving = Saving(
        CheckpointStore(tmp_path / "ours"),
        TrainerConfig(),
        processor=None,
        prompts=None,
        canvas=Pipeline(),
        resumed=theirs.path(at),
    )
    saving.load_state_dict({"value": 1.0, "step": best})
    saving.on_fit_start(trainer(), None)
    return saving


def test_the_best_so_far_comes_along_not_the_best_to_come(tmp_path):
    saving = resumed(tmp_path, best=2)
    assert saving.store.steps() == [2]
    assert (saving.store.root / "best").resolve() == saving.store.path(2)
    assert saving.best.step == 2


def test_a_best_that_was_deleted_is_forgotten(tmp_path):
    saving = resumed(tmp_path, best=3)
    assert saving.best.value is None
    assert not (saving.store.root / "best").exists()


def test_without_a_best_nothing_comes_along(tmp_path):
    assert resumed(tmp_path, best=None).store.steps() == []


def test_a_run_with_nothing_left_to_do_has_the_checkpoint_that_it_continued(tmp_path):
    saving = resumed(tmp_path, best=2, at=6)
    saving.on_fit_end(trainer(), None)
    assert saving.store.steps() == [2, 6]
    assert (saving.store.root / "last").resolve() == saving.store.path(6)


def test_early_stopping_counts_validations_since_the_best():
    stopping = EarlyStopping(TrainerConfig(), patience=2)
    run = SimpleNamespace(global_step=0, should_stop=False)
    stops = []
    for step, loss in enumerate([9.0, 5.0, 6.0, 4.0, 4.5, 4.4]):
        run.global_step = step
        stopping.on_validation_end(run, SimpleNamespace(latest={"eval/loss": loss}))
        stops.append(run.should_stop)
    assert stops == [False, False, False, False, False, True]


def test_early_stopping_goes_on_counting_after_a_resume():
    stopping = EarlyStopping(TrainerConfig(), patience=2)
    run = SimpleNamespace(global_step=1, should_stop=False)
    for loss in (5.0, 6.0):
        stopping.on_validation_end(run, SimpleNamespace(latest={"eval/loss": loss}))
    again = EarlyStopping(TrainerConfig(), patience=2)
    again.load_state_dict(json.loads(json.dumps(stopping.state_dict())))
    again.on_train_start(run, None)
    assert not run.should_stop
    again.on_validation_end(run, SimpleNamespace(latest={"eval/loss": 5.5}))
    assert run.should_stop
    run.should_stop = False
    again.on_train_start(run, None)
    assert run.should_stop
