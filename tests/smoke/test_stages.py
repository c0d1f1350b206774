"""Stage after stage: a run that starts from the weights of an earlier one."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import GKD, run

ALIGNER = ("tuner.freeze_llm=true", "tuner.freeze_aligner=false")
BOTH = ("tuner.freeze_aligner=false",)


@pytest.mark.parametrize("whole", [(), ("tuner.modules_to_save=[aligner]",)], ids=["lora", "aligner-whole"])
def test_stage_two_starts_where_stage_one_ended(tmp_path, whole):
    """And its teacher is still the base: the divergence starts above 0, which is no fault here."""
    no_adapters = ("tuner.target_regex='^$'",) if whole else ()
    first = run(tmp_path / "1", *ALIGNER, *whole, *no_adapters, "optim.learning_rate=0.02")
    second = run(tmp_path / "2", GKD, *BOTH, *whole, f"tuner.resume_from_checkpoint={first.directory}")
    ended, started = first.metrics("eval/")[3], second.metrics("eval/")[0]
    assert started["eval/sft_loss"] == pytest.approx(ended["eval/sft_loss"], rel=1e-6)
    assert second.metrics("train/")[0]["train/kl_loss_at_start"] > 1e-6
    assert {"lr/llm", "lr/aligner"} <= set(second.metrics("train/")[1])
    aligner = [name for name in second.adapter() if "merger" in name]
    assert len(aligner) == len(first.adapter())
    assert not torch.equal(second.adapter()[aligner[0]], first.adapter()[aligner[0]])
