"""An out-of-memory error names the pack, its size, what to turn and what tells what fits."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from support import small_config
from tiny_runs import SHORT, run

from dvlm.callbacks.step_log import StepLog
from dvlm.config.job import Job
from dvlm.train import train
from dvlm.values import InputError

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB.\nmore of it"


@pytest.mark.parametrize(
    ("hook", "where"),
    [
        ("on_validation_batch_end", r"validation after step 0, pack 0 of \d+ tokens, [12] images of \d+ patches"),
        ("on_after_backward", r"step 2, pack 1 of \d+ tokens, [12] images of \d+ patches"),
    ],
)
def test_it_names_the_pack_and_the_levers(monkeypatch, tmp_path, hook, where):
    def full(self: Any, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 1 or "validation" in hook:
            raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(StepLog, hook, full)
    with pytest.raises(InputError, match=where) as found:
        run(tmp_path)
    said = str(found.value)
    assert "CUDA out of memory. Tried to allocate 2.00 GiB." in said
    assert "more of it" not in said
    for lever in ("global_max_length (512)", "data.max_pixels (16384)", "gradient_checkpointing=true", "trainer=fsdp"):
        assert lever in said
    assert said.endswith("python -m dvlm.estimate")


def test_the_estimate_is_that_of_the_job_and_not_of_its_sweep(monkeypatch, tmp_path):
    """On a CPU it is torch's allocator that runs out."""

    def full(self: Any, *_: Any) -> None:
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(StepLog, "on_after_backward", full)
    job = Job(overrides=("tuner=dora", "+sweep=gkd_grid", "rlhf.beta=0.1"))
    with pytest.raises(InputError, match="rank 0 is out of memory .step 1, pack 0") as found:
        train(small_config(*SHORT, "trainer.eval_at_start=false"), tmp_path, job)
    assert str(found.value).endswith("python -m dvlm.estimate tuner=dora rlhf.beta=0.1")


def test_levers_that_are_turned_are_not_named(monkeypatch, tmp_path):
    def full(self: Any, *_: Any) -> None:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(StepLog, "on_after_backward", full)
    with pytest.raises(InputError) as found:
        run(tmp_path, "trainer.gradient_checkpointing=true", "trainer.eval_at_start=false")
    assert "gradient_checkpointing" not in str(found.value)
