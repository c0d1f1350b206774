"""Which checkpoints a run leaves behind. The distance from the base grows from step to step, so that less is better
makes the first validation the best, and more is better the last."""

from __future__ import annotations

from tiny_runs import GKD, Run, run

# Six steps, validated at 2, 4 and 6.
SIX = (GKD, "trainer.num_train_epochs=2", "trainer.eval_steps=2", "trainer.metric_for_best_model=eval/kl_loss")


def points_to(made: Run, name: str) -> str:
    return made.checkpoint(name).readlink().name


def test_step_and_best_saves_wait_for_the_delay(tmp_path):
    made = run(tmp_path, *SIX, "trainer.save_steps=1", "trainer.save_delay_steps=3")
    assert made.steps() == [3, 4, 5, 6]
    assert points_to(made, "best") == "step-000004"
    assert points_to(made, "last") == "step-000006"


def test_the_final_save_never_waits(tmp_path):
    made = run(tmp_path, *SIX, "trainer.save_steps=1", "trainer.save_delay_steps=7")
    assert made.steps() == [6]
    assert points_to(made, "last") == "step-000006"
    assert not made.checkpoint("best").exists()


def test_the_limit_keeps_the_best_and_the_last(tmp_path):
    made = run(tmp_path, *SIX, "trainer.save_steps=1", "trainer.save_total_limit=1")
    assert made.steps() == [2, 6]
    assert (points_to(made, "best"), points_to(made, "last")) == ("step-000002", "step-000006")


def test_more_may_be_better(tmp_path):
    made = run(tmp_path, *SIX, "trainer.save_total_limit=1", "trainer.greater_is_better=true")
    assert made.steps() == [6]
    assert (points_to(made, "best"), points_to(made, "last")) == ("step-000006", "step-000006")


def test_a_final_validation_may_be_the_best(tmp_path):
    """Validated at the start and at the end only: the last checkpoint is the best."""
    made = run(tmp_path, GKD, "trainer.metric_for_best_model=eval/loss")
    assert made.steps() == [3]
    assert points_to(made, "best") == "step-000003"


def test_early_stopping_stops_and_stays_stopped(tmp_path):
    """The best is at step 1: two validations later the run ends, also when it was resumed in between."""
    options = (*SIX, "trainer.eval_steps=1", "trainer.early_stopping_patience=2", "trainer.save_steps=1")
    stopped = run(tmp_path / "stopped", *options)
    assert sorted(stopped.metrics("train/")) == [0, 1, 2, 3]
    assert [line["step"] for line in stopped.log if "eval/loss" in line] == [0, 1, 2, 3]
    assert stopped.steps() == [1, 2, 3]
    for name in ("last", 2):
        again = run(tmp_path / f"from {name}", *options, f"resume_from={stopped.checkpoint(name)}")
        assert again.metrics("train/") == stopped.metrics("train/")
        assert again.metrics("eval/") == stopped.metrics("eval/")
        assert (again.steps()[-1], again.value) == (3, stopped.value)
