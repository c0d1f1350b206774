"""Runs that learn from answers written on the way: what is logged, resume to the bit, and validation as ever."""

from __future__ import annotations

import pytest
from support import small_config
from test_resume import assert_same_end
from tiny_runs import Run, run

from dvlm.data import rewrite
from dvlm.learning.origin import Origin, origin_of
from dvlm.values import InputError

# Six steps of two micro-batches; the adapters do not start at zero, so that student and teacher differ.
OPTIONS = (
    "rlhf=gkd",
    "rlhf.max_completion_length=8",
    "data.demo.train=12",
    "data.packs_per_step=2",
    "trainer.num_train_epochs=2",
    "trainer.eval_steps=3",
    "trainer.save_steps=1",
    "tuner.init_lora_weights=false",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("whole"), *OPTIONS)


def origins(of: Run) -> list[Origin]:
    """Who wrote the answers of each step, as the log tells it."""
    return [
        Origin.STUDENT if values["train/on_policy"] else Origin.TEACHER
        for values in of.metrics("train/").values()
        if "train/on_policy" in values
    ]


def test_the_log_says_who_wrote(whole):
    config = small_config(*OPTIONS)
    found = origins(whole)
    assert found == [origin_of(step, config.rlhf, config.seed) for step in range(len(found))]
    assert set(found) == {Origin.STUDENT, Origin.TEACHER}


def test_cross_entropy_is_for_the_answers_of_the_teacher(whole):
    steps = [values for values in whole.metrics("train/").values() if "train/on_policy" in values]
    for values in steps:
        assert ("train/sft_loss" in values) == (not values["train/on_policy"])
        assert values["train/kl_loss"] > 0
        expected = 0.5 * values["train/kl_loss"] + 0.3 * values.get("train/sft_loss", 0.0)
        assert values["train/loss"] == pytest.approx(expected, rel=1e-5)
        assert values["train/grad_norm"] > 0


def test_completions_are_counted(whole):
    for values in whole.metrics("train/").values():
        if "train/on_policy" in values:
            assert 0 < values["train/completion_length"] <= 8
            assert 0 <= values["train/truncated"] <= 1
            assert 0 <= values["train/empty"] <= 1


@pytest.mark.parametrize("step", [1, 3])
def test_resume_is_exact(whole, tmp_path, step):
    assert_same_end(run(tmp_path, *OPTIONS, f"resume_from={whole.checkpoint(step)}"), whole)


def test_validation_is_on_the_data_whoever_writes(tmp_path):
    """With a student that does not move: neither lmbda nor the step changes a metric of the validation."""
    still = (
        *OPTIONS[2:],
        "optim.learning_rate=1e-30",
        "optim.lr_scheduler_kwargs.min_lr=0",
        "trainer.max_steps=2",
        "trainer.eval_steps=1",
        "trainer.save_steps=null",
    )
    runs = [
        run(tmp_path / "forward", "rlhf=gkd_forward", "rlhf.beta=0.5", "rlhf.sft_alpha=0.3", *still),
        run(tmp_path / "written", *OPTIONS[:2], *still),
    ]
    validations = [values for made in runs for values in made.metrics("eval/").values()]
    assert len(validations) == 6
    assert all(values["eval/kl_loss"] > 0 for values in validations)
    first, *others = [{k: v for k, v in values.items() if k.startswith("eval/")} for values in validations]
    assert all(other == first for other in others)


def test_a_step_whose_answers_fill_several_batches(tmp_path, monkeypatch):
    """Laid out one sample a batch, a step has the gradient that it has in one batch, and leaves none to the next."""
    options = (*OPTIONS[:2], "tuner.init_lora_weights=false", "trainer.max_steps=3", "trainer.eval_at_start=false")
    together = run(tmp_path / "together", *options)
    monkeypatch.setattr(rewrite, "fewest", lambda lengths, indices, most: [[int(index)] for index in indices])
    apart = run(tmp_path / "apart", *options)
    for step, values in together.metrics("train/").items():
        assert apart.metrics("train/")[step] == pytest.approx(values, rel=1e-3), step
    assert [values["train/on_policy"] for step, values in together.metrics("train/").items() if step] == [1.0] * 3


@pytest.mark.parametrize("preset", ["gkd_trl", "gkd_swift"])
def test_a_student_that_is_its_teacher_and_has_no_other_aim_is_refused(tmp_path, preset):
    with pytest.raises(InputError, match="no weight would ever change; name another model as rlhf.teacher_model"):
        run(tmp_path, f"rlhf={preset}")
